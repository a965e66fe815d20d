"""A picture of one finished run: learning curve with the phases shaded, and the paper's weight distributions.

python -m experiments.figure runs/<id> picture.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from dsd.results.schema import Result
from dsd.results.store import RunFolder, Store
from dsd.results.table import label_of, metric_names

SHADES = {"dense": "#dbe7f3", "sparse": "#f6dfc6", "redense": "#d9ecd9"}
WANTED = ("end of dense", "start of sparse", "end of sparse", "end of redense")


def curve(axes: Axes, result: Result) -> None:
    """The validation set's error, WER or BLEU after every epoch. ValueError if nothing was validated."""
    measured = [row for row in result["history"] if metric_names("val/", [row])]
    if not measured:
        raise ValueError(f"run {result['run_id']} has no validation to draw: it was made with data.validation=0")
    names = metric_names("val/", measured)
    shown = next((name for name in ("error1", "wer", "bleu4") if name in names), names[0])
    name, label = f"val/{shown}", label_of(shown)
    per_epoch = measured[-1]["update"] / measured[-1]["epoch"]
    for phase in result["metrics"]["phases"]:
        first, end = phase["first"] / per_epoch, phase["end"] / per_epoch
        axes.axvspan(first, end, color=SHADES.get(phase["name"], "#eeeeee"), lw=0)
        axes.text((first + end) / 2, 0.03, phase["name"], transform=axes.get_xaxis_transform(), ha="center")
        value = phase["metrics"].get(name)
        if value is not None:
            axes.annotate(f"{value:.1f}", (end, value), (-3, 12), textcoords="offset points", ha="right", weight="bold")
    rows = [row for row in measured if row.get(name) is not None]
    axes.plot([r["epoch"] for r in rows], [r[name] for r in rows], "o-", color="#1f4e79", ms=4)
    unit = ", %" if label.endswith("%") else ""
    axes.set(
        xlabel="epoch",
        ylabel=f"validation {label.removesuffix('%').strip()}{unit}",
        ylim=(0, 1.15 * max(r[name] for r in rows)),
    )
    axes.set_title(f"{result['name']} · {result['profile']} profile · seed {result['seed']}", fontsize=10)


def distributions(axes: Axes, records: list[dict[str, Any]], layer: str) -> None:
    """Histograms of one layer's weights that are not exactly zero, and the share that is; of other plans the last four."""
    shown = [r for where in WANTED for r in records if r["where"] == where] or records[-len(WANTED) :]
    offset = 0.0
    for record in shown:
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
    axes.set_title(
        "before pruning, after it, retrained, re-dense" if shown[0]["where"] in WANTED else "weights", fontsize=10
    )


def main(words: list[str]) -> int:
    """The exit code."""
    if len(words) != 2:
        print("python -m experiments.figure runs/<id> picture.png", file=sys.stderr)
        return 2
    try:
        folder = RunFolder(Path(words[0])) if Path(words[0]).is_dir() else Store(Path("runs")).find(words[0])
        result = folder.read_result()
        records = json.loads((folder.path / "distributions.json").read_text())
        sizes = {name: sum(of["counts"]) for name, of in records[0]["layers"].items()}
        layer = max(sizes, key=lambda name: ("layer2" in name, sizes[name]))
        mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), width_ratios=(3, 2), layout="constrained")
        curve(left, result)
        distributions(right, records, layer)
        figure.savefig(words[1], dpi=130)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
