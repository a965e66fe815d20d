"""Is treated different from control? Every p is two-sided; the direction of a claim is the verdict's business.

Paired by seed: t, Wilcoxon signed-rank, permutation of signs. Unpaired: Welch, Student, permutation of labels.
The t tests need a spread. The rank and permutation tests do not, so they answer where every seed differs alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from dsd.results.statistics import words
from dsd.results.statistics.effect import Effect, difference_of_means, of_pairs, one_sample_effect, unpaired_effect
from dsd.results.statistics.sample import ROUNDING, FloatArray, Group, Missing, Values, pair, values_of

_EXACT = 50  # pairs up to which the signed-rank distribution is counted out; SciPy's own limit


@dataclass(frozen=True)
class Comparison:
    """A test and what it found. `p` is two-sided, and None where the data cannot give one; the sentence says why."""

    test: str
    effect: Effect
    statistic: float | None
    df: float | None
    p: float | None
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        notes = self.effect.notes + self.notes
        if self.p is None or self.statistic is None:
            return words.sentence(self.effect.text, notes=words.without_p(notes, self.test))
        found = f"{self.test} {words.number(self.statistic)}"
        df = None if self.df is None else f"df {words.number(self.df)}"
        return words.sentence(self.effect.text, found, df, words.p_value(self.p), notes=notes)


def paired_t(
    treated: Mapping[int, float], control: Mapping[int, float], *, confidence: float, missing: Missing = "error"
) -> Comparison:
    """Student's t on the differences of the pairs."""
    pairs = pair(treated, control, missing=missing)
    effect = of_pairs(pairs, confidence=confidence)
    if effect.standard_error is None:
        return Comparison("paired t", effect, None, None, None)
    found = stats.ttest_1samp(pairs.differences, 0.0)
    return Comparison("paired t", effect, float(found.statistic), effect.df, float(found.pvalue))


def one_sample_t(treated: Group, control: float, *, confidence: float) -> Comparison:
    """Student's t of a group against a constant."""
    return _by_t("one-sample t", one_sample_effect(treated, control, confidence=confidence))


def welch(treated: Group, control: Group, *, confidence: float) -> Comparison:
    """Welch's t: two independent groups whose spreads may differ. A group is its values or its `Summary`."""
    return _by_t("Welch t", unpaired_effect(treated, control, confidence=confidence))


def student(treated: Group, control: Group, *, confidence: float) -> Comparison:
    """Student's t: two independent groups of equal spread. A group is its values or its `Summary`."""
    return _by_t("Student t", unpaired_effect(treated, control, confidence=confidence, pooled=True))


def wilcoxon(
    treated: Mapping[int, float], control: Mapping[int, float], *, confidence: float, missing: Missing = "error"
) -> Comparison:
    """Signed-rank test of the differences; equal pairs are left out and counted.

    Exact up to 50 pairs, ties or not; above that the normal approximation with continuity and tie corrections.
    """
    pairs = pair(treated, control, missing=missing)
    effect = of_pairs(pairs, confidence=confidence)
    nonzero = pairs.differences[pairs.differences != 0]
    equal = len(pairs.seeds) - len(nonzero)
    notes = (f"{words.plural(equal, 'equal pair')} left out of the ranks",) if 0 < equal < len(pairs.seeds) else ()
    if len(nonzero) == 0:
        return Comparison("Wilcoxon W", effect, None, None, None, notes)
    if len(nonzero) <= _EXACT and len(np.unique(np.abs(nonzero))) < len(nonzero):
        statistic, p = _signed_rank_with_ties(nonzero)
    else:
        found = stats.wilcoxon(nonzero, method="exact" if len(nonzero) <= _EXACT else "approx", correction=True)
        statistic, p = float(found.statistic), float(found.pvalue)
    return Comparison("Wilcoxon W", effect, statistic, None, p, notes)


def paired_permutation(
    treated: Mapping[int, float],
    control: Mapping[int, float],
    *,
    confidence: float,
    resamples: int,
    seed: int,
    missing: Missing = "error",
) -> Comparison:
    """Permutation test of the mean difference by its signs; exact if `resamples` >= 2^n, else by random draws."""
    pairs = pair(treated, control, missing=missing)
    effect, values = of_pairs(pairs, confidence=confidence), (*pairs.treated, *pairs.control)
    return _by_permutation(effect, (pairs.differences,), "samples", values, resamples, seed)


def permutation(treated: Values, control: Values, *, confidence: float, resamples: int, seed: int) -> Comparison:
    """Permutation test of the difference of means by labels; exact if `resamples` covers all, else by draws."""
    samples = (values_of("treated", treated), values_of("control", control))
    effect = unpaired_effect(treated, control, confidence=confidence)
    return _by_permutation(effect, samples, "independent", np.concatenate(samples), resamples, seed)


def _by_t(test: str, effect: Effect) -> Comparison:
    if effect.standard_error is None or effect.df is None:
        return Comparison(test, effect, None, None, None)
    statistic = effect.value / effect.standard_error
    return Comparison(test, effect, statistic, effect.df, 2 * float(stats.t.sf(abs(statistic), effect.df)))


def _by_permutation(
    effect: Effect, samples: tuple[FloatArray, ...], kind: str, values: Values, resamples: int, seed: int
) -> Comparison:
    """Means that differ by no more than the `values` were rounded by are equal; SciPy's own p takes them for different."""
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    alike = effect.standard_error is None and effect.value == 0  # equal on every seed, or one value throughout
    if effect.n == 1 or alike:
        return Comparison("permutation", effect, None, None, None)
    found = stats.permutation_test(
        samples,
        np.mean if len(samples) == 1 else difference_of_means,
        permutation_type=kind,
        vectorized=True,
        n_resamples=resamples,
        batch=10_000,
        random_state=np.random.default_rng(seed),
    )
    observed, drawn, rounding = float(found.statistic), found.null_distribution, ROUNDING * float(np.abs(values).max())
    as_extreme = min((drawn <= observed + rounding).sum(), (drawn >= observed - rounding).sum())
    n = sum(map(len, samples))
    every = 2**n if kind == "samples" else math.comb(n, len(samples[0]))
    observed_too = int(every > resamples)  # it is among all arrangements, but not among draws of them
    p = 2 * float(as_extreme + observed_too) / (len(drawn) + observed_too)
    return Comparison("permutation", effect, observed, None, min(1.0, p))


def _signed_rank_with_ties(differences: FloatArray) -> tuple[float, float]:
    """The smaller rank sum, and its exact p over all 2^n signs: the table SciPy uses knows no ties."""
    doubled = np.rint(2 * stats.rankdata(np.abs(differences))).astype(int)  # mid-ranks are halves
    chance = np.ones(1)
    for rank in doubled:
        chance = (np.pad(chance, (0, rank)) + np.pad(chance, (rank, 0))) / 2
    up, down = int(doubled[differences > 0].sum()), int(doubled[differences < 0].sum())
    return min(up, down) / 2, min(1.0, 2 * float(chance[: min(up, down) + 1].sum()))
