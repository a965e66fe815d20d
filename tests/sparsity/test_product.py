"""The kernel gives the bits of a plain product, by any number of threads, and knows when it isn't for it to do."""

import copy

import pytest
import torch
from torch import nn

from dsd.sparsity import Sparse, product
from dsd.sparsity.product import Product

SHAPES = ((300, 784), (100, 301), (7,), (1, 1), (3, 5, 2, 2), (0, 4))


def drawn(shapes=SHAPES):
    draw = torch.Generator().manual_seed(0)
    weights = [torch.randn(shape, generator=draw) for shape in shapes]
    weights[0].view(-1)[:6] = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0, 1e-40, -1.0])
    return weights, [torch.rand(shape, generator=draw) < 0.5 for shape in shapes]


def bits(tensors):
    return [tensor.contiguous().view(torch.int32) for tensor in tensors]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_bits_are_those_of_a_product(threads, count):
    threads(count)
    weights, keep = drawn()
    expected = [w * k.float() for w, k in zip(weights, keep, strict=True)]
    apply = Product(keep)
    for _ in range(2):
        apply(weights)
        assert all(map(torch.equal, bits(weights), bits(expected)))
    assert apply._words
    assert not apply._factors


def test_one_thread_is_enough_where_there_is_no_openmp(threads, monkeypatch):
    threads(2)
    kernel = product._functions()[0]
    monkeypatch.setattr(product, "_functions", lambda: (kernel, None, 0, 0))
    weights, keep = drawn()
    expected = [w * k.float() for w, k in zip(weights, keep, strict=True)]
    Product(keep)(weights)
    assert all(map(torch.equal, bits(weights), bits(expected)))


@pytest.mark.parametrize("change", [torch.Tensor.double, torch.Tensor.bfloat16, torch.Tensor.t])
def test_what_is_not_plain_float32_is_multiplied_all_the_same(change):
    weights, keep = drawn(((64, 48),))
    apply = Product([change(keep[0]) if change is torch.Tensor.t else keep[0]])
    weights = [change(weights[0])]
    expected = weights[0] * apply._keep[0].to(weights[0].dtype)
    apply(weights)
    assert torch.equal(torch.nan_to_num(weights[0]), torch.nan_to_num(expected))
    assert apply._factors
    assert not apply._words


def test_weights_that_move_and_change_their_type_are_found():
    layer = nn.Linear(40, 30)
    held = Sparse(0.5).enter(layer, evidence={}, seed=0)
    for change in (lambda w: w.clone(), lambda w: w.double(), lambda w: w.float()):
        layer.weight.data = change(torch.randn(30, 40))
        held.project_()
        assert torch.equal(layer.weight != 0, held.mask["weight"])


def test_a_copy_has_addresses_of_its_own():
    (weights, keep), (others, _) = drawn(), drawn()
    first = Product(keep)
    first(weights)
    second = copy.deepcopy(first)
    del first
    second(others)
    assert all(map(torch.equal, bits(weights), bits(others)))


class Wrapped(torch.Tensor):
    """A kind of tensor that may keep its numbers elsewhere."""


def test_other_kinds_of_tensors_are_left_to_pytorch():
    weights, keep = drawn(((30, 20),))
    apply = Product(keep)
    apply([weights[0].as_subclass(Wrapped)])
    assert apply._factors
    assert torch.equal(torch.nan_to_num(weights[0]) != 0, keep[0] & (torch.nan_to_num(weights[0]) != 0))


def test_autograd_notices_the_change():
    weight = nn.Parameter(torch.randn(20, 20))
    loss = (weight**2).sum()
    Product([torch.rand(20, 20) < 0.5])([weight])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
