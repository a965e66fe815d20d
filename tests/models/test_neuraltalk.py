"""NeuralTalk: its sizes, its cell against a loop by hand, words after the padding, and one step at a time."""

import pytest
import torch

from dsd.models import NeuralTalk
from dsd.sparsity import prunable


def made(**change):
    torch.manual_seed(0)
    size = {"features": 6, "vocabulary": 11, "encoding": 4, "hidden": 5, "dropout": 0.5, "tanh_cell": False} | change
    return NeuralTalk(**size).eval()


def test_sizes_are_the_published_ones():
    """PROTOCOLS 1.5: We 4096 x d, WLSTM (d_in + d_h + 1) x 4 d_h with its row of biases, Wd d_h x V."""
    net = made(features=4096, vocabulary=2538, encoding=256, hidden=256)
    assert sum(p.numel() for p in net.encoder.parameters()) == 4096 * 256 + 256
    assert sum(p.numel() for p in net.lstm.parameters()) == (256 + 256 + 1) * 4 * 256
    assert sum(p.numel() for p in net.decoder.parameters()) == 256 * 2538 + 2538
    assert net.words.weight.numel() == 2538 * 256


def test_the_word_embedding_is_never_pruned():
    assert list(prunable(made())) == ["encoder.weight", "lstm.weight", "decoder.weight"]


@pytest.mark.parametrize("tanh_cell", [False, True])
def test_scores_are_those_of_the_equations(tanh_cell):
    """Gates input, forget, output, candidate over [x, h]; h = o c, or o tanh(c)."""
    net = made(tanh_cell=tanh_cell)
    features, words = torch.randn(1, 6), torch.tensor([[3, 7]])
    h = c = torch.zeros(5)
    expected = []
    for x in (net.encoder(features)[0], net.words.weight[0], net.words.weight[3], net.words.weight[7]):
        gates = net.lstm.weight @ torch.cat([x, h]) + net.lstm.bias
        i, f, o, g = gates[:5].sigmoid(), gates[5:10].sigmoid(), gates[10:15].sigmoid(), gates[15:].tanh()
        c = f * c + i * g
        h = o * (c.tanh() if tanh_cell else c)
        expected.append(net.decoder.weight @ h + net.decoder.bias)
    torch.testing.assert_close(net(features, words)[0], torch.stack(expected[1:]))


def test_step_by_step_says_the_same():
    net = made()
    features, words = torch.randn(3, 6), torch.randint(1, 11, (3, 4))
    whole = net(features, words)
    state, previous = net.look(features), torch.zeros(3, dtype=torch.long)
    for t in range(5):
        scores, state = net.next(previous, state)
        torch.testing.assert_close(scores, whole[:, t])
        previous = words[:, min(t, 3)]


def test_padding_changes_nothing_before_it():
    net = made()
    features, words = torch.randn(2, 6), torch.tensor([[3, 7, -1, -1], [1, 2, 5, 9]])
    alone = net(features[:1], words[:1, :2])
    torch.testing.assert_close(net(features, words)[:1, :3], alone)


def test_the_decoder_starts_with_the_words_frequencies():
    net = made(vocabulary=3)
    net.begin_with_([8, 4, 2])
    torch.testing.assert_close(net.decoder.bias.exp(), torch.tensor([1.0, 0.5, 0.25]))
    with pytest.raises(ValueError, match="need 3 counts"):
        net.begin_with_([1, 2])


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"expected features \(B, 6\)"):
        made()(torch.randn(2, 5), torch.zeros(2, 3, dtype=torch.long))
