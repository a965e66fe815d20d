"""The report and the figures of `dsd bench`: `python -m experiments.bench [FILE.json]`, beside it; by default experiments/bench/results.json.

The figures: speed-up of the nine layers at batch 1 beside the published ones, and where sparsity pays over density and batch.
Nothing is measured here. To measure again: `dsd bench -o experiments/bench/results.json`, on a machine that is quiet.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from dsd.inference.bench import picked
from dsd.inference.published import speedup
from dsd.inference.report import sentences, tables
from dsd.inference.session import read
from dsd.results.figures import COLOURS, INK, Figure, style, to_svg
from dsd.results.store import atomic_write

HERE = Path(__file__).parent / "bench"


def gains(result: Mapping[str, Any]) -> Figure:
    """Gain over the faster dense arm, a group of bars a layer, batch 1 and 64, the papers' CPU beside."""
    batches = [batch for batch in (1, 64) if any(row["batch"] == batch for row in result["layers"])]
    with mpl.rc_context(style("bench-gains")):
        canvas = Canvas(figsize=(9.5, 3.2 * len(batches)), layout="constrained")
        for axes, batch in zip(canvas.subplots(len(batches), 1, squeeze=False)[:, 0], batches, strict=True):
            rows = {row["layer"]: row["arms"] for row in result["layers"] if row["batch"] == batch}
            bars = {
                "NumPy": COLOURS[5],
                "sparse": COLOURS[0],
                "codebook": COLOURS[2],
                "CSR int64": COLOURS[4],
                "SciPy": COLOURS[3],
                "GraphBLAS": COLOURS[1],
            }
            bars = {arm: colour for arm, colour in bars.items() if all(arm in arms for arms in rows.values())}
            width = 0.8 / len(bars)
            for number, (arm, colour) in enumerate(bars.items()):
                peer = [min(a[d]["median"] for d in ("dense", "compiled") if d in a) for a in rows.values()]
                height = [p / a[arm]["median"] for p, a in zip(peer, rows.values(), strict=True)]
                place = [k + width * (number - (len(bars) - 1) / 2) for k in range(len(rows))]
                axes.bar(place, height, 0.95 * width, color=colour, label="NumPy, dense" if arm == "NumPy" else arm)
            paper = [speedup("Core i7-5930K", batch, name) for name in rows]
            axes.plot(range(len(rows)), paper, "D", mfc="none", mec=INK, label="published, Core i7")
            axes.axhline(1, color=INK, lw=0.8)
            axes.set_xticks(range(len(rows)), [name.replace(" ", "\n", 1) for name in rows])
            axes.set(yscale="log", ylabel="times faster than dense", title=f"batch {batch}")
            axes.set_yticks([0.25, 0.5, 1, 2, 5, 10, 20], ["¼", "½", "1", "2", "5", "10", "20"])
            axes.minorticks_off()
            axes.legend(ncols=len(bars) + 1, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18))
        svg = to_svg(canvas)
    return Figure("gains", "Speed-up over dense", svg, "")


def crossover(result: Mapping[str, Any]) -> Figure:
    """Colour: dense time over sparse time; the line is where they are equal."""
    panels = [("linear", "sparse"), ("linear", "coded"), ("convolution", "sparse"), ("pointwise", "sparse")]
    panels = [(kind, form) for kind, form in panels if any(c["kind"] == kind for c in result["crossover"]["cells"])]
    with mpl.rc_context(style("bench-crossover")):
        canvas = Canvas(figsize=(10.5, 3.6), layout="constrained")
        for axes, (kind, form) in zip(
            canvas.subplots(1, len(panels), width_ratios=(4, 4, 1.6, 1.6)[: len(panels)]), panels, strict=True
        ):
            cells = [cell for cell in result["crossover"]["cells"] if cell["kind"] == kind]
            batches = sorted({cell["batch"] for cell in cells})
            kept = sorted({cell["density"] for cell in cells})
            gain = {(c["density"], c["batch"]): c["dense"] / c[form] for c in cells}
            image = [[gain[d, b] for b in batches] for d in kept]
            norm = mpl.colors.LogNorm(1 / 16, 16)
            axes.imshow(image, origin="lower", aspect="auto", cmap="RdBu", norm=norm)
            for y, row in enumerate(image):
                for x, value in enumerate(row):
                    text = f"{value:.1f}" if value < 10 else f"{value:.0f}"
                    axes.text(
                        x, y, text, ha="center", va="center", fontsize=7, color="#111" if 1 / 6 < value < 6 else "#fff"
                    )
            axes.set_xticks(range(len(batches)), batches)
            axes.set_yticks(range(len(kept)), [f"{100 * d:.0f} %" for d in kept])
            name = {"sparse": "compressed rows", "coded": "codebook"}[form]
            what = {"linear": "matrix", "convolution": "3x3 convolution", "pointwise": "1x1 convolution"}[kind]
            axes.set(xlabel="batch", title=f"{what},\n{name}")
        canvas.axes[0].set_ylabel("weights kept")
        svg = to_svg(canvas)
    return Figure("crossover", "Dense time over sparse time", svg, "")


