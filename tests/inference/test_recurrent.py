"""Recurrent layers of torch's, step by step over matrices in other forms, give what torch gives."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.rnn import pack_padded_sequence

import dsd
from dsd.compression import compress
from dsd.inference import Coded, Looked, convert_, loading, resident
from dsd.inference.recurrent import SequenceOf, sequential

KINDS = [
    nn.LSTM(5, 7, num_layers=2, bidirectional=True),
    nn.LSTM(5, 7, batch_first=True, bias=False),
    nn.GRU(5, 7, bidirectional=True, batch_first=True),
    nn.GRU(5, 7, num_layers=2),
    nn.RNN(5, 7, nonlinearity="relu"),
    nn.RNN(5, 7, bidirectional=True),
]


def flat(out):
    """All tensors of what a recurrent layer returns."""
    tensors, states = out
    return [
        *(tensors if isinstance(tensors, tuple) else (tensors,)),
        *(states if isinstance(states, tuple) else (states,)),
    ]


def same(layer, *arguments):
    with torch.no_grad():
        expected = flat(layer(*arguments))
    made = SequenceOf(layer)
    made.flatten_parameters()  # as networks do for cuDNN
    for key in (
        "mode",
        "input_size",
        "hidden_size",
        "num_layers",
        "bias",
        "batch_first",
        "dropout",
        "bidirectional",
        "proj_size",
    ):
        assert getattr(made, key) == getattr(layer, key)
    found = flat(made(*arguments))
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layer", KINDS, ids=str)
def test_sequences_with_and_without_a_first_state_or_a_batch(layer):
    x = torch.randn(3, 4, 5)
    batch = 3 if layer.batch_first else 4
    number = layer.num_layers * (2 if layer.bidirectional else 1)
    h, h1 = torch.randn(number, batch, 7), torch.randn(number, 7)
    state, state1 = ((h, h + 1), (h1, h1 + 1)) if isinstance(layer, nn.LSTM) else (h, h1)
    same(layer, x)
    same(layer, x, state)
    same(layer, x[0])
    same(layer, x[0], state1)


@pytest.mark.parametrize("layer", KINDS, ids=str)
@pytest.mark.parametrize("sorted_", [True, False])
def test_sequences_of_different_lengths(layer, sorted_):
    lengths = torch.tensor([6, 4, 4, 1] if sorted_ else [4, 1, 6, 4])
    packed = pack_padded_sequence(torch.randn(6, 4, 5), lengths, enforce_sorted=sorted_)
    h = torch.randn(layer.num_layers * (2 if layer.bidirectional else 1), 4, 7)
    same(layer, packed)
    same(layer, packed, (h, h + 1) if isinstance(layer, nn.LSTM) else h)


class Tagger(nn.Module):
    """Words in, a score a word out."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 40)
        self.lstm = nn.LSTM(40, 60, bidirectional=True, batch_first=True)
        self.out = nn.Linear(120, 10)

    def forward(self, words_BT):
        return self.out(self.lstm(self.words(words_BT))[0])


def tagger():
    torch.manual_seed(0)
    net = Tagger().eval()
    for name, weight in net.named_parameters():
        if "weight" in name and "words" not in name:
            weight.data = (weight * 50).round() / 50 * (torch.rand_like(weight) < 0.1)
    return net


@pytest.mark.parametrize("form", ["dense", "sparse", "codebook"])
def test_a_network_with_an_lstm_gives_the_same_from_its_archive(form):
    net, words = tagger(), torch.randint(0, 50, (3, 9))
    found = dsd.load(compress(net.state_dict()).data, form=form, net=Tagger())
    with torch.no_grad():
        torch.testing.assert_close(found(words), net(words), atol=1e-5, rtol=1e-5)
    assert isinstance(found.lstm, SequenceOf if form == "codebook" else nn.LSTM | SequenceOf)
    assert (resident(found) < resident(net) / 3) == (form == "codebook" or isinstance(found.lstm, SequenceOf))


@pytest.mark.parametrize("way", ["whole", "steps"])
def test_the_clock_decides_whether_an_lstm_is_sparse(monkeypatch, way):
    monkeypatch.setattr(
        loading, "fastest", lambda ways: way if way in ways else "sparse" if "whole" not in ways else "whole"
    )
    net = tagger()
    parts = {part.name: part for part in convert_(copy.deepcopy(net), form="sparse")}
    form = {"whole": "dense", "steps": "sparse"}[way]
    assert {parts[f"lstm.hiddens.{n}"].form for n in (0, 1)} == {form}
    assert (parts["lstm.hiddens.0"].bytes == 4 * 240 * 60) == (way == "whole")


def test_what_may_go_step_by_step():
    pruned = nn.LSTM(5, 7)
    prune.l1_unstructured(pruned, "weight_hh_l0", 0.5)
    net = nn.ModuleList([nn.LSTM(5, 7), nn.LSTM(5, 7, proj_size=3), nn.GRU(5, 7).double(), pruned, nn.RNN(5, 7)])
    assert list(sequential(net)) == ["0", "4"]
    with pytest.raises(ValueError, match=r"wrap it, nn\.Sequential"):
        convert_(nn.GRU(5, 7), form="sparse")


@pytest.mark.parametrize("way", ["looked", "coded"])
def test_a_byte_for_every_weight_is_looked_up_once_a_sequence(monkeypatch, way):
    monkeypatch.setattr(loading, "fastest", lambda ways: way)
    net, words, calls = tagger(), torch.randint(0, 50, (3, 9)), []
    with torch.no_grad():
        expected = net(words)
    convert_(net, form="codebook")
    matrix = net.lstm.hiddens[0].matrix
    real = type(matrix).dense
    monkeypatch.setattr(type(matrix), "dense", lambda self: calls.append(self) or real(self))
    torch.testing.assert_close(net(words), expected, atol=1e-5, rtol=1e-5)
    assert isinstance(matrix, {"looked": Looked, "coded": Coded}[way])
    assert calls.count(matrix) == (way == "looked")


@pytest.mark.parametrize(
    ("layer", "state", "found"),
    [
        (nn.LSTM(5, 4, num_layers=2), (torch.zeros(2, 1, 4),) * 2, r"\(2, 2, 4\); found \[\(2, 1, 4\), \(2, 1, 4\)\]"),
        (nn.LSTM(5, 4, num_layers=2), (torch.zeros(3, 2, 4),) * 2, r"\(3, 2, 4\)"),
        (nn.LSTM(5, 4, num_layers=2), torch.zeros(2, 2, 2, 4), r"\(h, c\), each of shape"),
        (nn.GRU(5, 4), (torch.zeros(1, 2, 4),), r"a tensor of shape \(1, 2, 4\); found \['tuple'\]"),
        (nn.RNN(5, 4), torch.zeros(1, 4), r"found \[\(1, 4\)\]"),
    ],
    ids=["another batch", "a layer too many", "one tensor", "a tuple", "no batch"],
)
def test_a_state_of_another_shape_is_refused(layer, state, found):
    with pytest.raises(ValueError, match=found):
        SequenceOf(layer)(torch.zeros(3, 2, 5), state)
