import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsd.data.split import held_out, shuffled, stratified

labels = st.lists(st.integers(0, 5), min_size=1, max_size=80).map(np.array)


@given(labels, st.data(), st.integers(0, 5))
def test_a_split_is_exact_disjoint_and_fair_to_each_class(labels_N, data, seed):
    count = data.draw(st.integers(0, len(labels_N)))
    kept, held = stratified(labels_N, count, seed=seed)
    assert len(held) == count
    assert sorted([*kept, *held]) == list(range(len(labels_N)))
    fair = np.bincount(labels_N, minlength=6) * count / len(labels_N)
    assert np.all(np.abs(np.bincount(labels_N[held], minlength=6) - fair) < 1)


def test_the_split_follows_its_seed():
    labels_N = np.arange(1000) % 10
    first, again, other = (stratified(labels_N, 100, seed=seed)[1].tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert shuffled(np.arange(9), seed=0).tolist() == shuffled(np.arange(9), seed=0).tolist()


def test_held_out_counts_and_fractions():
    assert [held_out(value, 50) for value in (0, 0.0, 7, 0.1, 0.5)] == [0, 0, 7, 5, 25]


@pytest.mark.parametrize("value", [-1, 50, 51, 1.0, 2.5, -0.1, 0.999])
def test_impossible_validation_is_refused(value):
    with pytest.raises(ValueError, match=f"validation={value}"):
        held_out(value, 50)
