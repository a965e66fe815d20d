"""What may be said of a claim: supported, not supported, or undecided at this n. By rule, not by taste.

The claim: the treatment improves the metric. Its gain is the effect, turned so that positive is better; `margin` is the
smallest gain of interest (the published one, or what the study declares). In this order:

1. supported: corrected p < alpha, and the interval of the gain lies above 0;
2. not supported: the interval of the gain lies below 0 and corrected p < alpha (the opposite holds), or the gain is shown to
   be smaller than the margin (one-sided t at alpha, uncorrected; with the other side as well, TOST, the arms are equivalent);
3. undecided: anything else, a test without a p included; with the seeds that would find the margin, at alpha / the tests of the
   study, which is Holm's strictest step.

Where the values are not normal, t alone decides nothing: given `robust`, 1 and the opposite in 2 need the permutation test's p
(uncorrected) below alpha as well, and an excluded or equivalent gain needs the bootstrap's one-sided limit within the margin as well;
else it is undecided, and the reason says what the other test found.

A gain and its opposite are both positive claims, whose p is corrected for the other tests of the study. The interval must be at
1 - alpha; to judge by another than the t interval, `replace(comparison, effect=paired_bootstrap(...))`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Literal, TypeAlias

from dsd.results.statistics import words
from dsd.results.statistics.comparison import Comparison
from dsd.results.statistics.effect import Effect, Interval
from dsd.results.statistics.equivalence import equivalence
from dsd.results.statistics.power import fewest_for_ratio, seeds_needed
from dsd.results.statistics.spread import Spread

Better: TypeAlias = Literal["lower", "higher"]
Outcome: TypeAlias = Literal["supported", "not supported", "undecided"]


@dataclass(frozen=True)
class Robust:
    """What must agree with a t test of values that are not normal. The bootstrap's interval is at 1 - 2 alpha: alpha a side."""

    permutation: Comparison
    bootstrap: Effect


@dataclass(frozen=True)
class Verdict:
    """One claim judged. `seeds_needed`: pairs or seeds in each arm, for an undecided claim, if a number follows."""

    claim: str
    outcome: Outcome
    reason: str
    n: int
    corrected_p: float | None
    seeds_needed: int | None = None

    @property
    def sentence(self) -> str:
        return f"{self.claim}: {self.outcome} at n = {self.n}, {self.reason}."


def verdict(
    claim: str,
    comparison: Comparison,
    *,
    better: Better,
    margin: float,
    alpha: float,
    power: float,
    corrected_p: float | None = None,
    tests: int = 1,
    robust: Robust | None = None,
) -> Verdict:
    """The claim that treated is better than control. Without `corrected_p` and `tests` it stands alone in its study.

    `robust`: given where the values are not normal.
    """
    if better not in ("lower", "higher"):
        raise ValueError(f'better is "lower" or "higher", got {better!r}')
    words.probability("power", power)
    effect, sign = comparison.effect, 1 if better == "higher" else -1
    tost = equivalence(effect, margin=margin, alpha=alpha)
    p = _corrected(comparison.p, corrected_p)
    gain = sign * effect.value + 0.0  # never -0
    if p is None:
        why = words.without_p(effect.notes + comparison.notes, comparison.test)
        return Verdict(claim, "undecided", f"gain {words.number(gain)}; {'; '.join(why)}", effect.n, None)
    low, high = _at(effect.interval, alpha, sign)
    seen = f"gain {words.number(gain)}{_interval(low, high)}, {_said(p, corrected_p)}"
    gained, lost = p < alpha and low is not None and low > 0, p < alpha and high is not None and high < 0
    if robust is not None and (gained or lost):
        other = robust.permutation.p
        found = "no p" if other is None else words.p_value(other)
        if other is None or other >= alpha:
            reason = f"{seen}; but the values are not normal, and the permutation test finds {found}{_least(robust.permutation, alpha)}"
            return Verdict(claim, "undecided", reason, effect.n, p)
        seen += f"; the values are not normal, but the permutation test finds {found}"
    if gained:
        small = f", though less than the {words.number(margin)} of interest" if gain < margin else ""
        return Verdict(claim, "supported", seen + small, effect.n, p)
    if lost:
        return Verdict(claim, "not supported", f"it is the reverse: {seen}", effect.n, p)
    p_small, p_loss = (tost.p_below, tost.p_above) if sign > 0 else (tost.p_above, tost.p_below)
    if p_small is not None and p_loss is not None and p_small < alpha:
        how, by = ("a gain that large is excluded", p_small)
        if p_loss < alpha:
            how, by = "the arms are equivalent", max(p_small, p_loss)  # both one-sided tests must say so
        reason = f"{how} (margin {words.number(margin)}, one-sided {words.p_value(by)}): {seen}"
        if robust is not None:
            wide, within = _beyond(robust.bootstrap, margin, alpha, sign, both=p_loss < alpha)
            if wide:
                return Verdict(
                    claim, "undecided", f"by t {reason}; but the values are not normal, and {within}", effect.n, p
                )
            reason += f"; the values are not normal, but {within}"
        return Verdict(claim, "not supported", reason, effect.n, p)
    seeds = seeds_needed(
        difference=margin, sds=tuple(group.std or 0.0 for group in effect.groups), power=power, alpha=alpha / tests
    )
    return Verdict(claim, "undecided", f"{seen}; {_need(seeds.n, effect.n, margin)}", effect.n, p, seeds.n)


