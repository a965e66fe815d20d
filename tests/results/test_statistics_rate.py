"""Error rates over utterances: the value by hand, intervals that cover the truth, and what is refused."""

import numpy as np
import pytest

from dsd.results import statistics as st

HOW = {"confidence": 0.95, "resamples": 499, "seed": 0}


def test_the_rate_is_of_all_words_not_the_mean_of_the_utterances():
    found = st.rate([1, 0, 4], [1, 5, 4], **HOW)
    assert found.value == pytest.approx(50.0)
    assert found.n == 3
    assert found.interval.low <= 50.0 <= found.interval.high
    assert found.sentence.startswith("Over the 3 utterances: 50 %, 95 % BCa interval ")


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    draw = np.random.default_rng(0)
    covered = 0
    for _ in range(120):
        words = draw.integers(1, 12, 80)
        found = st.rate(list(draw.binomial(words, draw.beta(2, 6, 80))), list(words), **HOW)
        covered += found.interval.low <= 25.0 <= found.interval.high
    assert 103 <= covered <= 120


def test_utterances_that_are_hard_for_both_cancel_in_the_difference():
    draw = np.random.default_rng(1)
    words = draw.integers(2, 12, 100)
    control = draw.binomial(words, draw.beta(0.5, 1.5, 100))
    treated = np.maximum(0, control - (np.arange(100) % 4 == 0))
    words, control, treated = (list(map(int, x)) for x in (words, control, treated))
    found = st.rate_difference(treated, control, words, **HOW)
    alone = st.rate(control, words, **HOW)
    assert found.value == pytest.approx(100 * (sum(treated) - sum(control)) / sum(words))
    assert found.interval.high < 0
    assert found.interval.high - found.interval.low < 0.5 * (alone.interval.high - alone.interval.low)
    assert st.rate_difference(control, control, words, **HOW).interval is None, "no spread, no interval"


def test_the_same_seed_gives_the_same_interval():
    errors, words = [0, 1, 2, 0, 3, 1], [3, 4, 5, 6, 7, 8]
    assert st.rate(errors, words, **HOW) == st.rate(errors, words, **HOW)


def test_two_utterances_are_too_few_for_an_interval():
    assert st.rate([1, 0], [2, 2], **HOW) == st.Rate(25.0, 2, None)


@pytest.mark.parametrize(
    ("errors", "words", "said"),
    [([1], [1, 2], "of 1 utterances, sizes of 2"), ([], [], "something must have been said"), ([0, 0], [0, 0], "something"),
     ([-1, 1], [1, 1], "counts"), ([float("nan"), 1], [1, 1], "counts")],
)  # fmt: skip
def test_what_cannot_be_counts_is_refused(errors, words, said):
    with pytest.raises(ValueError, match=said):
        st.rate(errors, words, **HOW)


def test_options_are_checked():
    with pytest.raises(ValueError, match="resamples"):
        st.rate([1], [1], confidence=0.95, resamples=0, seed=0)
    with pytest.raises(ValueError, match="confidence"):
        st.rate([1], [1], confidence=95, resamples=9, seed=0)
