"""The report and the figures of `python -m experiments.pretrained`, from its results alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from dsd.results.figures import COLOURS, FAINT, Figure, style, to_svg
from dsd.results.statistics import holm
from dsd.results.store import atomic_write
from experiments.evaluation import NETWORKS, Change

if TYPE_CHECKING:
    from experiments.pretrained import Point

Plan = Mapping[str, Sequence["Point"]]
Found = tuple["Point", Mapping[str, Any], Mapping[str, Any]]  # with its row and its evaluation
INITIAL = ("linear", "density", "Forgy")
FIGURE_8 = {  # Deep Compression, Fig. 8: AlexNet's top-1 in %, digitised +-0.1 (PROTOCOLS 3)
    "linear": {3: 54.0, 4: 57.05, 5: 57.15, 6: 57.2, 7: 57.2, 8: 57.25},
    "density": {3: 54.5, 4: 56.65, 5: 56.8, 6: 56.3, 7: 56.4, 8: 56.6},
    "Forgy": {3: 51.7, 4: 55.25, 5: 56.3, 6: 56.75, 7: 56.6, 8: 56.7},
}
NOTES = {
    "efficientnet_lite0": "Trained by its authors, not pruned; float32 in the package that ships it. Images: the inner 224 x 224 of the 227 x 227 at hand.",
    "squeezenet": "As the authors of Deep Compression published it: a third of its weights kept, at most 255 values a layer (more in "
    "[its own report](../squeezenet/report.md)). So 8 bits change nothing; a layer that has a sparsity already loses nothing by it.",
}
ORDER = ("k-means, linear", "pruned", "uniform", "pruned, k-means", "k-means, density", "k-means, Forgy")
MARKS = "ovs*D^"
ALPHA, CLOSE = 0.05, 1.0  # points of top-1 that "close" allows


def curve(point: Point) -> str:
    """Which line of the figure a point belongs to."""
    return f"k-means, {point.init}" if point.arm == "k-means" else point.arm


def found(name: str, results: Mapping[str, Any], plan: Plan) -> list[Found]:
    """What has been evaluated of a network, in the order of the plan."""
    rows = {_key(row): row for row in results["networks"].get(name, {}).get("rows", [])}
    seen = results["evaluations"]
    return [
        (point, rows[key], seen[rows[key]["sha256"]])
        for point in plan[name]
        if (key := (point.arm, point.bits, point.sparsity, point.init)) in rows and rows[key]["sha256"] in seen
    ]


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["arm"], row["bits"], row["sparsity"], row["init"]


def missing(name: str, results: Mapping[str, Any], plan: Plan) -> str:
    """Which points have not been evaluated, in one sentence; empty if none is."""
    there = {point for point, _, _ in found(name, results, plan)}
    lacking: dict[str, list[Point]] = {}
    for point in plan[name]:
        if point not in there:
            lacking.setdefault(curve(point), []).append(point)
    if not lacking:
        return ""
    which = "; ".join(f"{line}{_some(points)}" for line, points in lacking.items())
    n = sum(map(len, lacking.values()))
    return f"**Not evaluated yet: {n} of {len(plan[name])} points**: {which}. `python -m experiments.pretrained {name}` goes on."


def _some(points: Sequence[Point]) -> str:
    sparsities = {f"{p.sparsity:g}": [str(q.bits) for q in points if q.sparsity == p.sparsity and q.bits] for p in points if p.sparsity is not None}  # fmt: skip
    bits = [str(p.bits) for p in points if p.sparsity is None and p.bits]
    parts = [f"{sparsity} at {', '.join(own)} bits" if own else sparsity for sparsity, own in sparsities.items()]
    parts += [f"{', '.join(bits)} bits"] if bits else []
    return f" ({', '.join(parts)})" if parts else ""


def _what(point: Point) -> str:
    parts = [f"{point.sparsity:g}" if point.sparsity is not None else "", f"{point.bits} bits" if point.bits else ""]
    return " at ".join(part for part in parts if part)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown: words to the left, numbers to the right."""
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def points_table(own: Sequence[Found], fp32: int) -> str:
    """All points of a network beside its unchanged weights."""
    first, base = own[0][1]["sha256"], own[0][2]
    changes = {row["sha256"]: Change.of(base, seen) for _, row, seen in own if row["sha256"] != first}
    adjusted = holm({key: change.p for key, change in changes.items()}) if changes else {}
    heads = ["weights", "sparsity", "bits", "file bytes", "ratio", "top-1 %", "top-5 %", "won, lost", "top-1 changed by", "p"]  # fmt: skip
    lines = []
    for point, row, seen in own:
        change, p = changes.get(row["sha256"]), adjusted.get(row["sha256"])
        lines.append([
            curve(point), "–" if point.sparsity is None else f"{point.sparsity:g}", str(point.bits or "–"), f"{row['bytes']:,}",
            f"{fp32 / row['bytes']:.1f}x", f"{seen['top1']:.2f}", f"{seen['top5']:.2f}",
            *(["–"] * 3 if change is None or p is None else [f"+{change.won}, -{change.lost}", f"{change.difference:+.2f} ± {change.half:.2f}", _p(p)]),
        ])  # fmt: skip
    return table(heads, lines)


