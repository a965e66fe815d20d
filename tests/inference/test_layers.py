"""Layers over a matrix do what torch's layers do."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from dsd.inference.layers import candidates, convertible, replace_, wrapped
from dsd.inference.loading import convert_
from dsd.inference.matrices import Coded, Looked, Rows
from tests.inference.networks import shared_


def ways(layer, form="sparse"):
    return {key: make() for key, make in candidates(layer, form).items()}


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(30, 7), (5, 30)),
        (nn.Linear(30, 7, bias=False), (2, 3, 30)),
        (nn.Linear(30, 7), (30,)),
        (nn.Conv2d(4, 6, 3), (2, 4, 9, 8)),
        (nn.Conv2d(4, 6, 1), (3, 4, 5, 7)),
        (nn.Conv2d(4, 6, 1, stride=2, bias=False), (3, 4, 5, 7)),
        (nn.Conv2d(4, 6, 1, stride=(2, 1)), (3, 4, 5, 7)),
        (nn.Conv2d(4, 6, 1, padding=1), (1, 4, 5, 7)),
        (nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2)), (2, 4, 12, 14)),
        (nn.Conv1d(4, 6, 5, stride=2, padding=2), (2, 4, 21)),
        (nn.Conv1d(4, 6, 3, dilation=2, bias=False), (2, 4, 21)),
        (nn.Conv1d(4, 6, 3, padding=1), (4, 21)),
        (nn.Conv2d(4, 6, 3), (4, 9, 8)),
        (nn.Conv2d(4, 6, (3, 5), padding="same", dilation=(2, 1)), (2, 4, 9, 8)),
        (nn.Conv2d(4, 6, 3, padding="valid"), (2, 4, 9, 8)),
        (nn.Conv1d(4, 6, 4, dilation=2, padding="same"), (2, 4, 21)),
    ],
)
def test_outputs_are_those_of_torch(layer, shape):
    shared_(layer, kept=0.3)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    made = {**ways(layer, "sparse"), **ways(layer, "codebook")}
    assert list(made) == ["dense", "sparse", "looked", *(["coded"] if "coded" in made else [])]
    assert made["dense"] is layer
    with torch.no_grad():
        expected = layer(x)
    for other in list(made.values())[1:]:
        torch.testing.assert_close(other(x), expected, atol=1e-5, rtol=1e-5)
        assert torch.equal(other.weight, layer.weight)


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(4, 6, 3, stride=2, padding="valid"), nn.Conv1d(4, 6, 5, dilation=2, padding=2)]
)
def test_convolutions_say_what_torchs_say(layer):
    shared_(layer, kept=0.3)
    keys = "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"
    for other in ways(layer, "codebook").values():
        assert [getattr(other, key) for key in keys] == [getattr(layer, key) for key in keys]


@pytest.mark.parametrize("form", [Rows, Coded, Looked])
def test_an_input_of_another_width_or_type_is_refused(form):
    weight = (torch.rand(20, 27) < 0.3).float()
    line, image = wrapped(nn.Linear(27, 20), form.of(weight)), wrapped(nn.Conv2d(3, 20, 3), form.of(weight))
    for layer, x in (
        (line, torch.rand(1, 28)),
        (line, torch.rand(1, 26)),
        (image, torch.rand(1, 4, 5, 5)),
        (image, torch.rand(1, 1, 5, 5)),
    ):
        with pytest.raises((ValueError, RuntimeError), match=r"27|channels"):
            layer(x)
    with pytest.raises((ValueError, RuntimeError), match=r"float32|dtype"):
        line(torch.rand(1, 27, dtype=torch.float64))


@pytest.mark.parametrize("form", [Rows, Coded, Looked])
def test_an_output_lies_in_memory_as_torchs_does(form):
    weight = (torch.rand(20, 27) < 0.3).float()
    for bias in (True, False):
        layer, x = nn.Linear(27, 20, bias=bias), torch.rand(4, 7, 27)
        assert wrapped(layer, form.of(weight))(x).stride() == layer(x).stride()


def test_nan_stays_nan_in_a_codebook_network():
    layer = shared_(nn.Linear(64, 50), kept=0.1)
    layer.weight.data[3, 5] = torch.nan
    assert list(candidates(layer, "codebook")) == ["dense", "sparse"]
    for other in ways(layer, "codebook").values():
        assert other(torch.rand(2, 64)).isnan().any(0).nonzero().flatten().tolist() == [3]


def test_a_codebook_of_positions_needs_few_of_them():
    assert "coded" in candidates(shared_(nn.Linear(100, 50), kept=0.2), "codebook")
    assert "coded" not in candidates(shared_(nn.Linear(100, 50), kept=0.5), "codebook")


def test_a_layer_of_too_many_values_is_treated_as_sparse():
    assert list(candidates(nn.Linear(100, 50), "codebook")) == ["dense", "sparse"]


def test_what_may_take_another_form():
    net = nn.ModuleDict({
        "fc": nn.Linear(3, 3), "conv": nn.Conv2d(2, 2, 3), "conv1": nn.Conv1d(2, 2, 3), "groups": nn.Conv2d(2, 2, 3, groups=2),
        "even": nn.Conv2d(2, 2, 4, padding="same"), "circular": nn.Conv2d(2, 2, 3, padding_mode="circular"),
        "narrow": nn.Linear(3, 3).bfloat16(), "words": nn.Embedding(3, 3), "attention": nn.MultiheadAttention(4, 2),
    })  # fmt: skip
    assert list(convertible(net)) == ["fc", "conv", "conv1"]


def test_a_weight_that_an_embedding_has_too_stays():
    words, scores = nn.Embedding(50, 8), nn.Linear(8, 50)
    scores.weight = words.weight
    assert list(convertible(nn.ModuleList([words, scores, nn.Linear(8, 8)]))) == ["2"]


def test_a_replaced_layer_keeps_its_hooks():
    net = nn.Sequential(nn.Linear(3, 3))
    net[0].register_forward_hook(lambda module, inputs, output: output + 1)
    replace_(net, "0", nn.Identity())
    assert torch.equal(net(torch.ones(2)), torch.full((2,), 2.0))


def test_a_hooks_handle_removes_it_from_the_layer_that_came_instead():
    net = nn.Sequential(nn.Linear(3, 3))
    handle = net[0].register_forward_hook(lambda module, inputs, output: output + 1, always_call=True)
    replace_(net, "0", nn.Identity())
    handle.remove()
    assert torch.equal(net(torch.ones(2)), torch.ones(2))
    assert not net[0]._forward_hooks_always_called


@pytest.mark.parametrize("form", ["sparse", "codebook"])
def test_a_network_says_its_dtype_by_its_parameters_and_goes_through_pickle(form):
    net = nn.Sequential(shared_(nn.Linear(300, 100), kept=0.05))
    x = torch.randn(2, 300)
    convert_(net, form=form)
    assert next(net.parameters()).dtype == torch.float32
    assert not any(p.requires_grad for p in net.parameters())
    assert torch.equal(pickle.loads(pickle.dumps(net))(x), net(x))


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("form", [Rows, Coded])
def test_a_layer_without_inputs_gives_its_bias(form):
    layer = nn.Linear(0, 4).requires_grad_(False)
    made = wrapped(layer, form.of(layer.weight))
    for shape in ((2, 0), (2, 3, 0), (0,)):
        assert torch.equal(made(torch.ones(shape)), layer(torch.ones(shape)))


def test_a_shared_layer_is_replaced_everywhere():
    one = nn.Linear(3, 3)
    net = nn.Sequential(one, nn.ReLU(), one)
    replace_(net, "0", new := nn.Linear(3, 3))
    assert net[0] is net[2] is new


def test_a_weight_that_a_hook_makes_of_others_stays():
    layer = prune.l1_unstructured(nn.Linear(30, 7), "weight", 0.9)
    assert not convertible(nn.Sequential(layer))


def test_a_used_layer_is_copied_and_takes_other_weights():
    layer = shared_(nn.Linear(30, 7), kept=0.3)
    made, x = wrapped(layer, Rows.of(layer.weight)), torch.rand(2, 30)
    before = made(x)
    other = copy.deepcopy(made)
    assert torch.equal(other(x), before)
    other.load_state_dict({k: 2 * v if "value" in k else v for k, v in made.state_dict().items()}, assign=True)
    torch.testing.assert_close(other(x) - layer.bias, 2 * (before - layer.bias))
    assert torch.equal(made(x), before)


@pytest.mark.parametrize("form", [Rows, Coded, Looked])
def test_autocast_leaves_the_products_whole(form):
    layer = shared_(nn.Conv2d(3, 20, 3), kept=0.3)
    made, x = wrapped(layer, form.of(layer.weight.flatten(1))), torch.rand(2, 3, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        found = made(x.bfloat16()).float()
    torch.testing.assert_close(found, layer(x), atol=0.05, rtol=0.05)
