"""The figures and the report of `python -m experiments.tradeoff`, from its records alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from dsd.results.curves import sensitivity
from dsd.results.figures import COLOURS, FAINT, INK, Figure, style, to_svg
from dsd.results.store import atomic_write

Point = Mapping[str, Any]
MARKS = "os^Dv<>P"


def write(records: Mapping[str, Any], folder: Path) -> None:
    """report.md and an SVG for each figure whose points are there."""
    of: dict[str, list[Point]] = {}
    for point in records["points"]:
        of.setdefault(point["figure"], []).append(point)
        if point["figure"] == "initial" and point["curve"] == "linear":
            of.setdefault("uniform", []).append({**point, "curve": "k-means, pruned"})
        if point["curve"] == "codebooks only" and point["x"] > 1:
            of.setdefault("uniform", []).append({**point, "curve": "k-means, dense"})
    sections = []
    for name, (draw, text) in FIGURES.items():
        if name in of:
            for figure in draw(of[name], records["starts"]):
                atomic_write(folder / f"{figure.name}.svg", figure.file)
                sections += [f"## {figure.title}", "", f"![{figure.words}]({figure.name}.svg)", "", text(of[name], records["starts"]), ""]  # fmt: skip
                text = _nothing
    dense, pruned = records["starts"]["dense"], records["starts"]["pruned"]
    head = [
        "# What size costs: LeNet-300-100 on MNIST", "",
        "`python -m experiments.tradeoff DENSE PRUNED`: every point starts from the same dense network "
        f"(test error {dense['error']:.2f} %, {dense['bytes']:,} bytes) or the same pruned one ({pruned['error']:.2f} %, {pruned['bytes']:,} bytes) "
        "and is retrained for a tenth of an epoch to 5, with one seed. Test errors are of 10,000 images: two points differ by luck if they differ by "
        "less than about 0.2. Sizes are those of whole files with everything in them, in % of float32; SVD's are its factors' float32 bytes. "
        f"The smallest files of a table are chosen by validation error (5,000 images; dense {dense['val']:.2f} %), and their test error is told.", "",
    ]  # fmt: skip
    atomic_write(folder / "report.md", "\n".join(head + sections))


def _nothing(points: Iterable[Point], starts: Mapping[str, Point]) -> str:
    return ""


def table(head: list[str], rows: Iterable[list[Any]]) -> str:
    """Markdown."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join(lines + [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows])


def curves(points: list[Point]) -> dict[str, list[Point]]:
    """The points by curve, in the order they were measured."""
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point["curve"], []).append(point)
    return found


def frontier(points: list[Point]) -> list[Point]:
    """Those that no other of them beats in both size and error, smallest first."""
    best, kept = math.inf, []
    for point in sorted(points, key=lambda p: (p["percent"], p["error"])):
        if point["error"] < best:
            best = point["error"]
            kept.append(point)
    return kept


def smallest(points: Iterable[Point], error: float) -> Point | None:
    """The smallest file whose validation error is at most this; the test error chooses nothing.

    Errors are float32 shares of 5,000 images, in steps of 0.02 %: what exceeds the limit by rounding alone is within it.
    """
    return min((p for p in points if p["val"] <= error + 1e-3), key=lambda p: p["percent"], default=None)


def drawing(name: str, panels: int, height: float, draw: Callable[[list[Axes]], None]) -> str:
    """The SVG of a row of panels."""
    with mpl.rc_context(style(f"tradeoff-{name}")):
        canvas = Canvas(figsize=(8.4, height), layout="constrained")
        draw(list(canvas.subplots(1, panels, squeeze=False)[0]))
        return to_svg(canvas)


def _tradeoff(points: list[Point], starts: Mapping[str, Point]) -> list[Figure]:
    dense = starts["dense"]["error"]

    def draw(axes: list[Axes]) -> None:
        for (curve, own), colour, mark in zip(curves(points).items(), COLOURS, MARKS, strict=False):
            line = frontier(own) if curve == "pruning and codebooks" else sorted(own, key=lambda p: p["percent"])
            axes[0].plot(
                [p["percent"] for p in own], [p["error"] for p in own], mark, color=colour, ms=4, alpha=0.45, mec="none"
            )
            axes[0].plot(
                [p["percent"] for p in line], [p["error"] for p in line], f"{mark}-", color=colour, ms=4, label=curve
            )
        axes[0].axhline(dense, color=FAINT, lw=1)
        axes[0].set(
            xscale="log", xlabel="file, % of float32", ylabel="test error, %", ylim=(dense - 0.2, 5), xlim=(0.4, 110)
        )
        axes[0].set_xticks([0.5, 1, 2, 5, 10, 20, 50, 100], ["0.5", "1", "2", "5", "10", "20", "50", "100"])
        axes[0].minorticks_off()
        axes[0].legend()

    within = {curve: smallest(own, starts["dense"]["val"] + 0.2) for curve, own in curves(points).items()}
    words = "; ".join(f"{curve}: {fit['percent']:.2f} %" if fit else f"{curve}: none" for curve, fit in within.items())
    title = "Pruning, codebooks, both, and SVD"
    svg = drawing("tradeoff", 1, 4.4, draw)
    return [
        Figure(
            "tradeoff",
            title,
            svg,
            f"Test error against file size. Smallest file whose validation error is within 0.2 points of dense: {words}",
        )
    ]


