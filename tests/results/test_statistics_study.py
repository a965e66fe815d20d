"""Correction over a study, seeds needed, and verdicts: references, the rule case by case, and how often it errs."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower, TTestPower

from dsd.results.statistics import (
    Robust,
    Summary,
    benjamini_hochberg,
    brown_forsythe,
    f_test,
    fewest_for_ratio,
    holm,
    one_sample_t,
    paired_bootstrap,
    paired_permutation,
    paired_t,
    permutation,
    pitman_morgan,
    power_of,
    seeds_needed,
    spread_verdict,
    unpaired_bootstrap,
    verdict,
    welch,
    wilcoxon,
)
from dsd.results.statistics.equivalence import equivalence
from dsd.results.statistics.words import p_value

FINETUNE_HALF, FINETUNE = Summary(16, 8.16, 0.08), Summary(16, 7.97, 0.04)  # PROTOCOLS 1.4
SPARSE_HALF, DSD = Summary(16, 8.12, 0.05), Summary(16, 7.89, 0.03)
Array = NDArray[np.float64]


def by_seed(values: Array | list[float]) -> dict[int, float]:
    return {seed: float(value) for seed, value in enumerate(values)}


def near(hits: Array | list[bool], chance: float) -> None:
    """The rate is `chance`, within 4 binomial standard deviations."""
    assert abs(np.mean(hits) - chance) < 4 * math.sqrt(chance * (1 - chance) / len(hits))


# --- correction ---


@settings(max_examples=10, deadline=None)  # statsmodels collects garbage at every call
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_corrections_are_statsmodels(raw: list[float]) -> None:
    named = {f"claim {i}": p for i, p in enumerate(raw)}
    assert list(holm(named).values()) == pytest.approx(list(multipletests(raw, method="holm")[1]))
    assert list(benjamini_hochberg(named).values()) == pytest.approx(list(multipletests(raw, method="fdr_bh")[1]))
    assert list(holm(named)) == list(named)


def test_a_test_without_p_stays_so_and_counts() -> None:
    assert holm({"a": 0.02, "b": None}) == {"a": 0.04, "b": None}
    assert benjamini_hochberg({"a": 0.02, "b": None}) == {"a": 0.04, "b": None}
    assert holm({}) == benjamini_hochberg({}) == {}
    with pytest.raises(ValueError, match="b: a p lies between 0 and 1, got nan"):
        holm({"a": 0.5, "b": math.nan})


def test_holm_keeps_the_chance_of_any_false_claim_and_bh_their_share() -> None:
    draw = np.random.default_rng(0).uniform(size=(3000, 5))
    adjusted = [holm(by_seed(row)) for row in draw]  # type: ignore[arg-type]
    near([min(p.values()) <= 0.1 for p in adjusted], 1 - (1 - 0.1 / 5) ** 5)
    real = np.random.default_rng(1).uniform(0, 1e-6, (3000, 3))
    found = [benjamini_hochberg(by_seed(row)) for row in np.hstack([draw, real])]  # type: ignore[arg-type]
    false = np.array([sum(p[i] <= 0.1 for i in range(5)) for p in found])
    assert np.mean(false / (false + 3)) == pytest.approx(0.1 * 5 / 8, abs=4 * 0.12 / math.sqrt(3000))


# --- power ---


@pytest.mark.parametrize("size", [0.3, 0.8, 2.0])
@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_power_and_seeds_are_statsmodels(size: float, alpha: float) -> None:
    paired = TTestPower()
    assert power_of(10, difference=size, sds=(1.0,), alpha=alpha) == pytest.approx(
        paired.power(size, 10, alpha), abs=1e-6
    )
    needed = seeds_needed(difference=-size, sds=(1.0,), power=0.8, alpha=alpha)
    assert needed.n == math.ceil(paired.solve_power(size, alpha=alpha, power=0.8))
    unpaired = TTestIndPower()
    assert power_of(10, difference=size, sds=(1.0, 1.0), alpha=alpha) == pytest.approx(
        unpaired.power(size, 10, alpha), abs=1e-6
    )
    needed = seeds_needed(difference=size, sds=(1.0, 1.0), power=0.9, alpha=alpha)
    assert needed.n == math.ceil(unpaired.solve_power(size, alpha=alpha, power=0.9))


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 50), st.floats(0.1, 0.99), st.sampled_from([(1.0,), (0.4, 1.0), (0.0, 2.0)]))
def test_seeds_needed_is_the_fewest(difference: float, power: float, sds: tuple[float, ...]) -> None:
    n = seeds_needed(difference=difference, sds=sds, power=power, alpha=0.05).n
    assert n is not None
    assert power_of(n, difference=difference, sds=sds, alpha=0.05) >= power
    assert n == 2 or power_of(n - 1, difference=difference, sds=sds, alpha=0.05) < power


def test_seeds_needed_in_words() -> None:
    assert seeds_needed(difference=0.5, sds=(1.0,), power=0.8, alpha=0.05).sentence == (
        "34 pairs find an effect of 0.5 at sd 1 with probability 0.8 (two-sided t at 0.05)."
    )
    nothing = seeds_needed(difference=0.0, sds=(1.0,), power=0.8, alpha=0.05)
    assert nothing.n is None
    assert "No number of pairs finds an effect of 0" in nothing.sentence
    flat = seeds_needed(difference=0.1, sds=(0.0,), power=0.8, alpha=0.05)
    assert flat.n is None
    assert "No spread was observed" in flat.sentence
    tiny = seeds_needed(difference=1e-6, sds=(1.0, 1.0), power=0.8, alpha=0.05)
    assert tiny.n is None
    assert "more than 1000000 seeds in each arm" in tiny.sentence


@pytest.mark.parametrize("sds", [(), (1.0, 1.0, 1.0), (-1.0,), (math.nan,), (math.inf,)])
def test_impossible_spreads_are_errors(sds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="standard deviations"):
        seeds_needed(difference=0.1, sds=sds, power=0.8, alpha=0.05)


def test_power_at_the_boundary() -> None:
    with pytest.raises(ValueError, match="at least two seeds"):
        power_of(1, difference=1.0, sds=(1.0,), alpha=0.05)
    with pytest.raises(ValueError, match="needs a spread"):
        power_of(5, difference=1.0, sds=(0.0,), alpha=0.05)
    assert power_of(5, difference=0.0, sds=(1.0,), alpha=0.05) == pytest.approx(0.05)
    assert power_of(2, difference=1e4, sds=(1.0,), alpha=0.05) == pytest.approx(1)
    assert fewest_for_ratio(ratio=1.0, power=0.8, alpha=0.05) is None


@pytest.mark.parametrize(("n", "sd", "alpha"), [(2, 0.02, 0.05 / 12), (2, 0.03, 0.05 / 12), (4, 0.04, 1e-5)])
def test_power_of_a_large_effect_is_what_simulation_finds(n: int, sd: float, alpha: float) -> None:
    draw = np.random.default_rng(7).normal(1, sd, (20_000, n))
    t = draw.mean(1) / (draw.std(1, ddof=1) / math.sqrt(n))
    near(np.abs(t) > stats.t.isf(alpha / 2, n - 1), power_of(n, difference=1.0, sds=(sd,), alpha=alpha))


@pytest.mark.parametrize("alpha", [0.05, 1e-3, 1e-6])
def test_power_is_the_noncentral_t_where_scipy_has_it(alpha: float) -> None:
    shifts = [5.0, 9.9, 10.1, 20.0, 30.0, 37.0, 38.0, 60.0, 200.0]  # the far tail is below 1e-6 from 5 on
    found = [power_of(3, difference=shift, sds=(math.sqrt(3),), alpha=alpha) for shift in shifts]
    assert found == pytest.approx([stats.nct.sf(stats.t.isf(alpha / 2, 2), 2, shift) for shift in shifts], abs=1e-6)
    assert found == sorted(found)


def test_that_many_seeds_do_find_the_effect() -> None:
    n = seeds_needed(difference=0.1, sds=(0.1, 0.2), power=0.8, alpha=0.05).n
    assert n is not None
    draw = np.random.default_rng(2)
    found = [
        welch(draw.normal(7.9, 0.1, n), draw.normal(8, 0.2, n), confidence=0.95).p < 0.05  # type: ignore[operator]
        for _ in range(1500)
    ]
    near(found, power_of(n, difference=0.1, sds=(0.1, 0.2), alpha=0.05))
    m = fewest_for_ratio(ratio=0.5, power=0.8, alpha=0.05)
    assert m is not None
    wins = [f_test(draw.normal(0, 0.5, m), draw.normal(0, 1, m), confidence=0.95).p < 0.05 for _ in range(1500)]  # type: ignore[operator]
    assert 0.8 - 4 * math.sqrt(0.16 / 1500) < np.mean(wins) < 0.85


@pytest.mark.parametrize("correlation", [0.4, 0.9])
def test_pairs_that_go_together_need_fewer_seeds_for_a_ratio(correlation: float) -> None:
    n = fewest_for_ratio(ratio=0.75, power=0.8, alpha=0.05, apart=1 - correlation**2)
    assert n is not None
    draw, wins = np.random.default_rng(3), []
    for _ in range(600):
        both = draw.multivariate_normal([8, 8], [[0.5625, 0.75 * correlation], [0.75 * correlation, 1]], n)
        wins.append(pitman_morgan(*(dict(enumerate(arm)) for arm in both.T), confidence=0.95).p < 0.05)  # type: ignore[operator]
    assert 0.8 - 4 * math.sqrt(0.16 / 600) < np.mean(wins) < 0.88


# --- verdicts ---


def judge(mean: float, std: float, *, corrected_p: float | None = None, better: str = "lower") -> tuple[str, str]:
    found = one_sample_t(Summary(16, mean, std), 0.0, confidence=0.95)
    answer = verdict(
        "DSD helps",
        found,
        better=better,  # type: ignore[arg-type]
        margin=0.1,
        alpha=0.05,
        power=0.8,
        corrected_p=corrected_p,
    )
    return answer.outcome, answer.sentence


def test_the_rule_case_by_case() -> None:
    outcome, sentence = judge(-0.2, 0.1)
    assert outcome == "supported"
    assert sentence.startswith("DSD helps: supported at n = 16, gain 0.2 (0.1467 to 0.2533), p = ")
    outcome, sentence = judge(-0.06, 0.05)
    assert outcome == "supported"
    assert "though less than the 0.1 of interest" in sentence
    outcome, sentence = judge(0.2, 0.1)
    assert outcome == "not supported"
    assert "it is the reverse: gain -0.2" in sentence
    outcome, sentence = judge(-0.01, 0.1)
    assert outcome == "not supported"
    least = equivalence(one_sample_t(Summary(16, -0.01, 0.1), 0.0, confidence=0.95).effect, margin=0.1, alpha=0.05)
    assert least.p is not None
    assert f"the arms are equivalent (margin 0.1, one-sided {p_value(least.p)}): " in sentence
    outcome, sentence = judge(0.06, 0.1, corrected_p=0.3)
    assert outcome == "not supported"
    assert "a gain that large is excluded (margin 0.1" in sentence, "harm is a claim as well: its p is corrected"
    outcome, sentence = judge(0.06, 0.2)
    assert outcome == "not supported"
    assert "a gain that large is excluded (margin 0.1" in sentence
    outcome, sentence = judge(-0.1, 0.3)
    assert outcome == "undecided"
    assert sentence.startswith("DSD helps: undecided at n = 16, gain 0.1 (-0.05986 to 0.2599), p = 0.2")
    assert sentence.endswith("to find 0.1 takes n = 73.")


def test_direction_is_explicit() -> None:
    assert judge(0.2, 0.1, better="higher")[0] == "supported"
    assert judge(-0.2, 0.1, better="higher")[0] == "not supported"
    with pytest.raises(ValueError, match='"lower" or "higher"'):
        judge(0.2, 0.1, better="more")


@settings(deadline=None)
@given(st.floats(-0.3, 0.3), st.floats(0.01, 0.5))
def test_turning_metric_and_direction_together_changes_nothing(mean: float, std: float) -> None:
    assert judge(mean, std, better="lower") == judge(-mean, std, better="higher")


def test_the_correction_can_take_support_away() -> None:
    assert judge(-0.15, 0.25)[0] == "supported"
    outcome, sentence = judge(-0.15, 0.25, corrected_p=0.09)
    assert outcome == "undecided"
    assert "corrected p = 0.09" in sentence
    with pytest.raises(ValueError, match=r"corrected p \(0.001\) lies between"):
        judge(-0.15, 0.25, corrected_p=0.001)


def test_enough_seeds_and_still_undecided_says_so() -> None:
    assert "n = 10 is enough to find 0.1, so it is smaller or chance hid it" in judge(-0.06, 0.1, corrected_p=0.2)[1]


def test_verdicts_on_degenerate_data() -> None:
    control = by_seed([8.26, 8.11, 7.93, 8.40, 8.05])
    treated = {seed: value - 0.1 for seed, value in control.items()}
    for test in (paired_t, wilcoxon):
        found = test(treated, control, confidence=0.95)
        answer = verdict("DSD helps", found, better="lower", margin=0.1, alpha=0.05, power=0.8)
        assert (answer.outcome, answer.seeds_needed) == ("undecided", None)
    found = paired_t(treated, control, confidence=0.95)
    answer = verdict("DSD helps", found, better="lower", margin=0.1, alpha=0.05, power=0.8, corrected_p=None)
    assert answer.sentence == (
        "DSD helps: undecided at n = 5, gain 0.1; every seed differs by exactly -0.1; no spread, no p (paired t)."
    )


def robustly(treated: dict[int, float], control: dict[int, float]) -> Robust:
    """What a study gives its verdict where the differences are not normal."""
    return Robust(
        paired_permutation(treated, control, confidence=0.95, resamples=999, seed=0),
        paired_bootstrap(treated, control, confidence=0.9, resamples=999, seed=0),
    )


@pytest.mark.parametrize(
    ("gains", "outcome", "says"),
    [
        ([1.0, 1.1, 0.9, 1.0, 6.0, 1.2, 0.8, 1.1], "supported", "; the values are not normal, but the permutation test finds p = 0.0"),
        ([-1.0, -1.1, -0.9, -1.0, -4.0, -1.2, -0.8, -1.1], "not supported", "it is the reverse: gain -1.3"),
        ([10.0, 11.0, 10.5, 10.2, 15.0], "undecided", "p = 0.062, and none below 0.0625 can be found at this n"),
        ([0.01, -0.01, 0.0, 0.02, -0.02, 0.01, 0.0, 0.08], "not supported", "are equivalent (margin 0.1"),
        ([0.0, 0.01, -0.01, 0.0, 0.01, -0.01, 0.0, 0.26], "undecided", "and the bootstrap's 90 % interval is "),
    ],
)  # fmt: skip
def test_t_alone_decides_nothing_where_values_are_not_normal(gains: list[float], outcome: str, says: str) -> None:
    control = {seed: 20.0 for seed in range(len(gains))}
    treated = {seed: 20.0 - gain for seed, gain in enumerate(gains)}
    found = paired_t(treated, control, confidence=0.95)
    judge = partial(verdict, "DSD helps", found, better="lower", margin=0.1, alpha=0.05, power=0.8)
    by_t, answer = judge(), judge(robust=robustly(treated, control))
    assert by_t.outcome == ("not supported" if gains[0] < 0.5 else "supported")
    assert answer.outcome == outcome
    assert says in answer.sentence, answer.sentence


def test_four_against_four_can_decide_and_three_against_three_cannot() -> None:
    for n, outcome in ((4, "supported"), (3, "undecided")):
        treated, control = [1.0 + i / 100 for i in range(n)], [2.0 + i / 100 for i in range(n)]
        robust = Robust(
            permutation(treated, control, confidence=0.95, resamples=999, seed=0),
            unpaired_bootstrap(treated, control, confidence=0.9, resamples=999, seed=0),
        )
        found = welch(treated, control, confidence=0.95)
        answer = verdict("DSD helps", found, better="lower", margin=0.1, alpha=0.05, power=0.8, robust=robust)
        assert answer.outcome == outcome, answer.sentence
        assert ("none below 0.1 can be found" in answer.sentence) == (n == 3), answer.sentence


def test_the_bootstrap_beside_a_verdict_is_at_alpha_a_side() -> None:
    control = {seed: 8.0 for seed in range(8)}
    treated = {seed: 8.0 + value for seed, value in enumerate([0.01, -0.01, 0.0, 0.02, -0.02, 0.01, 0.0, 0.08])}
    found = paired_t(treated, control, confidence=0.95)
    robust = replace(
        robustly(treated, control), bootstrap=paired_bootstrap(treated, control, confidence=0.95, resamples=99, seed=0)
    )
    with pytest.raises(ValueError, match=r"interval at 0\.95 cannot be judged at alpha = 0\.1"):
        verdict("DSD helps", found, better="lower", margin=0.1, alpha=0.05, power=0.8, robust=robust)


def test_the_interval_must_fit_alpha() -> None:
    found = welch(DSD, FINETUNE, confidence=0.9)
    with pytest.raises(ValueError, match=r"interval at 0\.9 cannot be judged at alpha = 0\.05"):
        verdict("DSD helps", found, better="lower", margin=0.1, alpha=0.05, power=0.8)


def test_a_bootstrap_interval_can_be_judged() -> None:
    draw = np.random.default_rng(3)
    control = draw.normal(8, 0.2, 16)
    arms = by_seed(control - draw.exponential(0.1, 16)), by_seed(control)
    effect = paired_bootstrap(*arms, confidence=0.95, resamples=999, seed=0)
    found = replace(paired_t(*arms, confidence=0.95), effect=effect)
    assert verdict("DSD helps", found, better="lower", margin=0.05, alpha=0.05, power=0.8).outcome == "supported"
    assert "BCa interval" in found.sentence


def test_the_published_claims() -> None:
    def say(treated: Summary, control: Summary) -> str:
        found = welch(treated, control, confidence=0.95)
        return verdict("claim", found, better="lower", margin=0.05, alpha=0.05, power=0.8).sentence

    assert say(DSD, FINETUNE) == "claim: supported at n = 16, gain 0.08 (0.05439 to 0.1056), p = 6.5e-07."
    assert say(SPARSE_HALF, FINETUNE_HALF) == (
        "claim: undecided at n = 16, gain 0.04 (-0.008558 to 0.08856), p = 0.102; to find 0.05 takes n = 30."
    )
    among_ten = welch(SPARSE_HALF, FINETUNE_HALF, confidence=0.95)
    found = verdict("claim", among_ten, better="lower", margin=0.05, alpha=0.05, power=0.8, corrected_p=1.0, tests=10)
    spread_ = tuple(group.std or 0.0 for group in among_ten.effect.groups)
    assert found.seeds_needed == seeds_needed(difference=0.05, sds=spread_, power=0.8, alpha=0.005).n == 50
    spread = spread_verdict(
        "DSD lowers the spread", f_test(DSD, FINETUNE, confidence=0.95), ratio=0.75, alpha=0.05, power=0.8
    )
    assert spread.sentence == (
        "DSD lowers the spread: undecided at n = 16, sd ratio 0.75 (0.4433 to 1.269), p = 0.28; "
        "to find 0.75 takes n = 97."
    )


def test_the_rule_for_spread_case_by_case() -> None:
    def say(a: float, b: float, n: int, corrected_p: float | None = None) -> tuple[str, str]:
        found = f_test(Summary(n, 8, a), Summary(n, 8, b), confidence=0.95)
        answer = spread_verdict("s", found, ratio=0.75, alpha=0.05, power=0.8, corrected_p=corrected_p)
        return answer.outcome, answer.sentence

    assert say(0.03, 0.09, 16)[0] == "supported"
    assert say(0.03, 0.09, 16, corrected_p=0.2)[0] == "undecided"
    assert "it is the reverse" in say(0.09, 0.03, 16)[1]
    assert say(0.09, 0.03, 16)[0] == say(0.1, 0.1, 200)[0] == "not supported"
    assert "a ratio as low as 0.75 is excluded" in say(0.1, 0.1, 200)[1]
    outcome, sentence = say(0.175, 0.1, 16, corrected_p=0.19)
    assert (outcome, "reverse" in sentence) == ("not supported", False), (
        "more spread is a claim as well: its p is corrected"
    )
    assert "a ratio as low as 0.75 is excluded: sd ratio 1.75 (1.034 to 2.961), corrected p = 0.19" in sentence
    assert say(0.0, 0.1, 16) == (
        "undecided",
        "s: undecided at n = 16, all values of treated are equal, no p (F).",
    )
    draw = np.random.default_rng(4).normal(8, 1, (2, 30))
    calm, wild = draw[0] * 0.1, draw[1]
    assert spread_verdict("s", brown_forsythe(calm, wild), ratio=0.75, alpha=0.05, power=0.8).outcome == "supported"
    assert spread_verdict("s", brown_forsythe(wild, calm), ratio=0.75, alpha=0.05, power=0.8).outcome == "not supported"


def test_how_often_the_rule_errs() -> None:
    """Without an effect alpha / 2 of all studies are supported; a gain of the margin is refused in alpha at most."""
    draw = np.random.default_rng(5).normal(0, 0.2, (700, 10))
    zero = by_seed([0.0] * 10)

    def outcomes(gain: float) -> list[str]:
        found = (paired_t(by_seed(row - gain), zero, confidence=0.95) for row in draw)
        return [verdict("c", f, better="lower", margin=0.15, alpha=0.05, power=0.8).outcome for f in found]

    near([outcome == "supported" for outcome in outcomes(0.0)], 0.025)
    at_margin = outcomes(0.15)
    near([o == "supported" for o in at_margin], power_of(10, difference=0.15, sds=(0.2,), alpha=0.05))
    assert np.mean([o == "not supported" for o in at_margin]) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 700)
