"""Where a gain comes from: total = (matched fine-tuning - baseline) + (DSD - matched fine-tuning).

Matched fine-tuning has the learning rates and epochs of DSD and no mask (DSD section 4, "direct fine-tuning"): the
first part is what more training gives, the second what the sparse phase adds. Only a gain whose parts are gains is shared out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dsd.results.statistics import words
from dsd.results.statistics.effect import Effect, of_pairs, one_sample_effect, unpaired_effect
from dsd.results.statistics.sample import Group, Missing, Pairs, match
from dsd.results.statistics.verdict import Better


@dataclass(frozen=True)
class Decomposition:
    """`total` = `training` + `method`, each treated - control; `better` is the metric's direction.

    `share` = method / total: None unless the total is a gain and both parts go its way.
    """

    total: Effect
    training: Effect
    method: Effect
    better: Better

    @property
    def outcome(self) -> Literal["gain", "loss", "difference"]:
        """What the total is by its interval: a difference if that doesn't exclude 0."""
        if self.total.interval is None or self.total.interval.low <= 0 <= self.total.interval.high:
            return "difference"
        return "gain" if (self.total.value > 0) == (self.better == "higher") else "loss"

    @property
    def share(self) -> float | None:
        if self.outcome != "gain":
            return None
        share = self.method.value / self.total.value
        return share if 0 <= share <= 1 else None

    @property
    def sentence(self) -> str:
        parts = "; ".join(
            f"{name} {words.number(effect.value)} ({effect.interval or effect.notes[-1]})"
            for name, effect in (("total", self.total), ("training alone", self.training), ("the method", self.method))
        )
        if self.share is not None:
            return f"{parts}; the method's share is {100 * self.share:.0f} % of the gain."
        if self.outcome == "difference":
            return f"{parts}; no share is given, since no interval keeps the total from 0."
        if self.outcome == "loss":
            return f"{parts}; no share is given, since the total is a loss."
        against = "the method" if self.method.value * self.total.value < 0 else "training alone"
        return f"{parts}; no share is given, since {against} goes the other way."


def decompose(
    treated: Mapping[int, float],
    matched: Mapping[int, float],
    baseline: Mapping[int, float],
    *,
    better: Better,
    confidence: float,
    missing: Missing = "error",
) -> Decomposition:
    """The three effects over the seeds that all three arms have, so that the parts add up seed by seed."""
    arms = {"treated": treated, "matched": matched, "baseline": baseline}
    (t, m, b), seeds, dropped = match(arms, missing=missing)
    return Decomposition(
        of_pairs(Pairs(seeds, t, b, dropped), confidence=confidence),
        of_pairs(Pairs(seeds, m, b, dropped), confidence=confidence),
        of_pairs(Pairs(seeds, t, m, dropped), confidence=confidence),
        better,
    )


def decompose_groups(
    treated: Group, matched: Group, baseline: Group | float, *, better: Better, confidence: float
) -> Decomposition:
    """The same of independent groups or published summaries; a baseline of one run is a constant."""
    if isinstance(baseline, float | int):
        total = one_sample_effect(treated, baseline, confidence=confidence)
        training = one_sample_effect(matched, baseline, confidence=confidence)
    else:
        total = unpaired_effect(treated, baseline, confidence=confidence)
        training = unpaired_effect(matched, baseline, confidence=confidence)
    return Decomposition(total, training, unpaired_effect(treated, matched, confidence=confidence), better)