def _tradeoff_text(points: list[Point], starts: Mapping[str, Point]) -> str:
    dense, rows = starts["dense"]["val"], []
    for curve, own in curves(points).items():
        for limit in (0.1, 0.2, 0.5, 1.0):
            fit = smallest(own, dense + limit)
            rows.append([curve, limit, *([f"{fit['percent']:.2f}", f"{100 / fit['percent']:.0f}x", f"{fit['error']:.2f}"] if fit else ["none", "", ""])])  # fmt: skip
    return table(
        ["", "points of validation error above dense, at most", "smallest file, %", "ratio", "its test error, %"], rows
    )


def _bits(name: str, title: str, panels: Mapping[str, tuple[str, str]]) -> Any:
    """A figure of error against bits: a panel for each (ending of a curve's name, key of the error)."""

    def figures(points: list[Point], starts: Mapping[str, Point]) -> list[Figure]:
        def draw(axes: list[Axes]) -> None:
            for at, (head, (ending, key)) in zip(axes, panels.items(), strict=True):
                own = {c.removesuffix(ending): p for c, p in sorted(curves(points).items()) if c.endswith(ending)}
                for number, (label, line) in enumerate(own.items()):
                    line = sorted(line, key=lambda p: p["x"])
                    at.plot(
                        [p["x"] for p in line],
                        [p[key] for p in line],
                        f"{MARKS[number]}-",
                        ms=4,
                        color=COLOURS[number],
                        label=label,
                    )
                at.set(title=head, xlabel="bits of an index", ylabel="test error, %", yscale="log")
                at.set_yticks([1.5, 2, 3, 5, 10, 20, 50, 90], ["1.5", "2", "3", "5", "10", "20", "50", "90"])
                at.minorticks_off()
                if own:
                    at.legend()

        words = "; ".join(f"{p['curve']}: {p['error']:.2f} % at 3 bits" for p in points if p["x"] == 3)
        return [Figure(name, title, drawing(name, len(panels), 3.6, draw), f"Test error against bits. {words}")]

    return figures


def _bits_text(points: list[Point], starts: Mapping[str, Point]) -> str:
    bits = sorted({p["x"] for p in points})
    rows = []
    for key, what in (
        ("at once", "before retraining"),
        ("error", "after"),
        ("loss", "lost energy, %"),
        ("bytes", "file, bytes"),
    ):
        for curve, own in sorted(curves(points).items()):
            at = {p["x"]: p.get(key) for p in own}
            digits = ",.0f" if key == "bytes" else ".3f" if key == "loss" else ".2f"
            rows.append([curve, what, *("" if at.get(b) is None else format(at[b], digits) for b in bits)])
    return table(["test error, %", "", *(f"{b} bits" for b in bits)], rows)


def _labels(points: list[Point], starts: Mapping[str, Point]) -> list[Figure]:
    def draw(axes: list[Axes]) -> None:
        for number, (curve, own) in enumerate(curves(points).items()):
            for bits, line in ((3, "-"),):
                chosen = [p for p in own if p["bits"] == bits]
                for at, key in zip(axes, ("error", "moved"), strict=True):
                    at.plot([p["x"] for p in chosen], [p[key] for p in chosen], f"{MARKS[number]}{line}", ms=4, color=COLOURS[number], label=f"{curve}, {bits} bits")  # fmt: skip
        for at, label in zip(axes, ("test error, %", "weights that ended in another cluster, %"), strict=True):
            at.set(xscale="log", xlabel="learning rate of the half epoch", ylabel=label)
            at.set_xticks([0.001, 0.01, 0.1], ["0.001", "0.01", "0.1"])
        axes[0].set(yscale="log")
        axes[0].set_yticks([1.5, 2, 3, 5, 10, 20, 50, 90], ["1.5", "2", "3", "5", "10", "20", "50", "90"])
        axes[0].minorticks_off()
        axes[1].legend(fontsize=8)

    words = "; ".join(f"{p['curve']}, {p['bits']} bits, rate {p['x']:g}: {p['error']:.2f} %" for p in points)
    return [Figure("labels", "Labels fixed or assigned again", drawing("labels", 2, 3.8, draw), words)]


def _labels_text(points: list[Point], starts: Mapping[str, Point]) -> str:
    rows = [[p["curve"], p["bits"], f"{p['x']:g}", f"{p['at once']:.2f}", f"{p['error']:.2f}", f"{p['moved']:.1f}"] for p in points]  # fmt: skip
    return table(["labels", "bits", "rate", "error before, %", "error after, %", "changed cluster, %"], rows)


