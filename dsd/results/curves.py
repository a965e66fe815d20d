"""Curves over sparsity: what a scan of the layers found."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from dsd.results.figures import COLOURS, FAINT, Figure, style, to_svg


def sensitivity(
    values: Sequence[float], curves: Mapping[str, Sequence[float]], dense: float, *, bits: bool = False
) -> Figure:
    """Error of the network with one layer pruned, a curve a layer (Han et al., NIPS 2015, Figure 6); or with few bits."""
    with mpl.rc_context(style("sensitivity")):
        canvas = Canvas(figsize=(8.2, 4.2))
        axes = canvas.subplots()
        for (layer, errors), colour in zip(curves.items(), itertools.cycle(COLOURS)):
            axes.plot([s if bits else 100 * s for s in values], errors, "o-", ms=4, color=colour, label=layer)
        axes.axhline(dense, color=FAINT, lw=1)
        what = "bits of that layer's codebook, the others as they are" if bits else "sparsity of that layer alone, %"
        axes.set(xlabel=what, ylabel="validation error, % (lower is better)")
        axes.set_yscale("symlog", linthresh=10)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.legend(loc="upper right" if bits else "upper left")
        svg = to_svg(canvas)
    said = "; ".join(f"{layer} {min(e):.2f} to {max(e):.2f} %" for layer, e in curves.items())
    return Figure(
        "sensitivity",
        f"Sensitivity of each layer to {'few bits' if bits else 'pruning'}",
        svg,
        f"Dense {dense:.2f} %. {said}.",
    )