def _p(p: float) -> str:
    text = "< 0.001" if p < 0.001 else f"{p:.3f}"
    return f"**{text}**" if p < ALPHA else text


def smallest(own: Sequence[Found]) -> str:
    """The smallest file of each line that loses at most a point, as measured."""
    base = own[0][2]["top1"]
    lines: dict[str, list[Found]] = {}
    for one in own[1:]:
        lines.setdefault(curve(one[0]), []).append(one)
    rows = []
    for name, points in lines.items():
        close = [one for one in points if one[2]["top1"] >= base - CLOSE]
        best = min(close, key=lambda one: int(one[1]["bytes"]), default=None)
        rows.append([name, *(["none", "–", "–"] if best is None else [_what(best[0]), f"{best[1]['bytes']:,}", f"{best[2]['top1']:.2f}"])])  # fmt: skip
    return table([f"at most {CLOSE:g} point lost", "smallest at", "bytes", "top-1 %"], rows)


def initial_table(results: Mapping[str, Any], plan: Plan) -> str:
    """Top-1 by bits and initial centroids, with McNemar's p of linear against the two others; the paper's beside."""
    heads = ["network", "bits", *INITIAL, "linear - density, p", "linear - Forgy, p"]
    lines = []
    for name in plan:
        curves = by_initial(name, results, plan)
        for bits in sorted({b for own in curves.values() for b in own}, reverse=True):
            seen = {init: curves.get(init, {}).get(bits) for init in INITIAL}
            against = []
            for init in ("density", "Forgy"):
                one, other = seen["linear"], seen[init]
                change = None if one is None or other is None else Change.of(other, one)
                against.append(
                    "–" if change is None else f"{change.difference:+.2f} ± {change.half:.2f}, {_p(change.p)}"
                )
            lines.append([NETWORKS[name].title, str(bits), *(f"{s['top1']:.2f}" if s else "–" for s in seen.values()), *against])  # fmt: skip
    for bits in sorted(FIGURE_8["linear"], reverse=True):
        shown = {init: FIGURE_8[init][bits] for init in INITIAL}
        against = [f"{shown['linear'] - shown[init]:+.2f}, –" for init in ("density", "Forgy")]
        lines.append(["AlexNet (Fig. 8)", str(bits), *(f"{value:.2f}" for value in shown.values()), *against])
    return table(heads, lines)


def by_initial(name: str, results: Mapping[str, Any], plan: Plan) -> dict[str, dict[int, Mapping[str, Any]]]:
    """Evaluations of k-means by initial centroids and bits."""
    curves: dict[str, dict[int, Mapping[str, Any]]] = {}
    for point, _, seen in found(name, results, plan):
        if point.arm == "k-means" and point.init and point.bits:
            curves.setdefault(point.init, {})[point.bits] = seen
    return curves


