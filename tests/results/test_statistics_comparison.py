"""Tests of a difference: SciPy's and the published values, degenerate data, and the rate of false alarms."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from dsd.results.statistics import (
    Comparison,
    Summary,
    one_sample_t,
    paired_permutation,
    paired_t,
    permutation,
    student,
    welch,
    wilcoxon,
)

# PROTOCOLS 1.4, the paper's ResNet-20 table: n = 16, mean error in % and standard deviation
BASELINE = 8.26
FINETUNE_HALF, FINETUNE = Summary(16, 8.16, 0.08), Summary(16, 7.97, 0.04)
SPARSE_HALF, DSD = Summary(16, 8.12, 0.05), Summary(16, 7.89, 0.03)

Array = NDArray[np.float64]


def by_seed(values: Array | list[float]) -> dict[int, float]:
    return {seed: float(value) for seed, value in enumerate(values)}


def arms(n: int, m: int, seed: int = 0) -> tuple[Array, Array]:
    draw = np.random.default_rng(seed)
    return draw.normal(7.9, 0.05, n), draw.normal(7.95, 0.1, m)


def near(hits: Array | list[bool], chance: float) -> None:
    """The rate is `chance`, within 4 binomial standard deviations."""
    assert abs(np.mean(hits) - chance) < 4 * math.sqrt(chance * (1 - chance) / len(hits))


# --- reference values ---


@pytest.mark.parametrize("n", [2, 3, 16, 60])
def test_paired_t_is_scipys(n: int) -> None:
    a, b = arms(n, n)
    found, expected = paired_t(by_seed(a), by_seed(b), confidence=0.9), stats.ttest_rel(a, b)
    assert (found.statistic, found.p, found.df) == pytest.approx((expected.statistic, expected.pvalue, n - 1))
    interval = found.effect.interval
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(tuple(expected.confidence_interval(0.9)))
    assert found.effect.value == pytest.approx((a - b).mean())


@pytest.mark.parametrize(("test", "equal", "name"), [(welch, False, "unequal"), (student, True, "pooled")])
@pytest.mark.parametrize(("n", "m"), [(2, 2), (5, 16), (16, 16)])
def test_unpaired_t_is_scipys_and_statsmodels(
    test: Callable[..., Comparison], equal: bool, name: str, n: int, m: int
) -> None:
    a, b = arms(n, m)
    found, expected = test(a, b, confidence=0.95), stats.ttest_ind(a, b, equal_var=equal)
    assert (found.statistic, found.p, found.df) == pytest.approx((expected.statistic, expected.pvalue, expected.df))
    interval = found.effect.interval
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(
        CompareMeans(DescrStatsW(a), DescrStatsW(b)).tconfint_diff(alpha=0.05, usevar=name)
    )


@pytest.mark.parametrize(("test", "equal"), [(welch, False), (student, True)])
def test_a_summary_gives_what_its_values_give(test: Callable[..., Comparison], equal: bool) -> None:
    a, b = arms(9, 16)
    summaries = [Summary(len(x), float(x.mean()), float(x.std(ddof=1))) for x in (a, b)]
    full, short = test(a, b, confidence=0.95), test(*summaries, confidence=0.95)
    expected = stats.ttest_ind_from_stats(*(v for s in summaries for v in (s.mean, s.std, s.n)), equal_var=equal)
    assert (short.statistic, short.p, short.df) == pytest.approx((full.statistic, full.p, full.df))
    assert (short.statistic, short.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert short.sentence == full.sentence


def test_one_sample_t_is_scipys() -> None:
    a, _ = arms(12, 1)
    found, expected = one_sample_t(a, 7.95, confidence=0.95), stats.ttest_1samp(a, 7.95)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_the_published_table_gives_the_statistics_of_the_protocol() -> None:
    final = welch(DSD, FINETUNE, confidence=0.95)
    assert (final.statistic, final.df, final.p) == pytest.approx((-6.40, 27.8, 6.5e-7), rel=5e-3)
    half = welch(SPARSE_HALF, FINETUNE_HALF, confidence=0.95)
    assert (half.statistic, half.df, half.p) == pytest.approx((-1.70, 25.2, 0.102), rel=5e-3)
    assert one_sample_t(DSD, BASELINE, confidence=0.95).statistic == pytest.approx(-49.3, rel=1e-3)
    assert final.sentence == (
        "treated - control = -0.08 (treated 7.89, sd 0.03, n = 16; control 7.97, sd 0.04, n = 16), "
        "95 % t interval -0.1056 to -0.05439, Welch t -6.4, df 27.82, p = 6.5e-07."
    )


@pytest.mark.parametrize("n", [1, 2, 5, 16, 50, 51, 80])
def test_wilcoxon_is_scipys_without_ties(n: int) -> None:
    a, b = arms(n, n, seed=n)
    method = {True: "exact", False: "approx"}[n <= 50]
    expected = stats.wilcoxon(a - b, method=method, correction=True)
    found = wilcoxon(by_seed(a), by_seed(b), confidence=0.95)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))


@settings(deadline=None)
@given(st.lists(st.integers(-3, 3).filter(bool), min_size=2, max_size=9))
def test_wilcoxon_counts_every_sign_where_sizes_tie(differences: list[int]) -> None:
    ranks = stats.rankdata(np.abs(differences))
    signs = 1 - 2 * (np.arange(2 ** len(ranks))[:, None] >> np.arange(len(ranks)) & 1)
    sums, seen = np.abs(signs @ ranks), abs(float(np.sign(differences) @ ranks))
    found = wilcoxon(by_seed([8 + d / 10 for d in differences]), dict.fromkeys(range(len(ranks)), 8.0), confidence=0.95)
    assert found.p == pytest.approx(float((sums >= seen - 1e-9).mean()))


def test_wilcoxon_leaves_equal_pairs_out_and_says_so() -> None:
    found = wilcoxon({0: 1.0, 1: 2.0, 2: 5.0, 3: 8.0}, {0: 1.0, 1: 1.0, 2: 3.0, 3: 5.0}, confidence=0.95)
    assert found.p == 0.25
    assert "1 equal pair left out of the ranks" in found.sentence


@pytest.mark.parametrize("n", [2, 5, 10])
def test_paired_permutation_counts_every_sign(n: int) -> None:
    a, b = arms(n, n, seed=3)
    signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    expected = np.mean(np.abs(signs @ (a - b)) >= abs((a - b).sum()) * (1 - 1e-12))
    found = paired_permutation(by_seed(a), by_seed(b), confidence=0.95, resamples=1024, seed=0)
    assert found.p == pytest.approx(expected)
    assert found.statistic == pytest.approx((a - b).mean())


def test_permutation_counts_every_split() -> None:
    a, b = np.array([1.0, 2.0, 3.5]), np.array([5.0, 7.0, 9.5])
    found = permutation(a, b, confidence=0.95, resamples=20, seed=0)
    assert found.p == pytest.approx(2 / 20)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(780, 820)] * 2), min_size=3, max_size=6))
def test_means_that_are_equal_but_for_rounding_count_as_equal(hundredths: list[tuple[int, int]]) -> None:
    """Errors come in steps of 0.01 or 0.02 %: many arrangements tie, and in floating point the ties part by 1e-15."""
    left, right = np.array(hundredths).T
    a, b, n = left / 100, right / 100, len(left)
    signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    pooled = np.concatenate([left, right])
    splits = np.array([pooled[list(one)].sum() for one in combinations(range(2 * n), n)])
    for found, drawn, seen in (
        (paired_permutation(by_seed(a), by_seed(b), confidence=0.95, resamples=9999, seed=0), signs @ (left - right), (left - right).sum()),
        (permutation(a, b, confidence=0.95, resamples=9999, seed=0), splits, left.sum()),
    ):  # fmt: skip
        expected = min(1.0, 2 * min(np.mean(drawn <= seen), np.mean(drawn >= seen)))
        assert found.p == (None if found.effect.standard_error is None and found.effect.value == 0 else expected)


def test_random_permutations_need_their_seed_and_are_near_the_exact_p() -> None:
    a, b = arms(14, 14, seed=1)

    def p(resamples: int, seed: int) -> float | None:
        return paired_permutation(by_seed(a), by_seed(b), confidence=0.95, resamples=resamples, seed=seed).p

    exact = p(2**14, 0)
    assert exact is not None
    assert p(4999, 1) == p(4999, 1)
    assert p(4999, 1) != p(4999, 2)
    assert p(4999, 1) == pytest.approx(exact, abs=4 * math.sqrt(exact / 4999))


# --- degenerate data ---


def test_constant_differences_are_put_in_words() -> None:
    control = by_seed([8.26, 8.11, 7.93, 8.40, 8.05])
    treated = {seed: value - 0.1 for seed, value in control.items()}
    found = paired_t(treated, control, confidence=0.95)
    assert found.p is None
    assert found.statistic is None
    assert found.effect.interval is None
    assert "every seed differs by exactly -0.1; no spread, no p" in found.sentence
    ranked = wilcoxon(treated, control, confidence=0.95)
    permuted = paired_permutation(treated, control, confidence=0.95, resamples=32, seed=0)
    assert ranked.p == permuted.p == 2 / 32  # signs need no spread
    assert "no p" not in ranked.sentence + permuted.sentence


@pytest.mark.parametrize(
    "test",
    [paired_t, wilcoxon, lambda a, b, confidence: paired_permutation(a, b, confidence=confidence, resamples=9, seed=0)],
)
def test_equal_arms_are_put_in_words(test: Callable[..., Comparison]) -> None:
    arm = by_seed([8.26, 8.11, 7.93])
    found = test(arm, {seed: value + 0.1 - 0.1 for seed, value in arm.items()}, confidence=0.95)
    assert found.p is None
    assert found.effect.value == 0
    assert "treated and control are equal on every seed; no spread, no p" in found.sentence


def test_one_pair_is_put_in_words() -> None:
    found = paired_t({7: 8.0}, {7: 8.5}, confidence=0.95)
    assert (found.p, found.effect.interval, found.effect.value) == (None, None, -0.5)
    assert "one pair: spread unknown, no p" in found.sentence
    assert paired_permutation({7: 8.0}, {7: 8.5}, confidence=0.95, resamples=9, seed=0).p is None
    assert wilcoxon({7: 8.0}, {7: 8.5}, confidence=0.95).p == 1


@pytest.mark.parametrize("test", [welch, student])
def test_groups_without_a_usable_spread_are_put_in_words(test: Callable[..., Comparison]) -> None:
    flat = test([8.0, 8.0], [8.5, 8.5, 8.5], confidence=0.95)
    assert flat.p is None
    assert "the groups differ by exactly -0.5; no spread, no p" in flat.sentence
    single = test([8.0], [8.5, 8.6], confidence=0.95)
    assert single.p is None
    assert "treated: one value or no published sd; spread unknown, no p" in single.sentence
    assert "control: one value" in test(DSD, Summary(16, 8.26, None), confidence=0.95).sentence
    one_sided = test([8.0, 8.0, 8.0], [8.4, 8.5, 8.6], confidence=0.95)
    assert one_sided.p is not None
    assert 0 < one_sided.p < 0.05


def test_permutation_of_degenerate_groups_is_put_in_words() -> None:
    assert permutation([8.0, 8.0], [8.0, 8.0, 8.0], confidence=0.95, resamples=99, seed=0).p is None
    assert permutation([8.0], [8.5, 8.6, 8.7], confidence=0.95, resamples=99, seed=0).p is None
    assert permutation([8.0] * 4, [9.0] * 4, confidence=0.95, resamples=99, seed=0).p == pytest.approx(2 / 70)
    with pytest.raises(ValueError, match="resamples"):
        permutation([8.0, 9.0], [9.0, 8.0], confidence=0.95, resamples=0, seed=0)


def test_one_value_against_a_constant_is_put_in_words() -> None:
    assert "one value: spread unknown, no p" in one_sample_t([8.0], 8.26, confidence=0.95).sentence
    assert "every value is exactly 8; no spread, no p" in one_sample_t([8.0, 8.0], 8.26, confidence=0.95).sentence
    with pytest.raises(ValueError, match="control is nan"):
        one_sample_t([8.0, 8.1], math.nan, confidence=0.95)


@settings(deadline=None)
@given(st.dictionaries(st.integers(0, 30), st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=1))
def test_any_metrics_give_a_probability_or_words_and_no_warning(cells: dict[int, tuple[int, int]]) -> None:
    treated, control = ({seed: pair[i] / 10 for seed, pair in cells.items()} for i in (0, 1))
    a, b = list(treated.values()), list(control.values())
    answers = [
        paired_t(treated, control, confidence=0.95),
        wilcoxon(treated, control, confidence=0.95),
        paired_permutation(treated, control, confidence=0.95, resamples=20, seed=0),
        welch(a, b, confidence=0.95),
        student(a, b, confidence=0.95),
        permutation(a, b, confidence=0.95, resamples=20, seed=0),
    ]
    assert all(answer.p is None or 0 < answer.p <= 1 for answer in answers)
    assert all(("no p" in answer.sentence) == (answer.p is None) for answer in answers)
    assert not any("nan" in answer.sentence or "inf" in answer.sentence for answer in answers)


# --- false alarms under the null, and coverage ---


def test_paired_t_has_its_level_and_its_coverage() -> None:
    draw = np.random.default_rng(11).normal(0, 1, (1200, 2, 8)) + np.random.default_rng(12).normal(8, 3, (1200, 1, 8))
    answers = [paired_t(by_seed(a), by_seed(b), confidence=0.9) for a, b in draw]
    near([answer.p < 0.05 for answer in answers], 0.05)
    near([i.low <= 0 <= i.high for i in (answer.effect.interval for answer in answers)], 0.9)


def test_welch_has_its_level_where_student_has_not() -> None:
    draw = np.random.default_rng(13)
    groups = [(draw.normal(8, 3, 6), draw.normal(8, 1, 18)) for _ in range(2000)]
    answers = [welch(a, b, confidence=0.95) for a, b in groups]
    near([answer.p < 0.05 for answer in answers], 0.05)
    near([i.low <= 0 <= i.high for i in (answer.effect.interval for answer in answers)], 0.95)
    assert np.mean([student(a, b, confidence=0.95).p < 0.05 for a, b in groups]) > 0.15


def test_student_and_one_sample_t_have_their_level() -> None:
    draw = np.random.default_rng(14).normal(8, 1, (2000, 12))
    near([student(row[:5], row[5:], confidence=0.95).p < 0.05 for row in draw], 0.05)
    near([one_sample_t(row, 8.0, confidence=0.95).p < 0.05 for row in draw], 0.05)


def test_wilcoxon_has_the_level_the_table_allows() -> None:
    draw = np.random.default_rng(15).standard_cauchy((1200, 8))
    zero = dict.fromkeys(range(8), 0.0)
    near([wilcoxon(by_seed(row), zero, confidence=0.95).p <= 0.05 for row in draw], 10 / 256)
    tied = np.random.default_rng(16).integers(-4, 5, (600, 8)) / 100
    rate = np.mean([(wilcoxon(by_seed(row), zero, confidence=0.95).p or 1) <= 0.05 for row in tied])
    assert rate < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)


def test_permutations_have_the_level_their_number_allows() -> None:
    draw = np.random.default_rng(17).exponential(1, (500, 2, 8))
    paired = [
        paired_permutation(by_seed(a), by_seed(b), confidence=0.95, resamples=256, seed=0).p <= 0.05 for a, b in draw
    ]
    near(paired, 12 / 256)
    splits = [permutation(a[:5], b[:5], confidence=0.95, resamples=252, seed=0).p <= 0.05 for a, b in draw]
    near(splits, 12 / 252)
