"""Codebooks and trained quantization."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dsd import Phase, Phases, Sparse
from dsd.plan import Constant
from dsd.quantization import Codebook, Shared, assign
from dsd.quantization.kmeans import density, forgy, kmeans, linear, plus_plus
from dsd.sparsity import prunable

SELECT = partial(prunable, spare_first_conv=False)
INITS = [linear, density, forgy, plus_plus]
OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=1e-3),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.001),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.001),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.001, momentum=0.9),
}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 30), nn.ReLU(), nn.Linear(30, 5)
    )


def step(model, optimizer, at_work):
    at_work.start_update()
    g = torch.Generator().manual_seed(at_work.update)
    x, y = torch.randn(16, 1, 6, 6, generator=g), torch.randint(5, (16,), generator=g)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()


def weights(model):
    return [model[0].weight, model[3].weight, model[5].weight]


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=60), st.integers(1, 9), st.sampled_from(INITS))
def test_clusters_are_nearest_and_centroids_are_means(values, k, init):
    values = np.asarray(values, np.float32)
    found = kmeans(values, k, init=init, iterations=300)
    index = assign(values, found)
    assert 1 <= len(found) <= k
    assert (np.diff(found) > 0).all()
    distance = np.abs(values[:, None].astype(float) - found)
    assert (distance[np.arange(len(values)), index] == distance.min(1)).all()


@pytest.mark.parametrize("init", INITS)
def test_no_cluster_is_empty_and_lloyd_lowers_the_error(init):
    values = np.random.default_rng(0).laplace(size=20_000).astype(np.float32)
    found = kmeans(values, 32, init=init, iterations=100)
    assert len(found) == 32
    assert np.bincount(assign(values, found), minlength=32).min() > 0
    start = np.sort(init(np.sort(values), 32, np.random.default_rng(0)))
    assert (
        np.square(values - found[assign(values, found)]).mean()
        < np.square(values - start[assign(values, start)]).mean()
    )


def test_corner_cases_of_kmeans():
    assert kmeans(np.array([], np.float32), 4).tolist() == []
    assert kmeans(np.array([3.0, 3.0], np.float32), 4).tolist() == [3.0]
    assert kmeans(np.array([1.0, 2.0, 2.0, 5.0], np.float32), 3).tolist() == [1, 2, 5]
    assert kmeans(np.arange(5, dtype=np.float32), 1).tolist() == [2.0]
    with pytest.raises(ValueError, match="NaN"):
        kmeans(np.array([np.nan, 1.0], np.float32), 1)
    with pytest.raises(ValueError, match="at least one"):
        kmeans(np.ones(3, np.float32), 0)


def test_a_codebook_keeps_zeros_and_never_has_one():
    weight = torch.tensor([[0.0, -1.0, 1.0], [0.0, 0.9, -1.1]])
    book = Codebook.of(weight, 1)
    assert book.values()[0, 0] == 0
    assert torch.allclose(book.values(), torch.tensor([[0.0, -1.05, 0.95], [0.0, 0.95, -1.05]]))
    one = Codebook.of(torch.tensor([-1.0, 1.0, 0.0, 0.0, -2.0, 2.0]), 1, iterations=1)
    assert int((one.values() != 0).sum()) == 4
    assert torch.equal(Codebook.of(torch.zeros(3, 2), 4).values(), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="1 to 16 bits"):
        Codebook.of(weight, 17)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_shared_weights_stay_exactly_equal_and_pruned_ones_zero_after_every_update(name, layout):
    model = net().to(memory_format=layout)
    optimizer = OPTIMIZERS[name](model.parameters())
    plan = [
        Phase("sparse", 1, Constant(0.01), Sparse(0.6, spare_first_conv=False)),
        Phase("shared", 1, Constant(0.01), Shared(2, SELECT, table={"0.*": 3})),
    ]
    at_work = Phases(model, optimizer, plan, 10)
    for _ in range(10):
        step(model, optimizer, at_work)
    masks = [w != 0 for w in weights(model)]
    for _ in range(10):
        before = [w.detach().clone() for w in weights(model)]
        step(model, optimizer, at_work)
        assert [len(w[w != 0].unique()) for w in weights(model)] == [8, 4, 4]
        assert all(torch.equal(w != 0, m) for w, m in zip(weights(model), masks, strict=True))
    assert not torch.equal(before[1], model[3].weight)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_update_is_that_of_a_look_up_table(name):
    """Against autograd through centroid[index], with the centroids as parameters of the same optimizer."""
    model, table = net(), net()
    at_work = Phases(
        model, optimizer := OPTIMIZERS[name](model.parameters()), [Phase("s", 1, Constant(0.01), Shared(3, SELECT))], 20
    )
    at_work.start_update()
    books = at_work.held.books
    centroids = {n: nn.Parameter(b.centroid_K.clone()) for n, b in books.items()}
    index = {n: b.index_N.reshape(b.shape) for n, b in books.items()}
    biases = {n: p for n, p in table.named_parameters() if n.endswith("bias")}
    theirs = OPTIMIZERS[name]([*centroids.values(), *biases.values()])
    for group in theirs.param_groups:
        group["lr"] = 0.01
    for update in range(15):
        step(model, optimizer, at_work)
        g = torch.Generator().manual_seed(update)
        x, y = torch.randn(16, 1, 6, 6, generator=g), torch.randint(5, (16,), generator=g)
        looked_up = {n: c[index[n]] for n, c in centroids.items()} | biases
        theirs.zero_grad()
        nn.functional.cross_entropy(torch.func.functional_call(table, looked_up, (x,)), y).backward()
        theirs.step()
    for n, c in centroids.items():
        assert torch.allclose(model.get_parameter(n), c[index[n]], atol=2e-5)


def test_a_layer_without_a_gradient_keeps_its_latent_weights():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    at_work = Phases(model, optimizer, [Phase("s", 1, Constant(0.1), Shared(2, SELECT, relabel_every=2))], 20)
    step(model, optimizer, at_work)
    latent = at_work.held.latent["0.weight"].clone()
    model[0].weight.requires_grad_(False)
    step(model, optimizer, at_work)
    assert model[0].weight.grad is None
    assert torch.equal(at_work.held.latent["0.weight"], latent)
    assert len(model[0].weight.unique()) <= 4


def test_relabelling_moves_weights_between_clusters_and_says_how_many():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    at_work = Phases(model, optimizer, [Phase("s", 1, Constant(0.5), Shared(2, SELECT, relabel_every=2))], 20)
    for _ in range(20):
        step(model, optimizer, at_work)
        assert max(len(w.unique()) for w in weights(model)) <= 4
    assert set(at_work.held.changed) == {"0.weight", "3.weight", "5.weight"}
    assert 0 < max(at_work.held.changed.values()) < 1


@pytest.mark.parametrize("relabel", [0, 3])
def test_it_goes_on_bit_for_bit_from_a_checkpoint(relabel):
    plan = [Phase("s", 1, Constant(0.05), Shared(3, SELECT, relabel_every=relabel))]
    whole, model, other = net(), net(), net()
    first = torch.optim.SGD(whole.parameters(), lr=0.1, momentum=0.9)
    at_work = Phases(whole, first, plan, 20)
    for _ in range(20):
        step(whole, first, at_work)
    second = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    at_work = Phases(model, second, plan, 20)
    for _ in range(8):
        step(model, second, at_work)
    other.load_state_dict(model.state_dict())
    third = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
    third.load_state_dict(second.state_dict())
    resumed = Phases(other, third, plan, 20)
    resumed.load_state_dict(at_work.state_dict())
    for _ in range(12):
        step(other, third, resumed)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), whole.parameters(), strict=True))


def test_what_does_not_fit_is_said_before_training():
    model = net()
    with pytest.raises(ValueError, match="matches no weight"):
        Phases(
            model,
            torch.optim.SGD(model.parameters(), lr=1),
            [Phase("s", 1, Constant(1), Shared(4, SELECT, table={"x*": 3}))],
            2,
        )
    with pytest.raises(ValueError, match="1 to 16 bits"):
        Shared(0, SELECT)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_centroid_takes_the_mean_of_what_its_members_remember(name):
    """Momentum from before the phase: the first member's alone would move the centroid its own way."""
    line = nn.Linear(6, 1, bias=False)
    optimizer = OPTIMIZERS[name](line.parameters())
    plan = [
        Phase("dense", 1, Constant(1e-6)),
        Phase("shared", 1, Constant(0.1), Shared(1, lambda m: {"weight": m.weight}), reset_optimizer=False),
    ]
    at_work = Phases(line, optimizer, plan, 4)
    for _ in range(4):
        at_work.start_update()
        line.weight.grad = torch.tensor([[-5.0, 5.0, 5.0, 1.0, 1.0, 1.0]])
        optimizer.step()
    with torch.no_grad():
        line.weight.copy_(torch.tensor([[1.0, 1.0, 1.0, -1.0, -1.0, -1.0]]))
    at_work.start_update()
    line.weight.grad = torch.zeros(1, 6)
    optimizer.step()
    moved = line.weight.detach()[0]
    assert len(moved.unique()) == 2
    assert float(moved[0]) <= 1.0, "two of three remember the other direction"


def test_values_that_stay_do_not_move_with_their_labels():
    with pytest.raises(ValueError, match="relabel_every=0"):
        Shared(2, SELECT, relabel_every=1, train=False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sums_over_large_clusters(dtype):
    layer = nn.Linear(200, 200, bias=False).to(dtype)
    held = Shared(1, prunable).enter(layer, evidence={}, seed=0)
    layer.weight.grad = torch.ones_like(layer.weight)
    held.before_step_(torch.optim.SGD(layer.parameters(), lr=0.1))
    (index,) = held.labels().values()
    expected = index.bincount()[index].to(dtype)
    assert torch.equal(layer.weight.grad.reshape(-1), expected)
    assert float(expected.min()) > 10_000