def sizes(results: Mapping[str, Any], plan: Plan) -> Figure:
    """Top-1 over the bytes of the file, a panel a network, a line an arm."""
    names = [name for name in plan if found(name, results, plan)]
    with mpl.rc_context(style("pretrained-sizes")):
        canvas = Canvas(figsize=(5.2 * len(names), 4.4), layout="constrained")
        for axes, name in zip(canvas.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            own = found(name, results, plan)
            lines: dict[str, list[Found]] = {}
            for one in own[1:]:
                lines.setdefault(curve(one[0]), []).append(one)
            axes.axhline(own[0][2]["top1"], color=FAINT, lw=1)
            axes.plot(own[0][1]["bytes"] / 1e6, own[0][2]["top1"], "*", color=COLOURS[4], ms=10, label="unchanged")
            for line, points in lines.items():
                colour, mark = _look(line)
                ordered = sorted(points, key=lambda one: int(one[1]["bytes"]))
                style_ = mark if line == "pruned, k-means" else f"{mark}-"
                axes.plot([o[1]["bytes"] / 1e6 for o in ordered], [o[2]["top1"] for o in ordered], style_, color=colour, ms=4, label=line)  # fmt: skip
            axes.set(xscale="log", xlabel="file, MB", ylabel="top-1, %", title=NETWORKS[name].title, ylim=(-2, own[0][2]["top1"] + 6))  # fmt: skip
            _ticks(axes, [one[1]["bytes"] / 1e6 for one in own])
            axes.legend(fontsize=8)
        svg = to_svg(canvas)
    words = "; ".join(
        f"{NETWORKS[name].title} {curve(point)} {_what(point)}".strip()
        + f": {seen['top1']:.1f} %, {row['bytes'] / 1e6:.2f} MB"
        for name in names
        for point, row, seen in found(name, results, plan)
        if point.bits in (None, 4)
    )
    return Figure("sizes", "Top-1 over size", svg, f"Top-1 over the size of the file, without retraining. {words}")


def _look(line: str) -> tuple[str, str]:
    """The same colour and mark for a line in every panel."""
    number = ORDER.index(line)
    return [*COLOURS[:4], *COLOURS[5:]][number], MARKS[number]


def _ticks(axes: Axes, megabytes: Sequence[float]) -> None:
    wanted = [tick for tick in (0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10, 20) if min(megabytes) * 0.8 < tick < max(megabytes) * 1.2]  # fmt: skip
    axes.set_xticks(wanted, [f"{tick:g}" for tick in wanted])
    axes.minorticks_off()


def initial(results: Mapping[str, Any], plan: Plan) -> Figure:
    """Top-1 over the bits of the codebook by initial centroids, the paper's AlexNet beside."""
    panels = {NETWORKS[name].title: {init: {b: s["top1"] for b, s in own.items()} for init, own in by_initial(name, results, plan).items()} for name in plan}  # fmt: skip
    panels = {title: curves for title, curves in panels.items() if curves} | {"AlexNet (published, Fig. 8)": FIGURE_8}
    with mpl.rc_context(style("pretrained-initial")):
        canvas = Canvas(figsize=(3.4 * len(panels), 3.4), layout="constrained")
        for axes, (title, curves) in zip(
            canvas.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            for init, own in curves.items():
                colour, mark = _look(f"k-means, {init}")
                axes.plot(sorted(own), [own[bits] for bits in sorted(own)], f"{mark}-", color=colour, ms=4, label=init)
            top = max(value for own in curves.values() for value in own.values())
            axes.set(xlabel="bits", title=title, xticks=range(2, 9), xlim=(1.7, 8.3))
            axes.set_ylim(bottom=max(-2.0, min(v for own in curves.values() for v in own.values()) - 2), top=top + 2)
        canvas.axes[0].set_ylabel("top-1, %")
        canvas.axes[-1].legend(fontsize=8, title="initial centroids")
        svg = to_svg(canvas)
    words = "; ".join(
        f"{title}, {init}: " + ", ".join(f"{bits} bits {own[bits]:.1f}" for bits in sorted(own))
        for title, curves in panels.items()
        for init, own in curves.items()
    )
    return Figure("initial", "Initial centroids", svg, f"Top-1 in % by bits and initial centroids. {words}")


def report(results: Mapping[str, Any], plan: Plan) -> str:
    """All of it in Markdown."""
    lines = [
        "# What size costs trained ImageNet networks, without retraining", "",
        "`python -m experiments.pretrained`. Every convolution and matrix is changed alike, the first and depthwise ones too, as `dsd compress` does it; "
        "biases and batch normalisation stay float32, and nothing is trained afterwards. k-means: a codebook of 2^bits values for the weights of each layer that are not 0, "
        "from linear, density or Forgy initial centroids (one draw). Uniform: 2^bits equal steps from the smallest weight to the largest (affine). "
        "Pruned: the smallest weights of each layer, so many of each that the share that is 0 is the same in all. Bytes: the whole file. "
        "The unchanged weights are in the same archive, bit for bit, so the ratio of the first row is what coding floats gives.", "",
    ]  # fmt: skip
    if any(found(name, results, plan) for name in plan):
        drawn = sizes(results, plan)
        lines += [f"![{drawn.words}]({drawn.name}.svg)", ""]
    for name in plan:
        own, lacking = found(name, results, plan), missing(name, results, plan)
        lines += [f"## {NETWORKS[name].title}", "", NOTES[name], ""] + ([lacking, ""] if lacking else [])
        if not own or own[0][0].arm != "as trained":
            continue
        n = own[0][2]["n"]
        lines += [
            points_table(own, results["networks"][name]["fp32_bytes"]), "",
            f"{n:,} validation images, an easy choice: only differences mean something. won, lost: images whose answer became right and wrong. "
            "A row without them has the unchanged weights. "
            "± is half of the 95 % interval of the paired difference, p McNemar's exact test adjusted by Holm over the different weights of this table; **bold**: below "
            f"{ALPHA:g}, so the difference is of the network and not of these images. Other rows may still differ, by less than about their ±.", "",
        ]  # fmt: skip
        if own[1:]:
            lines += [smallest(own), ""]
    drawn = initial(results, plan)
    lines += [
        "## Initial centroids", "", f"![{drawn.words}]({drawn.name}.svg)", "",
        initial_table(results, plan), "",
        "p: McNemar's exact test of the two on the same images, not adjusted. The paper's values are digitised (± 0.1) and of AlexNet.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def write(results: Mapping[str, Any], plan: Plan, folder: Path) -> None:
    """report.md and the figures."""
    atomic_write(folder / "report.md", report(results, plan))
    if any(found(name, results, plan) for name in plan):
        atomic_write(folder / "sizes.svg", sizes(results, plan).file)
    atomic_write(folder / "initial.svg", initial(results, plan).file)
