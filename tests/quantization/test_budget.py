"""The best codebook in one dimension, look-ups by a grid, and bits chosen by a budget."""

from functools import partial
from itertools import combinations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dsd.quantization import Codebook, Shared, assign
from dsd.quantization.budget import choices, for_bytes, for_loss, frontier
from dsd.quantization.kmeans import kmeans, linear
from dsd.quantization.optimum import GROUPS, optimal
from dsd.sparsity import prunable

RNG = np.random.default_rng(0)


def error(values, centroid):
    return float(np.square(values[:, None] - np.sort(centroid)).min(1).sum())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=5, max_size=10, unique_by=lambda v: v // 2).map(sorted), st.integers(1, 4))
def test_no_partition_is_better_than_the_optimum(values, k):
    ordered = np.repeat(np.asarray(values, float), 2)[1:]
    cuts = combinations(range(1, len(ordered)), k - 1)
    best = min(sum(((p - p.mean()) ** 2).sum() for p in np.split(ordered, cut)) for cut in cuts)
    assert error(ordered, optimal(ordered, k, RNG)) == pytest.approx(best, abs=1e-9)


def test_the_optimum_of_many_values_is_that_of_the_plain_recursion():
    ordered = np.sort(RNG.laplace(size=150))
    sums, squares = (np.concatenate([[0], np.cumsum(v)]) for v in (ordered, ordered**2))
    best = np.array([0.0, *(squares[m] - sums[m] ** 2 / m for m in range(1, 151))])
    for _ in range(6):
        best = np.array([
            min((best[j] + squares[m] - squares[j] - (sums[m] - sums[j]) ** 2 / (m - j) for j in range(m)), default=0.0)
            for m in range(151)
        ])  # fmt: skip
    assert error(ordered, optimal(ordered, 7, RNG)) == pytest.approx(best[150])


def test_beyond_exact_sizes_it_is_no_worse_than_lloyd_from_any_start():
    values = RNG.laplace(size=5 * GROUPS).astype(np.float32)
    assert error(values, kmeans(values, 16, init=optimal)) < 0.95 * error(values, kmeans(values, 16, init=linear))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 31, 300]), st.sampled_from([1e-30, 1.0, 1e30]))
def test_the_grid_assigns_as_a_search_does(seed, k, scale):
    rng = np.random.default_rng(seed)
    centroid = np.sort(rng.laplace(size=k) * scale).astype(np.float32)
    middle = (centroid[1:].astype(np.float64) + centroid[:-1]) / 2
    values = np.concatenate([rng.laplace(size=70_000) * scale, middle, centroid]).astype(np.float32)
    assert np.array_equal(assign(values, centroid), np.searchsorted(middle, values))


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(60, 40), nn.Linear(40, 10))


def layers():
    weights = {name: p for name, p in net().named_parameters() if p.dim() > 1}
    return {name: choices(w, init=linear, iterations=20, seed=0) for name, w in weights.items()}


def test_more_bits_cost_more_bytes_and_lose_less_at_falling_prices():
    for found in layers().values():
        size, loss = np.array([c.bytes for c in found]), np.array([c.loss for c in found])
        assert len(found) > 3
        assert (np.diff(size) > 0).all()
        assert (np.diff(loss) < 0).all()
        assert (np.diff(np.diff(loss) / np.diff(size)) > 0).all()


def test_the_frontier_is_not_beaten_by_any_allocation():
    found = layers()
    every = [(sum(c.bytes for c in pick), sum(c.loss for c in pick)) for pick in product(*found.values())]
    for step in frontier(found):
        size, loss = (sum(getattr(c, key) for c in step.values()) for key in ("bytes", "loss"))
        assert not [one for one in every if one[0] <= size and one[1] < loss - 1e-12]


def test_a_budget_is_kept_and_one_that_can_not_be_is_refused():
    found = layers()
    bits = for_bytes(found, 1500)
    assert sum(next(c.bytes for c in found[n] if c.bits == b) for n, b in bits.items()) <= 1500
    bits = for_loss(found, 0.01)
    assert sum(next(c.loss for c in found[n] if c.bits == b) for n, b in bits.items()) <= 0.02
    with pytest.raises(ValueError, match="bytes are too few"):
        for_bytes(found, 100)
    with pytest.raises(ValueError, match="8 bits in every layer lose more"):
        for_loss(found, 1e-9)


@pytest.mark.parametrize("how", [{"bytes": 1500}, {"loss": 0.01}])
def test_a_phase_chooses_its_bits_by_the_budget(how):
    model = net()
    held = Shared(bits=1, select=partial(prunable, spare_first_conv=False), **how).enter(model, evidence={}, seed=0)
    want = for_bytes(layers(), 1500) if "bytes" in how else for_loss(layers(), 0.01)
    assert {n: len(b.centroid_K) <= 2 ** want[n] for n, b in held.books.items()} == dict.fromkeys(want, True)
    assert all(len(b.centroid_K) > 2 ** (want[n] - 1) for n, b in held.books.items())


@pytest.mark.parametrize(("how", "said"), [({"bytes": 9, "loss": 0.1}, "not by both"), ({"loss": 0}, "above 0")])
def test_impossible_budgets_are_refused(how, said):
    with pytest.raises(ValueError, match=said):
        Shared(bits=4, select=prunable, **how)


def test_the_optimum_of_many_clusters():
    weight = torch.randn(4_500, generator=torch.Generator().manual_seed(0))
    made = Codebook.of(weight, 12, init=optimal)
    assert len(made.centroid_K) == 4096
    assert float((made.values() - weight).abs().max()) < 0.1
