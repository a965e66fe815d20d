"""Spread over seeds and normality: references, degenerate data, level and coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from dsd.results.statistics import Summary, brown_forsythe, f_test, normality, pitman_morgan

FINETUNE, DSD = Summary(16, 7.97, 0.04), Summary(16, 7.89, 0.03)  # PROTOCOLS 1.4
Array = NDArray[np.float64]


def by_seed(values: Array | list[float]) -> dict[int, float]:
    return {seed: float(value) for seed, value in enumerate(values)}


def near(hits: Array | list[bool], chance: float) -> None:
    """The rate is `chance`, within 4 binomial standard deviations."""
    assert abs(np.mean(hits) - chance) < 4 * math.sqrt(chance * (1 - chance) / len(hits))


def test_brown_forsythe_is_scipys() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.normal(8, 0.03, 9), draw.normal(8, 0.06, 16)
    found, expected = brown_forsythe(a, b), stats.levene(a, b, center="median")
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.df == (1, 23)
    assert found.ratio == pytest.approx(a.std(ddof=1) / b.std(ddof=1))


def test_the_published_spreads_do_not_differ_significantly() -> None:
    found = f_test(DSD, FINETUNE, confidence=0.95)
    assert (found.ratio, found.statistic) == pytest.approx((0.75, 0.5625))
    assert found.p == pytest.approx(2 * stats.f.cdf(0.5625, 15, 15))
    assert found.sentence == (
        "treated sd 0.03 (n = 16), control sd 0.04 (n = 16), ratio 0.75, 95 % F interval 0.4433 to 1.269, "
        "F 0.5625, df 15 and 15, p = 0.28."
    )


def test_f_of_values_is_f_of_their_summary_and_turns_with_the_arms() -> None:
    draw = np.random.default_rng(1)
    a, b = draw.normal(8, 1, 6), draw.normal(8, 2, 11)
    found, back = f_test(a, b, confidence=0.9), f_test(b, a, confidence=0.9)
    short = f_test(*(Summary(len(x), float(x.mean()), float(x.std(ddof=1))) for x in (a, b)), confidence=0.9)
    assert (found.p, found.ratio) == pytest.approx((short.p, short.ratio))
    assert found.p == pytest.approx(back.p)
    assert found.interval is not None
    assert back.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((1 / back.interval.high, 1 / back.interval.low))
    for edge in (found.interval.low, found.interval.high):  # the interval holds the ratios that are not rejected
        assert f_test(a / edge, b, confidence=0.9).p == pytest.approx(0.1)


def test_pitman_morgan_is_the_correlation_of_sums_and_differences() -> None:
    draw = np.random.default_rng(2)
    b = draw.normal(8, 1, 12)
    a = 8 + 0.5 * (b - 8) + draw.normal(0, 0.2, 12)
    found, expected = pitman_morgan(by_seed(a), by_seed(b), confidence=0.95), stats.pearsonr(a + b, a - b)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.statistic == pytest.approx(expected.statistic * math.sqrt(10 / (1 - expected.statistic**2)))
    assert found.interval is not None
    edge = pitman_morgan(by_seed(a / found.interval.high), by_seed(b), confidence=0.95)
    assert edge.p == pytest.approx(0.05)  # the interval holds the ratios that are not rejected


def test_spread_of_degenerate_data_is_put_in_words() -> None:
    flat, varied, one = [8.0, 8.0, 8.0], [8.0, 8.1, 8.3], [8.0]
    answers = [
        brown_forsythe(flat, flat),
        brown_forsythe([8.0, 8.1], [8.0, 9.0]),
        brown_forsythe(one, varied),
        f_test(flat, varied, confidence=0.95),
        f_test(one, varied, confidence=0.95),
        f_test(Summary(16, 8.26, None), DSD, confidence=0.95),
        pitman_morgan(by_seed(flat), by_seed(varied), confidence=0.95),
        pitman_morgan(by_seed(varied[:2]), by_seed([8.0, 8.2]), confidence=0.95),
        pitman_morgan(by_seed(varied), by_seed([2 * v for v in varied]), confidence=0.95),
    ]
    assert all(answer.p is None and "no p" in answer.sentence for answer in answers)
    assert "equally far from its median" in answers[1].sentence
    assert "treated: one value" in answers[2].sentence
    assert "all values of treated are equal" in answers[3].sentence
    assert "follows the other exactly" in answers[8].sentence
    assert "control has no spread" in brown_forsythe(varied, flat).sentence
    assert "inf" not in brown_forsythe(varied, flat).sentence
    dropped = pitman_morgan(by_seed([8.0, 8.4, 8.1, 8.2]), by_seed(varied), confidence=0.95, missing="drop")
    assert "1 seed without a pair left out" in dropped.sentence


def test_f_and_pitman_morgan_have_their_level_and_coverage() -> None:
    draw = np.random.default_rng(3)
    b = draw.normal(0, 1, (1200, 10))
    alike = 0.9 * b + math.sqrt(1 - 0.81) * draw.normal(0, 1, b.shape)  # sd 1, correlated 0.9
    near([pitman_morgan(by_seed(x), by_seed(y), confidence=0.95).p < 0.05 for x, y in zip(alike, b, strict=True)], 0.05)
    paired = [
        pitman_morgan(by_seed(0.6 * x), by_seed(y), confidence=0.9).interval for x, y in zip(alike, b, strict=True)
    ]
    near([i.low <= 0.6 <= i.high for i in paired], 0.9)
    apart = draw.normal(0, 1, (1200, 7))
    near([f_test(x, y, confidence=0.95).p < 0.05 for x, y in zip(apart, b, strict=True)], 0.05)
    intervals = [f_test(0.6 * x, y, confidence=0.9).interval for x, y in zip(apart, b, strict=True)]
    near([i.low <= 0.6 <= i.high for i in intervals], 0.9)


def test_brown_forsythe_keeps_its_level_on_heavy_tails_where_f_does_not() -> None:
    draw = np.random.default_rng(4).standard_t(3, (1500, 2, 16))
    robust = np.mean([brown_forsythe(a, b).p < 0.05 for a, b in draw])
    assert 0.02 < robust < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1500)  # known to be a little cautious
    assert np.mean([f_test(a, b, confidence=0.95).p < 0.05 for a, b in draw]) > 0.12


def test_normality_is_scipys_and_warns_plainly() -> None:
    skewed = np.random.default_rng(5).lognormal(0, 1.5, 16)
    found, expected = normality(skewed, alpha=0.05), stats.shapiro(skewed)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.normal is False
    assert found.sentence.startswith("Warning: not normal")
    calm = normality(stats.norm.ppf((np.arange(16) + 0.5) / 16), alpha=0.05)
    assert calm.normal is True
    assert calm.sentence.startswith("No sign against normality")


def test_normality_of_degenerate_data_is_put_in_words() -> None:
    for values, why in (
        ([8.0], "1 value, three"),
        ([8.0, 8.1], "2 values, three"),
        ([8.0] * 5, "all 5 values are equal"),
    ):
        found = normality(values, alpha=0.05)
        assert (found.normal, found.p) == (None, None)
        assert why in found.sentence
    assert "not checked for 5001" in normality(np.arange(5001.0), alpha=0.05).sentence


def test_normality_has_its_level() -> None:
    draw = np.random.default_rng(6).normal(8, 0.1, (2000, 16))
    near([normality(row, alpha=0.05).normal is False for row in draw], 0.05)
