"""The effect in units of its spread: Cohen's d_z of pairs, Hedges' g of two groups (Hedges 1981, exact correction)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.special import gammaln

from dsd.results.statistics import words
from dsd.results.statistics.effect import Effect, of_pairs, unpaired_effect
from dsd.results.statistics.sample import Group, Missing, pair


@dataclass(frozen=True)
class Size:
    """Effect / spread; None where there is no spread to divide by, and `sentence` says why."""

    name: str
    value: float | None
    effect: Effect

    @property
    def sentence(self) -> str:
        if self.value is None:
            return words.sentence(self.effect.text, notes=(*self.effect.notes, f"{self.name} is undefined"))
        return words.sentence(self.effect.text, f"{self.name} = {words.number(self.value)}", notes=self.effect.notes)


def cohens_dz(
    treated: Mapping[int, float], control: Mapping[int, float], *, confidence: float, missing: Missing = "error"
) -> Size:
    """Mean of the differences / their standard deviation."""
    effect = of_pairs(pair(treated, control, missing=missing), confidence=confidence)
    if effect.standard_error is None:
        return Size("d_z", None, effect)
    return Size("d_z", effect.value / (effect.standard_error * math.sqrt(effect.n)), effect)


def hedges_g(treated: Group, control: Group, *, confidence: float) -> Size:
    """Difference of means / pooled standard deviation, without the bias of few values; needs 4 values in all."""
    effect = unpaired_effect(treated, control, confidence=confidence, pooled=True)
    if effect.standard_error is None or effect.df is None:
        return Size("g", None, effect)
    spread = effect.standard_error / math.sqrt(sum(1 / group.n for group in effect.groups))
    return Size("g", correction(effect.df) * effect.value / spread, effect)


def correction(df: float) -> float:
    """Hedges' J, the factor that makes d unbiased: about 1 - 3 / (4 df - 1), here exact. Defined for df > 1."""
    if df <= 1:
        raise ValueError(f"Hedges' correction needs more than one degree of freedom, got {df}")
    return math.exp(float(gammaln(df / 2) - gammaln((df - 1) / 2))) / math.sqrt(df / 2)
