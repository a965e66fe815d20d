"""Pairs by seed, groups and summaries: what may go in, and the errors that name what may not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsd.results.statistics import Summary, normality, pair, paired_t, welch
from dsd.results.statistics.sample import summarise

metric = st.floats(0, 100)
arms = st.dictionaries(st.integers(0, 50), st.tuples(metric, metric), min_size=1)


@settings(deadline=None)
@given(arms)
def test_differences_are_treated_minus_control_in_the_order_of_the_seeds(
    values: dict[int, tuple[float, float]],
) -> None:
    shuffled = dict(reversed(values.items()))
    pairs = pair({s: v[0] for s, v in values.items()}, {s: v[1] for s, v in shuffled.items()})
    assert pairs.seeds == tuple(sorted(values))
    np.testing.assert_allclose(pairs.differences, [values[s][0] - values[s][1] for s in pairs.seeds], atol=1e-10)


@settings(deadline=None)
@given(arms)
def test_swapping_the_arms_turns_every_difference(values: dict[int, tuple[float, float]]) -> None:
    treated, control = ({s: v[i] for s, v in values.items()} for i in (0, 1))
    assert (pair(treated, control).differences == -pair(control, treated).differences).all()


@settings(deadline=None)
@given(st.integers(1, 1000), st.lists(st.integers(0, 10000), min_size=1, max_size=40))
def test_equal_differences_are_equal_although_floating_point_rounds(step: int, hundredths: list[int]) -> None:
    control = {seed: k / 100 for seed, k in enumerate(hundredths)}
    treated = {seed: (k + step) / 100 for seed, k in enumerate(hundredths)}
    assert len(set(pair(treated, control).differences)) == 1
    assert (pair({s: v + 0.1 - 0.1 for s, v in control.items()}, control).differences == 0).all()


def test_real_differences_stay_apart() -> None:
    differences = pair({0: 8.0, 1: 8.1, 2: 8.1 + 1e-12}, {0: 8.1, 1: 8.0, 2: 8.0}).differences
    assert len(set(np.abs(differences))) == 2
    assert list(np.sign(differences)) == [-1, 1, 1]


def test_missing_pairs_are_named_or_dropped_and_counted() -> None:
    treated, control = {0: 1.0, 1: 2.0, 2: 4.0, 5: 1.0}, {1: 1.0, 0: 2.0, 2: 0.5, 7: 3.0}
    with pytest.raises(ValueError, match=r"treated has no seed \[7\]; control has no seed \[5\]"):
        pair(treated, control)
    pairs = pair(treated, control, missing="drop")
    assert pairs.seeds == (0, 1, 2)
    assert pairs.dropped == (5, 7)
    answer = paired_t(treated, control, confidence=0.95, missing="drop")
    assert answer.effect.dropped == (5, 7)
    assert "over 3 pairs" in answer.sentence
    assert "2 seeds without a pair left out" in answer.sentence


@pytest.mark.parametrize("missing", ["error", "drop"])
def test_no_common_seed_is_an_error(missing: str) -> None:
    with pytest.raises(ValueError, match=r"no pairs|missing pairs"):
        pair({0: 1.0}, {1: 1.0}, missing=missing)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no seed in common"):
        pair({}, {}, missing=missing)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("missing", ["error", "drop"])
def test_a_run_that_diverged_is_named_and_never_dropped(bad: float, missing: str) -> None:
    with pytest.raises(ValueError, match=r"control\[3\] is -?(nan|inf)"):
        pair({2: 1.0, 3: 1.0}, {2: 1.0, 3: bad}, missing=missing)  # type: ignore[arg-type]


def test_groups_at_the_boundary() -> None:
    with pytest.raises(ValueError, match=r"treated\[1\] is nan"):
        welch([1.0, math.nan], [1.0, 2.0], confidence=0.95)
    with pytest.raises(ValueError, match="control has no values"):
        welch([1.0, 2.0], [], confidence=0.95)
    with pytest.raises(TypeError, match="treated must be the values themselves, got dict"):
        welch({0: 1.0, 1: 2.0}, [1.0, 2.0], confidence=0.95)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a number, got str"):
        welch(["1", "2"], [1.0, 2.0], confidence=0.95)  # type: ignore[list-item]
    with pytest.raises(TypeError, match="got Summary"):
        normality(Summary(16, 8.0, 0.1), alpha=0.05)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='"error" or "drop"'):
        pair({0: 1.0}, {0: 1.0}, missing="ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="confidence"):
        welch([1.0, 2.0], [1.0, 2.0], confidence=95)


@pytest.mark.parametrize(
    ("n", "mean", "std", "message"),
    [
        (0, 1.0, 0.1, "at least one value"),
        (5, math.nan, 0.1, "mean is nan"),
        (5, 1.0, -0.1, "not negative"),
        (5, 1.0, math.inf, "std is inf"),
        (1, 1.0, 0.1, "one value has no standard deviation"),
    ],
)
def test_an_impossible_summary_is_an_error(n: int, mean: float, std: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Summary(n, mean, std)


def test_summaries_use_n_minus_1_and_know_a_group_without_spread() -> None:
    assert summarise("x", [1.0, 2.0, 3.0, 4.0]) == Summary(4, 2.5, math.sqrt(5 / 3))
    assert summarise("x", [0.1 + 0.2, 0.3, 0.3]).std == 0
    assert summarise("x", np.array([3.0])) == Summary(1, 3.0, None)
