"""Where a gain comes from: total = (matched fine-tuning - baseline) + (DSD - matched fine-tuning).

Matched fine-tuning has the learning rates and epochs of DSD and no mask (DSD section 4, "direct fine-tuning"): the
first part is what more training gives, the second what the sparse phase adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dsd.results.statistics import words
from dsd.results.statistics.effect import Effect, of_pairs, one_sample_effect, unpaired_effect
from dsd.results.statistics.sample import Group, Missing, Pairs, match


@dataclass(frozen=True)
class Decomposition:
    """`total` = `training` + `method`. `share` = method / total, None unless the total's interval excludes 0."""

    total: Effect
    training: Effect
    method: Effect
    share: float | None

    @property
    def sentence(self) -> str:
        parts = "; ".join(
            f"{name} {words.number(effect.value)} ({effect.interval or effect.notes[-1]})"
            for name, effect in (("total", self.total), ("training alone", self.training), ("the method", self.method))
        )
        if self.share is None:
            return f"{parts}; no share is given, since no interval keeps the total from 0."
        return f"{parts}; the method's share is {100 * self.share:.0f} % of the total."


def decompose(
    treated: Mapping[int, float],
    matched: Mapping[int, float],
    baseline: Mapping[int, float],
    *,
    confidence: float,
    missing: Missing = "error",
) -> Decomposition:
    """The three effects over the seeds that all three arms have, so that the parts add up seed by seed."""
    arms = {"treated": treated, "matched": matched, "baseline": baseline}
    (t, m, b), seeds, dropped = match(arms, missing=missing)
    return _decomposition(
        of_pairs(Pairs(seeds, t, b, dropped), confidence=confidence),
        of_pairs(Pairs(seeds, m, b, dropped), confidence=confidence),
        of_pairs(Pairs(seeds, t, m, dropped), confidence=confidence),
    )


def decompose_groups(treated: Group, matched: Group, baseline: Group | float, *, confidence: float) -> Decomposition:
    """The same of independent groups or published summaries; a baseline of one run is a constant."""
    if isinstance(baseline, float | int):
        total = one_sample_effect(treated, baseline, confidence=confidence)
        training = one_sample_effect(matched, baseline, confidence=confidence)
    else:
        total = unpaired_effect(treated, baseline, confidence=confidence)
        training = unpaired_effect(matched, baseline, confidence=confidence)
    return _decomposition(total, training, unpaired_effect(treated, matched, confidence=confidence))


def _decomposition(total: Effect, training: Effect, method: Effect) -> Decomposition:
    distinct = total.interval is not None and not total.interval.low <= 0 <= total.interval.high
    return Decomposition(total, training, method, method.value / total.value if distinct else None)