def _index(points: list[Point], starts: Mapping[str, Point]) -> list[Figure]:
    def draw(axes: list[Axes]) -> None:
        for number, coder in enumerate(("fixed", "huffman", "ans")):
            for fillers, line in (("paper", "--"), ("escape", "-")):
                own = [p for p in points if p["curve"] == f"{coder}, {fillers}"]
                label = f"{coder}, {'fillers' if fillers == 'paper' else 'escapes'}"
                axes[0].plot([p["x"] for p in own], [p["bytes"] / 1000 for p in own], f"{MARKS[number]}{line}", ms=4, color=COLOURS[number], label=label)  # fmt: skip
        axes[0].axhline(_bitmap(points)["bytes"] / 1000, color=INK, lw=1, ls=":", label="bitmap")
        axes[0].set(xlabel="bits of a gap", ylabel="file, KB", xticks=range(2, 17), ylim=(22, 66))
        axes[0].legend(ncols=4, loc="upper center", fontsize=8)

    best = {c: min(own, key=lambda p: p["bytes"]) for c, own in curves(points).items()}
    words = "; ".join(f"{curve}: smallest at {p['x']} bits, {p['bytes']:,} bytes" for curve, p in best.items())
    return [Figure("index", "Bits of a gap against the size of the file", drawing("index", 1, 3.8, draw), words)]


def _bitmap(points: list[Point]) -> Point:
    return next(p for p in points if p["curve"] == "bitmap")


def _index_text(points: list[Point], starts: Mapping[str, Point]) -> str:
    rows = []
    for curve, own in curves(points).items():
        best = min(own, key=lambda p: p["bytes"])
        kinds = best["kinds"]
        rows.append(
            [
                curve,
                best["x"] or "",
                f"{best['bytes']:,}",
                f"{kinds['index']:,}",
                f"{kinds['fillers']:,}",
                f"{kinds['values']:,}",
            ]
        )
    said = 'The network pruned 12 times, with 6-bit codebooks. "fillers" are weights of value 0 as in the paper, "escapes" symbols without a value; "bitmap" is what dsd takes.'
    return f"{said}\n\n" + table(["", "best width, bits", "file, bytes", "index", "fillers or escapes", "values"], rows)


def _sensitivity(points: list[Point], starts: Mapping[str, Point]) -> list[Figure]:
    figures = []
    for point in points:
        drawn = sensitivity(point["sparsities"], point["curves"], point["dense"])
        epochs = float(point["curve"].split()[0])
        title = f"Sensitivity, {f'{epochs:g} epochs of retraining' if epochs else 'without retraining'}"
        figures.append(Figure(f"sensitivity-{'retrained' if epochs else 'bare'}", title, drawn.svg, drawn.words))
    return figures


def _codebooks(points: list[Point], starts: Mapping[str, Point]) -> list[Figure]:
    layers = points[0]["layers"]

    def draw(axes: list[Axes]) -> None:
        for at, (name, layer) in zip(axes, layers.items(), strict=True):
            edges = np.linspace(*layer["edges"], len(layer["counts"]) + 1)
            at.bar(edges[:-1], np.asarray(layer["counts"]) / sum(layer["counts"]), width=np.diff(edges), align="edge", color=COLOURS[4], alpha=0.6, lw=0)  # fmt: skip
            sets = {**layer["initial"], "by k-means": layer["k-means"], "trained": layer["trained"]}
            for row, (label, centroids) in enumerate(sets.items()):
                at.plot(
                    centroids,
                    [-0.012 - 0.012 * row] * len(centroids),
                    "|",
                    color=COLOURS[row],
                    ms=8,
                    mew=1.5,
                    label=label,
                )
            at.set(title=name, xlabel="weight", yticks=[], xlim=layer["edges"])
            at.spines["left"].set_visible(False)
        axes[0].set_ylabel("share of the survivors")
        canvas = axes[0].get_figure()
        canvas.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=7, fontsize=8)

    words = "; ".join(
        f"{name}: trained centroids {', '.join(f'{c:.3f}' for c in layer['trained'])}" for name, layer in layers.items()
    )
    return [
        Figure("codebooks", "Surviving weights and their codebooks, 4 bits", drawing("codebooks", 3, 3.8, draw), words)
    ]


FIGURES: dict[str, tuple[Callable[..., list[Figure]], Callable[..., str]]] = {
    "tradeoff": (_tradeoff, _tradeoff_text),
    "initial": (
        _bits("initial", "Initial centroids, pruned network", {"before retraining": ("", "at once"), "after a quarter of an epoch": ("", "error")}),
        _bits_text,
    ),
    "uniform": (
        _bits("uniform", "Trained codebooks against uniform grids", {"dense network": (", dense", "error"), "pruned network": (", pruned", "error")}),
        _bits_text,
    ),
    "labels": (_labels, _labels_text),
    "index": (_index, _index_text),
    "sensitivity": (_sensitivity, _nothing),
    "codebooks": (_codebooks, _nothing),
}  # fmt: skip
