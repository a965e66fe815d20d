"""Exact counts, ties to the lower index, at any size."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsd.sparsity.top import SAMPLE, count, keep_top

scores = st.lists(st.integers(0, 5), min_size=1, max_size=200).map(lambda v: torch.tensor(v, dtype=torch.float32))


@given(scores, st.floats(0, 1))
def test_exact_count_and_ties_to_the_lower_index(score, density):
    keep = keep_top(score, density)
    k = int(np.floor(density * len(score) + 0.5))
    best = np.argsort(-score.numpy(), kind="stable")[:k]
    assert sorted(best.tolist()) == torch.nonzero(keep).flatten().tolist()


@given(scores, st.floats(0, 1), st.floats(0, 1))
def test_nested(score, a, b):
    low, high = keep_top(score, min(a, b)), keep_top(score, max(a, b))
    assert bool((~low | high).all())


@pytest.mark.parametrize("shape", [(7,), (3, 5), (4, 3, 3, 3), (0,), (1,)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_shape_dtype_and_layout(shape, dtype):
    score = torch.arange(int(np.prod(shape))).reshape(shape).to(dtype)
    keep = keep_top(score, 0.5)
    assert keep.shape == score.shape
    assert keep.dtype == torch.bool
    assert int(keep.sum()) == count(0.5, score.numel())


def test_non_contiguous():
    score = torch.arange(12.0).reshape(3, 4).T
    assert torch.equal(keep_top(score, 0.25), score >= 9)


def test_more_than_2_to_the_24_weights_all_equal():
    """torch.quantile refuses this size, float32 can't count it, and every entry is a tie."""
    n = (1 << 24) + 3
    keep = keep_top(torch.ones(n), 0.5)
    assert int(keep.sum()) == count(0.5, n)
    assert bool(keep[: count(0.5, n)].all())


def test_nan_and_bad_density_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        keep_top(torch.tensor([1.0, float("nan")]), 0.5)
    with pytest.raises(ValueError, match="density"):
        keep_top(torch.ones(3), 1.5)


@pytest.mark.parametrize("kind", ["normal", "sorted", "few values", "one spike", "reversed halves"])
@pytest.mark.parametrize("density", [1e-6, 0.003, 0.5, 0.9999])
def test_the_bracket_is_exact_whatever_the_order(kind, density):
    """A strided sample may mislead; the answer may not."""
    n = 16 * SAMPLE + 12_345
    draw = np.random.default_rng(0)
    score = {
        "normal": lambda: np.abs(draw.normal(size=n)),
        "sorted": lambda: np.arange(n),
        "few values": lambda: draw.integers(0, 3, n),
        "one spike": lambda: np.arange(n) % (n // SAMPLE) != 0,
        "reversed halves": lambda: np.r_[np.arange(n // 2, 0, -1), np.arange(n - n // 2)],
    }[kind]()
    score = score.astype(np.float32)
    k = count(density, n)
    keep = keep_top(torch.from_numpy(score), density).numpy()
    expected = np.zeros(n, bool)
    expected[np.argsort(-score, kind="stable")[:k]] = True
    assert np.array_equal(keep, expected)
