"""A picture of one finished run: learning curve with the phases shaded, and the paper's weight distributions.

python -m experiments.figure runs/<id> picture.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from dsd.results.schema import Result
from dsd.results.store import RunFolder

SHADES = {"dense": "#dbe7f3", "sparse": "#f6dfc6", "redense": "#d9ecd9"}


def curve(axes: Axes, result: Result) -> None:
    """Validation top-1 error in % after every epoch."""
    per_epoch = result["history"][-1]["update"] / result["history"][-1]["epoch"]
    for phase in result["metrics"]["phases"]:
        first, end = phase["first"] / per_epoch, phase["end"] / per_epoch
        axes.axvspan(first, end, color=SHADES.get(phase["name"], "#eeeeee"), lw=0)
        axes.text((first + end) / 2, 0.03, phase["name"], transform=axes.get_xaxis_transform(), ha="center")
        error = phase["metrics"].get("val/error1")
        if error is not None:
            axes.annotate(f"{error:.1f}", (end, error), (-3, 12), textcoords="offset points", ha="right", weight="bold")
    rows = result["history"]
    axes.plot([r["epoch"] for r in rows], [r["val/error1"] for r in rows], "o-", color="#1f4e79", ms=4)
    axes.set(xlabel="epoch", ylabel="validation top-1 error, %", ylim=(0, 1.15 * max(r["val/error1"] for r in rows)))
    axes.set_title(f"{result['name']} · {result['profile']} profile · seed {result['seed']}", fontsize=10)


def distributions(axes: Axes, records: list[dict], layer: str) -> None:
    """Histograms of one layer's weights that are not exactly zero, and the share that is."""
    wanted = ("end of dense", "start of sparse", "end of sparse", "end of redense")
    offset = 0.0
    for record in (r for where in wanted for r in records if r["where"] == where):
        h = record["layers"][layer]
        total = sum(h["counts"]) + h["zeros"]
        share = [c / total for c in h["counts"]]
        limit = 4 * max(r["layers"][layer]["std"] for r in records)
        centres = [(a + b) / 2 for a, b in zip(h["edges"][:-1], h["edges"][1:], strict=True)]
        width = h["edges"][1] - h["edges"][0]
        height = [s / width * 0.02 for s in share]
        axes.fill_between(centres, offset, [offset + y for y in height], step="mid", lw=0.6, alpha=0.8)
        axes.text(-limit, offset + 0.3, f"{record['where']}: {h['zeros'] / total:.0%} are 0", fontsize=8)
        axes.set_xlim(-limit, limit)
        offset -= 0.62
    axes.spines["left"].set_visible(False)
    axes.set(yticks=[], ylim=(None, 0.5), xlabel=f"weight of {layer}")
    axes.set_title("before pruning, after it, retrained, re-dense", fontsize=10)


def main(run: str, picture: str) -> None:
    folder = RunFolder(Path(run))
    result = folder.read_result()
    records = json.loads((folder.path / "distributions.json").read_text())
    layer = max(records[0]["layers"], key=lambda name: sum(records[0]["layers"][name]["counts"]) * ("layer2" in name))
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), width_ratios=(3, 2), layout="constrained")
    curve(left, result)
    distributions(right, records, layer)
    figure.savefig(picture, dpi=130)


if __name__ == "__main__":
    main(*sys.argv[1:])
