"""Do the values look normal, as t and F assume? Shapiro-Wilk, with the plain warning that follows from it."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import stats

from dsd.results.statistics import words
from dsd.results.statistics.sample import Values, summarise, values_of

_LARGEST = 5000  # SciPy's p is not accurate for more


@dataclass(frozen=True)
class Normality:
    """`normal`: False if rejected at `alpha`; True means no more than not rejected; None if it cannot be told."""

    n: int
    statistic: float | None
    p: float | None
    normal: bool | None
    sentence: str


def normality(values: Values, *, alpha: float) -> Normality:
    """Shapiro-Wilk of the values: of the differences for a paired t, of each group for the others."""
    words.probability("alpha", alpha)
    sample = values_of("values", values)
    n = len(sample)
    if n < 3:
        return _unknown(n, f"Normality cannot be checked: {words.plural(n, 'value')}, three are needed.")
    if n > _LARGEST:
        return _unknown(n, f"Normality is not checked for {n} values: the t tests do not need it there.")
    if summarise("values", sample).std == 0:
        return _unknown(n, f"Normality cannot be checked: all {n} values are equal.")
    found = stats.shapiro(sample)
    w, p = float(found.statistic), float(found.pvalue)
    seen = f"(Shapiro-Wilk W {words.number(w)}, {words.p_value(p)}, n = {n})"
    if p < alpha:
        trust = "trust the permutation, rank or Brown-Forsythe test, not t or F"
        return Normality(n, w, p, False, f"Warning: not normal {seen}; {trust}.")
    return Normality(n, w, p, True, f"No sign against normality {seen}; with few values that is weak evidence for it.")


def _unknown(n: int, sentence: str) -> Normality:
    return Normality(n, None, None, None, sentence)