def spread_verdict(
    claim: str,
    spread: Spread,
    *,
    ratio: float,
    alpha: float,
    power: float,
    corrected_p: float | None = None,
    tests: int = 1,
    robust: Spread | None = None,
) -> Verdict:
    """The claim that treated varies less than control; `ratio` < 1 is the weakest lowering of interest.

    Supported: corrected p < alpha and sd ratio (with its interval, if the test has one) below 1. Not supported: the
    opposite holds by the same rule, or the interval lies above `ratio`. Else undecided.

    `robust`: Brown-Forsythe, given where an arm is not normal. F and Pitman-Morgan trust the normal curve, and one outlier
    is enough to make their p small: unless the p of `robust` (uncorrected) is below alpha as well, it is undecided.
    """
    words.probability("ratio", ratio)
    words.probability("alpha", alpha)
    n, p = min(spread.treated.n, spread.control.n), _corrected(spread.p, corrected_p)
    if p is None or spread.ratio is None:
        return Verdict(claim, "undecided", "; ".join(words.without_p(spread.notes, spread.test)), n, None)
    low, high = _at(spread.interval, alpha, 1)
    seen = f"sd ratio {words.number(spread.ratio)}{_interval(low, high)}, {_said(p, corrected_p)}"
    steadier = p < alpha and spread.ratio < 1 and (high is None or high < 1)
    reverse = p < alpha and spread.ratio > 1 and (low is None or low > 1)
    excluded = low is not None and low > ratio
    if (steadier or reverse or excluded) and robust is not None and (robust.p is None or robust.p >= alpha):
        found = "no p" if robust.p is None else words.p_value(robust.p)
        return Verdict(claim, "undecided", f"{seen}, if the values were normal; {robust.test} finds {found}", n, p)
    if steadier:
        return Verdict(claim, "supported", seen, n, p)
    if reverse:
        return Verdict(claim, "not supported", f"it is the reverse: {seen}", n, p)
    if excluded:
        return Verdict(claim, "not supported", f"a ratio as low as {words.number(ratio)} is excluded: {seen}", n, p)
    needed = fewest_for_ratio(ratio=ratio, power=power, alpha=alpha / tests, apart=spread.apart)
    return Verdict(claim, "undecided", f"{seen}; {_need(needed, n, ratio)}", n, p, needed)


def _least(permutation: Comparison, alpha: float) -> str:
    """What to add to a p that so few seeds cannot bring below alpha, whatever they are."""
    effect = permutation.effect
    if effect.design == "unpaired":
        first, second = (group.n for group in effect.groups)
        least = 2 / comb(first + second, first)
    else:
        least = 2.0 ** (1 - effect.n)
    return f", and none below {words.number(least)} can be found at this n" if least >= alpha else ""


def _beyond(bootstrap: Effect, margin: float, alpha: float, sign: int, *, both: bool) -> tuple[bool, str]:
    """Whether the bootstrap's interval of the gain reaches out of the margin (`both`: of either side), and the interval in words."""
    low, high = _at(bootstrap.interval, 2 * alpha, sign)
    if low is None or high is None:
        return True, "the bootstrap gives no interval"
    wide = high >= margin or (both and low <= -margin)
    return (
        wide,
        f"the bootstrap's {words.number(100 * (1 - 2 * alpha))} % interval is {words.number(low)} to {words.number(high)}",
    )


def _corrected(p: float | None, corrected: float | None) -> float | None:
    if corrected is None or p is None:
        return p
    if not p * (1 - 1e-9) <= corrected <= 1:
        raise ValueError(f"the corrected p ({corrected}) lies between the p of the test ({p}) and 1")
    return corrected


def _said(p: float, corrected: float | None) -> str:
    return words.p_value(p) if corrected is None else f"corrected {words.p_value(p)}"


def _at(interval: Interval | None, alpha: float, sign: int) -> tuple[float | None, float | None]:
    """Low and high end, turned by `sign`; the interval must be at 1 - alpha."""
    if interval is None:
        return None, None
    if abs(interval.confidence - (1 - alpha)) > 1e-9:
        raise ValueError(f"an interval at {interval.confidence:g} cannot be judged at alpha = {alpha:g}")
    low, high = sorted((sign * interval.low, sign * interval.high))
    return low, high


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({words.number(low)} to {words.number(high)})"


def _need(needed: int | None, n: int, of_interest: float) -> str:
    if needed is None:
        return "this spread gives no number of seeds"
    if needed <= n:
        return f"n = {needed} is enough to find {words.number(of_interest)}, so it is smaller or chance hid it"
    return f"to find {words.number(of_interest)} takes n = {needed}"
