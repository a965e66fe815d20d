"""Learning curves: how the arms of a study came to their numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from dsd.results.analysis import Findings
from dsd.results.figures import COLOURS, Figure, colour_of, style, to_svg

SHADES = {"sparse": "#d9822b", "redense": "#3a9d5d"}  # of the phases


def curves(findings: Findings, records: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Learning curves: the mean over the seeds of each arm, on one axis of epochs, with the phases shaded."""
    study = findings.study
    watched = study.watched
    own = [
        r for r in records if r["study"] == study.name and any(v is not None for v in r["curve"].get(watched.key, ()))
    ]
    if not own:
        return None
    shown = [arm for arm in study.arms if any(r["arm"] == arm.name for r in own)]
    baseline = [r for r in own if r["config"].get("method.name") == "baseline"]
    before = _length(baseline[0]) if baseline else 0.0
    trained = _mean_curve(baseline, 0, watched.key)[1][-1] if baseline else None
    ends: dict[str, tuple[str, float]] = {}
    rising = watched.better == "higher"
    with mpl.rc_context(style(f"{study.name}-curves")):
        canvas = Canvas(figsize=(8.2, 4.0))
        axes = canvas.subplots()
        model = next((r for r in own if r["arm"] == study.figure_arm), own[0])
        start = _offset(model, before)
        for phase in model["phases"]:
            shade = SHADES.get(phase["name"], COLOURS[4])
            axes.axvspan(start, start + phase["epochs"], color=shade, alpha=0.12, lw=0)
            axes.text(
                start + phase["epochs"] / 2,
                0.97,
                phase["name"],
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="top",
            )
            start += phase["epochs"]
        level: list[float] = []
        rest = start - _offset(model, before)
        first = 0.0 if before <= 4 * rest else before - rest
        last = start
        for arm in shown:
            rows = [r for r in own if r["arm"] == arm.name]
            epochs, means = _mean_curve(rows, before, watched.key)
            if _offset(rows[0], before) and trained is not None:
                epochs, means = [before, *epochs], [trained, *means]
            colour = colour_of(study, arm.name)
            axes.plot(epochs, means, "-", color=colour, lw=1.6, label=f"{arm.title} (n = {len(rows)})")
            last = max(last, epochs[-1])
            ends[arm.name] = arm.title, means[-1]
            level += [mean for epoch, mean in zip(epochs, means, strict=True) if epoch >= first]
        flip = -1 if rising else 1  # what is better lies below
        level = [flip * mean for mean in level]
        low, high = min(level), sorted(level)[int(0.6 * (len(level) - 1))]
        if trained is not None:
            high = max(high, flip * trained)  # what the other arms start from is seen
        top = high + (high - low)
        for line, (_, end) in zip(axes.lines, ends.values(), strict=True):
            if flip * end > top:
                line.set_label(f"{line.get_label()}, ends {'below' if rising else 'above'}: {end:.2f}")
        limits = sorted((flip * (low - 0.05 * (top - low) - 0.01), flip * (top + 0.01)))
        axes.set(
            xlim=(first, last),
            xlabel="epoch",
            ylabel=f"{watched.label}, {watched.unit}",
            ylim=limits,
        )
        axes.grid(axis="y")
        axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.14))
        svg = to_svg(canvas)
    title = f"Learning curves from epoch {first:g} on: mean over the seeds; the shaded phases are {model['arm']}'s; {'lower' if rising else 'higher'} curves are cut off"
    return Figure(
        "curves",
        title,
        svg,
        f"{watched.label} over the epochs. {'; '.join(f'{title} ends at {end:.2f}' for title, end in ends.values())}.",
    )


def _length(record: Mapping[str, Any]) -> float:
    return float(sum(phase["epochs"] for phase in record["phases"]))


def _offset(record: Mapping[str, Any], before: float) -> float:
    """Epochs a run's weights had been trained before it began."""
    return before if record["config"].get("init_from") is not None else 0.0


def _mean_curve(rows: Sequence[Mapping[str, Any]], before: float, key: str) -> tuple[list[float], list[float]]:
    """Epochs at which any run was validated, and the mean over those that were."""
    measured: dict[float, list[float]] = {}
    for row in rows:
        for epoch, value in zip(row["curve"]["epoch"], row["curve"][key], strict=True):
            if value is not None:
                measured.setdefault(_offset(row, before) + epoch, []).append(value)
    epochs = sorted(measured)
    return epochs, [math.fsum(measured[epoch]) / len(measured[epoch]) for epoch in epochs]