def report(result: Mapping[str, Any]) -> str:
    """All tables and sentences in Markdown."""
    lines = [
        "# Where sparsity pays", "",
        "`dsd bench -o experiments/bench/results.json`, then `python -m experiments.bench`. Weights are drawn at the published densities;",
        "no network here is trained, and no accuracy is meant.", "", *[f"- {line}" for line in sentences(result)], "",
    ]  # fmt: skip
    lines += [table.markdown() for table in tables(result)]
    if {row["batch"] for row in result.get("layers", ())} >= {1, 64}:
        lines += ["![speed-up over dense of the nine layers](gains.svg)", ""]
    if "crossover" in result:
        lines += ["![dense time over sparse time by density and batch](crossover.svg)", ""]
    return "\n".join(lines)


def short(result: Mapping[str, Any]) -> str:
    """The README's table: gain over torch's faster dense arm by layer, and with one input over NumPy's."""
    rows: dict[str, dict[int, Any]] = {}
    for row in result["layers"]:
        rows.setdefault(row["layer"], {})[row["batch"]] = row
    head = "| layer, kept | batch 1 | over NumPy | codebook | SciPy | CSR int64 | published: i7, Titan X | bandwidth | batch 8 | batch 64 | published: i7, Titan X |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|---|---|"]
    for name, by in rows.items():
        cells = {arm: f"{_gain(by[1], arm):.1f}x" for arm in ("sparse", "codebook", "SciPy", "CSR int64")}
        papers = {b: f"{speedup('Core i7-5930K', b, name):.1f}x, {speedup('Titan X', b, name):.1f}x" for b in (1, 64)}
        lines.append(
            f"| {name}, {100 * by[1]['density']:.0f} % | **{cells['sparse']}** | {by[1]['arms']['NumPy']['median'] / by[1]['arms']['sparse']['median']:.1f}x | {cells['codebook']} | {cells['SciPy']} | {cells['CSR int64']} | "
            f"{papers[1]} | {100 * by[1]['arms']['sparse']['share']:.0f} % | {_gain(by[8], picked(by[8])):.1f}x | {_gain(by[64], picked(by[64])):.1f}x | {papers[64]} |"
        )
    return "\n".join(lines)


def _gain(row: Mapping[str, Any], arm: str) -> float:
    arms = row["arms"]
    return float(min(arms[name]["median"] for name in ("dense", "compiled") if name in arms) / arms[arm]["median"])


def main(words: list[str]) -> None:
    path = Path(words[0]) if words else HERE / "results.json"
    try:
        result = read(path)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    measured = {row["batch"] for row in result.get("layers", ())}
    atomic_write(path.parent / "report.md", report(result))
    if measured >= {1, 64}:
        atomic_write(path.parent / "gains.svg", gains(result).file)
    if "crossover" in result:
        atomic_write(path.parent / "crossover.svg", crossover(result).file)
    print(short(result) if measured >= {1, 8, 64} else "the README's table needs the layers at batch 1, 8 and 64")


if __name__ == "__main__":
    main(sys.argv[1:])
