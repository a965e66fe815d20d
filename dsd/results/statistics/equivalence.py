"""Are two arms the same for practical purposes? Two one-sided t tests (TOST, Schuirmann 1987).

"Not significant" is not "no effect"; this is how "no effect worth naming" is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from scipy import stats

from dsd.results.statistics import words
from dsd.results.statistics.effect import Effect, Interval


@dataclass(frozen=True)
class Equivalence:
    """`p_above` tests effect <= -margin, `p_below` effect >= margin; `p` is the larger. None without a spread."""

    effect: Effect
    margin: float
    alpha: float
    p_above: float | None
    p_below: float | None
    interval: Interval | None

    @property
    def p(self) -> float | None:
        return None if self.p_above is None or self.p_below is None else max(self.p_above, self.p_below)

    @property
    def equivalent(self) -> bool | None:
        return None if self.p is None else self.p < self.alpha

    @property
    def sentence(self) -> str:
        if self.p is None:
            return words.sentence(self.effect.text, notes=(*self.effect.notes, "equivalence cannot be tested"))
        found = "equivalent" if self.equivalent else "not shown to be equivalent"
        within = f"{found} within ±{words.number(self.margin)} (TOST {words.p_value(self.p)})"
        return words.sentence(self.effect.text, f"{self.interval}", within, notes=self.effect.notes)


def equivalence(effect: Effect, *, margin: float, alpha: float) -> Equivalence:
    """TOST of an effect of any design against ±margin; its interval is the t interval at 1 - 2 alpha."""
    words.positive("margin", margin)
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha lies between 0 and 0.5, got {alpha}")
    if effect.standard_error is None or effect.df is None:
        return Equivalence(effect, margin, alpha, None, None, None)
    p_above = float(stats.t.sf((effect.value + margin) / effect.standard_error, effect.df))
    p_below = float(stats.t.cdf((effect.value - margin) / effect.standard_error, effect.df))
    return Equivalence(effect, margin, alpha, p_above, p_below, effect.t_interval(1 - 2 * alpha))
