"""How many seeds? Power of the two-sided t test, by the noncentral t distribution.

Its tails are integrated here: SciPy's `nct` has no number for the far one from a noncentrality of about 10 on.

One standard deviation means pairs (of the differences) or one sample; two mean independent arms with n seeds in each
(Welch). The difference should be the smallest of interest, not the observed one: power at that only restates p.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy import integrate, special, stats

from dsd.results.statistics import words

MOST = 1_000_000  # seeds beyond which the answer is "too many"


@dataclass(frozen=True)
class Seeds:
    """Seeds (pairs, or seeds in each arm) that find `difference` with probability `power`; None if no number does."""

    n: int | None
    difference: float
    sds: tuple[float, ...]
    power: float
    alpha: float
    sentence: str


def power_of(n: int, *, difference: float, sds: tuple[float, ...], alpha: float) -> float:
    """Probability that the t test at `alpha` finds a true `difference` with n pairs, or n seeds in each arm."""
    words.probability("alpha", alpha)
    if n < 2:
        raise ValueError(f"power needs at least two seeds, got n = {n}")
    variances = [sd**2 for sd in _checked(sds)]
    if not any(variances):
        raise ValueError(f"power needs a spread, got {sds}")
    total = sum(variances)
    df = (n - 1) * total**2 / sum(v**2 for v in variances)
    shift = abs(difference) / math.sqrt(total / n)
    critical = float(stats.t.isf(alpha / 2, df))
    return _beyond(critical, df, shift)


def seeds_needed(*, difference: float, sds: tuple[float, ...], power: float, alpha: float) -> Seeds:
    """The fewest seeds with which the t test finds `difference` with probability `power`, if the spread is `sds`."""
    words.probability("power", power)
    words.probability("alpha", alpha)
    what = "pairs" if len(sds) == 1 else "seeds in each arm"
    if not any(_checked(sds)):
        return Seeds(None, difference, sds, power, alpha, "No spread was observed, so no number of seeds follows.")
    if difference == 0:
        return Seeds(None, difference, sds, power, alpha, f"No number of {what} finds an effect of 0.")
    n = _fewest(lambda seeds: power_of(seeds, difference=difference, sds=sds, alpha=alpha) >= power)
    finds = f"an effect of {words.number(abs(difference))} at {' and '.join(words.sd(sd) for sd in sds)}"
    if n is None:
        return Seeds(None, difference, sds, power, alpha, f"To find {finds}, more than {MOST} {what} are needed.")
    sentence = f"{n} {what} find {finds} with probability {power:g} (two-sided t at {alpha:g})."
    return Seeds(n, difference, sds, power, alpha, sentence)


def fewest_for_ratio(*, ratio: float, power: float, alpha: float, apart: float = 1.0) -> int | None:
    """The fewest seeds in each arm with which the F test finds this ratio of standard deviations; normal data.

    Pairs with a correlation r need fewer, for the Pitman-Morgan test (by a noncentral t): `apart` = 1 - r^2 of them.
    """
    words.probability("power", power)
    words.probability("alpha", alpha)
    words.positive("ratio", ratio)

    def found(n: int) -> bool:
        if apart < 1:
            df, away = max(n - 2, 1), abs(ratio - 1 / ratio) / 2
            critical, shift = float(stats.t.isf(alpha / 2, df)), away * math.sqrt(df / apart)
            return n > 2 and _beyond(critical, df, shift) >= power
        low, high = (float(stats.f.isf(tail, n - 1, n - 1)) / ratio**2 for tail in (1 - alpha / 2, alpha / 2))
        return float(stats.f.cdf(low, n - 1, n - 1) + stats.f.sf(high, n - 1, n - 1)) >= power

    return None if ratio == 1 else _fewest(found)


def _beyond(critical: float, df: float, shift: float) -> float:
    """Probability that |T| > `critical`, both tails, for a noncentral t of this noncentrality.

    T = (Z + shift) / sqrt(V / df), so it is P(V < df ((Z + shift) / critical)^2), averaged over the normal Z.
    """

    def inside(z: float) -> float:
        below = special.gammainc(df / 2, df / 2 * ((z + shift) / critical) ** 2)  # of the chi-square V
        return math.exp(-z * z / 2) / math.sqrt(2 * math.pi) * float(below)

    width = 8 * critical / math.sqrt(2 * df)  # of the step where |z + shift| passes `critical`: narrow for many seeds
    steps = (side * critical - shift + by for side in (-1, 1) for by in (-width, 0, width))
    found = integrate.quad(
        inside, -9, 9, points=[z for z in steps if -9 < z < 9] or None, epsabs=1e-12, epsrel=1e-10, limit=200
    )
    return min(1.0, float(found[0]))


def _checked(sds: tuple[float, ...]) -> tuple[float, ...]:
    if len(sds) not in (1, 2) or not all(0 <= sd < math.inf for sd in sds):
        raise ValueError(f"power needs one or two finite standard deviations, got {sds}")
    return sds


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """The smallest n from 2 to MOST that is enough, if more is never less."""
    low, high = 1, 2
    while not enough(high):
        if high >= MOST:
            return None
        low, high = high, min(2 * high, MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
