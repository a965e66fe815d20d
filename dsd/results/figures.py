"""The figures of a report, as SVG that takes the page's colour: readable in light, in dark and in print, each with its words.

A figure is (svg, alternative text). Text stays text, so it can be read aloud, searched and copied.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from dsd.results.analysis import Findings
from dsd.results.judged import Judged
from dsd.results.study import Study

INK, FAINT = "#010203", "#040506"  # stand for the page's text colour and its lines, and are replaced by them
COLOURS = (
    "#2f7ed8", "#d9822b", "#3a9d5d", "#b0539f", "#8a8f98", "#c0504d", "#1fa3a3", "#9a7d0a", "#6f5bd0", "#7a5c43", "#e377a2", "#6b9e1f",
)  # fmt: skip
STYLE = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10, "text.color": INK, "axes.edgecolor": FAINT,
    "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
    "grid.color": FAINT, "grid.alpha": 0.5, "figure.facecolor": "none", "axes.facecolor": "none", "legend.frameon": False,
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """`svg` to put into a page; `words` say what it shows to who cannot see it."""

    name: str
    title: str
    svg: str
    words: str

    @property
    def file(self) -> str:
        """The SVG as a file of its own, dark where its reader is."""
        style = (
            "<style>svg{color:#222;--line:#999}@media(prefers-color-scheme:dark){svg{color:#ddd;--line:#777}}</style>"
        )
        return re.sub(r"(<svg[^>]*>)", rf"\1{style}", self.svg, count=1)


def points(findings: Findings) -> Figure | None:
    """Every seed of every row, its mean with the interval, and the published mean."""
    lines = [line for line in findings.lines if line.values and all(map(math.isfinite, line.values.values()))]
    if not lines:
        return None
    study, metric = findings.study, findings.study.metrics[0]
    with mpl.rc_context(style(f"{study.name}-points")):
        canvas = Canvas(figsize=(8.2, 0.9 + 0.42 * len(lines)))
        axes = canvas.subplots()
        for index, line in enumerate(lines):
            found, colour = [line.values[seed] for seed in sorted(line.values)], colour_of(study, line.row.arm)
            spread = [index + 0.3 * ((7 * k) % 11 / 10 - 0.5) for k in range(len(found))]  # apart, the same every time
            axes.plot(found, spread, "o", color=colour, ms=4, alpha=0.55, mec="none")
            mean = math.fsum(found) / len(found)
            if line.interval:
                axes.plot([line.interval.low, line.interval.high], [index, index], color=INK, lw=2)
            axes.plot([mean], [index], "|", color=INK, ms=13, mew=2)
            if line.row.published is not None:
                axes.plot([line.row.published], [index], "D", mfc="none", mec=INK, ms=6)
        axes.set_yticks(range(len(lines)), [line.row.label for line in lines])
        axes.invert_yaxis()
        axes.grid(axis="x")
        axes.set_xlabel(f"{metric.label}, {metric.unit} ({metric.better} is better)")
        svg = to_svg(canvas)
    said = "; ".join(
        f"{line.row.label}: mean {line.summary.mean:.2f}, n {line.summary.n}" for line in lines if line.summary
    )
    published = any(line.row.published is not None for line in lines)
    title = "Every seed (dot), mean (bar) with its interval" + (
        ", and the published mean (diamond)" if published else ""
    )
    return Figure("points", title, svg, f"{metric.label} of every seed. {said}.")


def forest(findings: Findings) -> Figure | None:
    """The effect of every claim with its t interval (thick) and bootstrap interval (thin), and the band of the margin."""
    rows = [(j, j.comparison.effect) for j in findings.judged if j.comparison and j.comparison.effect.interval]
    if not rows:
        return None
    study, metric = findings.study, findings.study.metrics[0]
    with mpl.rc_context(style(f"{study.name}-forest")):
        canvas = Canvas(figsize=(8.2, 1.0 + 0.5 * len(rows)))
        axes = canvas.subplots()
        axes.axvspan(-study.margin, study.margin, color=COLOURS[4], alpha=0.18, lw=0)
        axes.axvline(0, color=INK, lw=1)
        for index, (judged, effect) in enumerate(rows):
            assert effect.interval is not None
            axes.plot([effect.interval.low, effect.interval.high], [index, index], color=COLOURS[0], lw=3)
            if judged.bootstrap is not None and judged.bootstrap.interval is not None:
                boot = judged.bootstrap.interval
                axes.plot([boot.low, boot.high], [index + 0.2, index + 0.2], color=COLOURS[1], lw=1.5)
            axes.plot([effect.value], [index], "s", color=COLOURS[0], ms=7)
        axes.set_yticks(range(len(rows)), [_wrapped(f"{j.claim.treated} - {j.claim.control}{_at(j)}") for j, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)  # the first on top
        axes.grid(axis="x")
        side = "to the left" if metric.better == "lower" else "to the right"
        axes.set_xlabel(f"effect on {metric.label}, {metric.unit}; better lies {side} of 0")
        svg = to_svg(canvas)
    said = "; ".join(
        f"{j.claim.treated} minus {j.claim.control}{_at(j)}: {e.value:.3f} ({e.interval})" for j, e in rows
    )
    title = (
        f"Effects: t interval (thick), bootstrap interval (thin); shaded: smaller than the margin of {study.margin:g}"
    )
    return Figure("forest", title, svg, f"Forest plot of effects. {said}.")


def weights(name: str, moments: Sequence[Mapping[str, Any]], layer: str, run_id: str) -> Figure | None:
    """The paper's figure: one layer's weights before pruning, after it, after sparse training, at release, at the end."""
    if not moments:
        return None
    limit, highest = 4 * max(moment["std"] for moment in moments), 0.0
    tick = float(f"{limit / 2:.1g}")  # short labels: panels are narrow
    with mpl.rc_context(style(f"{name}-weights")):
        canvas = Canvas(figsize=(8.2, 2.3))
        panels = canvas.subplots(1, len(moments), sharey=True, sharex=True, squeeze=False)[0]
        for axes, moment in zip(panels, moments, strict=True):
            edges, total = moment["edges"], sum(moment["counts"]) + moment["zeros"]
            density = [c / total / (b - a) for c, a, b in zip(moment["counts"], edges[:-1], edges[1:], strict=True)]
            highest = highest or max(density)  # the panels share the scale of the first; released weights pile up at 0
            axes.stairs(density, edges, fill=True, color=COLOURS[0], alpha=0.8, lw=0)
            axes.set_title(moment["label"], fontsize=9)
            axes.set_xlabel(f"{100 * moment['zeros'] / total:.0f} % are 0", fontsize=9)
            axes.set(xlim=(-limit, limit), ylim=(0, 1.6 * highest), yticks=[])
            axes.set_xticks((-tick, 0, tick), (f"{-tick:g}", "0", f"{tick:g}"))
        svg = to_svg(canvas)
    said = "; ".join(
        f"{m['label']}: {100 * m['zeros'] / (sum(m['counts']) + m['zeros']):.0f} % exactly 0, std {m['std']:.3g}"
        for m in moments
    )
    return Figure(
        "weights",
        f"Weights of {layer} that are not 0, in each phase of run {run_id}",
        svg,
        f"Histograms of {layer}. {said}.",
    )


def colour_of(study: Study, arm: str) -> str:
    """An arm's colour, the same in all figures of its study."""
    return COLOURS[[one.name for one in study.arms].index(arm) % len(COLOURS)]


def style(salt: str) -> Any:
    """The look; `salt`, a word, goes into the SVG's ids: no other figure of the page has them, and they stay the same."""
    return STYLE | {"svg.hashsalt": salt}


def _at(judged: Judged) -> str:
    return "" if judged.claim.phase == -1 else f" (phase {judged.claim.phase + 1})"


def _wrapped(text: str) -> str:
    return text if len(text) < 34 else re.sub(r" - ", " -\n", text, count=1)


def to_svg(canvas: Canvas) -> str:
    """The drawing in the page's colours. Its ids begin with the salt of `style`, for which this must still be in force."""
    out = io.StringIO()
    canvas.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor").replace(FAINT, "var(--line, #999)")
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{mpl.rcParams['svg.hashsalt']}-", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*" height="[^"]*"|(<svg[^>]*?) height="[^"]*"([^>]*?) width="[^"]*"',
        r"\1\2\3",
        text,
        count=1,
    )
