"""Does the treatment change the spread over seeds? The paper says DSD lowers it ("lower variance").

Brown-Forsythe is robust to the shape of the data; F gives an interval and works from published summaries, but trusts
the normal curve; Pitman-Morgan is the F test for arms paired by seed, which the other two take for independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from dsd.results.statistics import words
from dsd.results.statistics.effect import Interval
from dsd.results.statistics.sample import Group, Missing, Summary, Values, pair, summarise, values_of


@dataclass(frozen=True)
class Spread:
    """Two standard deviations compared. `ratio` = sd treated / sd control, below 1 if the treatment steadies."""

    test: str
    treated: Summary
    control: Summary
    ratio: float | None
    interval: Interval | None
    statistic: float | None
    df: tuple[float, ...]
    p: float | None
    notes: tuple[str, ...] = ()
    apart: float = 1.0  # 1 - r^2 of the pairs: what of them is not common to both; 1 for independent groups

    @property
    def sentence(self) -> str:
        arms = (
            f"treated {words.sd(self.treated.std)} (n = {self.treated.n})",
            f"control {words.sd(self.control.std)} (n = {self.control.n})",
        )
        if self.p is None or self.ratio is None or self.statistic is None:
            return words.sentence(*arms, notes=words.without_p(self.notes, self.test))
        interval = f", {self.interval}" if self.interval else ""
        ratio = [f"ratio {words.number(self.ratio)}{interval}"] if math.isfinite(self.ratio) else []
        df = f"df {' and '.join(words.number(d) for d in self.df)}"
        found = f"{self.test} {words.number(self.statistic)}"
        return words.sentence(*arms, *ratio, found, df, words.p_value(self.p), notes=self.notes)


def brown_forsythe(treated: Values, control: Values) -> Spread:
    """Levene's test about the medians. No interval."""
    a, b = values_of("treated", treated), values_of("control", control)
    groups = summarise("treated", a), summarise("control", b)
    test = "Brown-Forsythe F"
    away = [np.abs(values - np.median(values)) for values in (a, b)]
    rounding = 32 * float(np.finfo(np.float64).eps) * max(np.abs(a).max(), np.abs(b).max())
    if min(len(a), len(b)) < 2 or all(np.ptp(distance) <= rounding for distance in away):
        why = _why_not(groups) or "all values of a group are equally far from its median"
        return Spread(test, *groups, None, None, None, (), None, (why,))
    found = stats.levene(a, b, center="median")
    df = (1.0, float(len(a) + len(b) - 2))
    notes = () if groups[1].std else ("control has no spread, so there is no ratio",)
    ratio = float(groups[0].std or 0) / groups[1].std if groups[1].std else math.inf
    return Spread(test, *groups, ratio, None, float(found.statistic), df, float(found.pvalue), notes)


def f_test(treated: Group, control: Group, *, confidence: float) -> Spread:
    """F = variance of treated / variance of control, for independent normal groups; values or published summaries."""
    words.probability("confidence", confidence)
    groups = a, b = summarise("treated", treated), summarise("control", control)
    if not a.std or not b.std:
        return Spread("F", *groups, None, None, None, (), None, (_why_not(groups),))
    ratio, df = a.std / b.std, (a.n - 1.0, b.n - 1.0)
    p = 2 * min(float(stats.f.cdf(ratio**2, *df)), float(stats.f.sf(ratio**2, *df)))
    low, high = (ratio / math.sqrt(float(stats.f.isf(tail, *df))) for tail in _tails(confidence))
    return Spread("F", *groups, ratio, Interval(low, high, confidence, "F"), ratio**2, df, min(1.0, p))


def pitman_morgan(
    treated: Mapping[int, float], control: Mapping[int, float], *, confidence: float, missing: Missing = "error"
) -> Spread:
    """Equal variances if sums and differences of the pairs do not correlate (Pitman 1939, Morgan 1939); normal data."""
    words.probability("confidence", confidence)
    pairs = pair(treated, control, missing=missing)
    a, b = np.array(pairs.treated), np.array(pairs.control)
    groups = first, second = summarise("treated", a), summarise("control", b)
    left_out = (f"{words.plural(len(pairs.dropped), 'seed')} without a pair left out",) if pairs.dropped else ()
    if not first.std or not second.std:
        return Spread("Pitman-Morgan t", *groups, None, None, None, (), None, (*left_out, _why_not(groups)))
    apart = 1 - float(np.corrcoef(a, b)[0, 1]) ** 2
    if len(a) < 3 or apart <= 1e-12:
        why = "two pairs are too few" if len(a) < 3 else "one arm follows the other exactly"
        return Spread("Pitman-Morgan t", *groups, None, None, None, (), None, (*left_out, why))
    ratio, df = first.std / second.std, len(a) - 2.0
    statistic = (ratio - 1 / ratio) * math.sqrt(df / apart) / 2
    reach = 1 + 2 * apart * float(stats.t.isf((1 - confidence) / 2, df)) ** 2 / df
    low, high = (ratio * math.sqrt(reach + side * math.sqrt(reach**2 - 1)) for side in (-1, 1))
    p = 2 * float(stats.t.sf(abs(statistic), df))
    found = Interval(low, high, confidence, "Pitman-Morgan")
    return Spread("Pitman-Morgan t", *groups, ratio, found, statistic, (df,), p, left_out, apart)


def _tails(confidence: float) -> tuple[float, float]:
    return (1 - confidence) / 2, (1 + confidence) / 2


def _why_not(groups: tuple[Summary, Summary]) -> str:
    named = dict(zip(("treated", "control"), groups, strict=True))
    unknown = [name for name, group in named.items() if group.std is None]
    if unknown:
        return f"{' and '.join(unknown)}: one value or no published sd, spread unknown"
    flat = [name for name, group in named.items() if group.std == 0]
    return f"all values of {' and of '.join(flat)} are equal" if flat else ""
