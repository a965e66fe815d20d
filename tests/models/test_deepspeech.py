"""Deep Speech: the published parameter counts, the recurrent layer against plain autograd, padding that changes nothing."""

import pytest
import torch
from torch import nn

from dsd.models import DeepSpeech1, DeepSpeech2
from dsd.models.recurrent import BidirectionalRecurrent, Scan, SequenceNorm, clipped
from dsd.sparsity import prunable

ONE = {"bins": 161, "width": 1024, "symbols": 29, "context": 11, "stride": 1, "dropout": 0.05}
TWO = {"bins": 161, "channels": 32, "width": 1760, "depth": 7, "symbols": 29, "dropout": 0.0}


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_deep_speech_1_has_the_published_parameters():
    """Han et al., ICLR 2017, Table 6, row by row."""
    with torch.device("meta"):
        net = DeepSpeech1(**ONE)
    rows = [net.conv0, net.fc1, net.fc2, net.recurrent3, net.fc4, net.ctc5]
    assert [count(row) for row in rows] == [1_814_528, 1_049_600, 1_049_600, 3_146_752, 1_049_600, 29_725]
    assert count(net) == 8_139_805


def test_deep_speech_2_has_the_published_parameters():
    """Table 8, row by row, but for its last, 95,054, which no number of symbols gives."""
    with torch.device("meta"):
        net = DeepSpeech2(**TWO)
    rows = [count(net.conv0) + count(net.norm0), count(net.conv1) + count(net.norm1), *map(count, net.recurrent)]
    assert rows == [19_616, 239_168, 8_507_840, *[9_296_320] * 6]
    assert count(net.fc) + count(net.norm) == 3_101_120
    assert count(net) == 67_740_718 - 95_054 + 51_069 == 67_696_733


def test_only_fc_and_recurrent_layers_may_be_pruned():
    with torch.device("meta"):
        one, two = DeepSpeech1(**ONE), DeepSpeech2(**TWO | {"depth": 1})
    recurrent = ["input.weight", "ahead.weight", "back.weight"]
    expected = ["fc1.weight", "fc2.weight", *(f"recurrent3.{n}" for n in recurrent), "fc4.weight"]
    assert list(prunable(one, exclude=["ctc*"])) == expected
    expected = [*(f"recurrent.0.{n}" for n in recurrent), "fc.weight"]
    assert list(prunable(two, exclude=["conv1.weight", "ctc.*"])) == expected


def plain(projected, weight, valid):
    h, out = torch.zeros_like(projected[0]), []
    for t in range(len(projected)):
        h = clipped(projected[t] + h @ weight.t()) * valid[t]
        out.append(h)
    return torch.stack(out)


def test_the_scan_is_plain_autograds():
    torch.manual_seed(0)
    projected = (8 * torch.randn(7, 3, 4, dtype=torch.float64)).requires_grad_()
    weight = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    valid = (torch.arange(7)[:, None] < torch.tensor([7, 4, 1])).double()[..., None]
    ours, theirs = Scan.apply(projected, weight, valid), plain(projected, weight, valid)
    torch.testing.assert_close(ours, theirs)
    assert (ours == 20).any(), "the clip is met"
    upstream = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, (projected, weight), upstream),
        torch.autograd.grad(theirs, (projected, weight), upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    assert torch.autograd.gradcheck(lambda p, w: Scan.apply(p, w, valid), (projected, weight))


def test_directions_share_the_projection_and_are_added():
    torch.manual_seed(0)
    layer = BidirectionalRecurrent(3, 4)
    x = torch.randn(1, 5, 3)
    p = layer.input(x).transpose(0, 1)
    ones = torch.ones(5, 1, 1)
    both = plain(p, layer.ahead.weight, ones) + plain(p.flip(0), layer.back.weight, ones).flip(0)
    torch.testing.assert_close(layer(x, torch.ones(1, 5, dtype=torch.bool)), both.transpose(0, 1))


@pytest.mark.parametrize("kind", ["one", "one, stride 2", "two"])
@pytest.mark.parametrize("training", [False, True])
def test_padding_never_changes_a_result(kind, training):
    """Not in the batch's statistics either: the same utterances in a longer batch, with noise behind their ends."""
    torch.manual_seed(0)
    if kind == "two":
        net = DeepSpeech2(**TWO | {"bins": 21, "channels": 2, "width": 8, "depth": 2})
    else:
        net = DeepSpeech1(**ONE | {"bins": 21, "width": 8, "stride": 2 if "stride" in kind else 1, "dropout": 0.0})
    net.train(training)
    x, lengths = torch.randn(3, 30, 21), torch.tensor([30, 17, 8])
    longer = torch.cat([x, 100 * torch.randn(3, 13, 21)], 1)
    for row, end in enumerate(lengths):
        longer[row, end:] = 100 * torch.randn(43 - end, 21)
    (a, after), (b, also) = net(x, lengths), net(longer, lengths)
    assert after.tolist() == also.tolist()
    for row, end in enumerate(after):
        torch.testing.assert_close(a[row, :end], b[row, :end], rtol=1e-4, atol=1e-5)


def test_sequence_norm_is_batchnorm_of_the_frames():
    norm, x = SequenceNorm(4), torch.randn(2, 5, 4)
    valid = torch.arange(5) < torch.tensor([[5], [2]])
    found = norm(x, valid)
    torch.testing.assert_close(found[valid], nn.BatchNorm1d(4)(x[valid]))
    assert (found[~valid] == 0).all()


def test_bfloat16_is_near_float32():
    torch.manual_seed(0)
    net = DeepSpeech1(**ONE | {"bins": 21, "width": 32, "dropout": 0.0})
    x, lengths = torch.randn(2, 20, 21), torch.tensor([20, 11])
    exact = net(x, lengths)[0]
    with torch.autocast("cpu", torch.bfloat16):
        near = net(x, lengths)[0]
    assert near.dtype == torch.bfloat16
    near.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters())
    torch.testing.assert_close(near.float(), exact, rtol=0.1, atol=0.1)


def test_wrong_shapes_are_named():
    net = DeepSpeech1(**ONE | {"width": 8})
    with pytest.raises(ValueError, match=r"\(B, T, 161\)"):
        net(torch.randn(2, 9, 80), torch.tensor([9, 9]))
    with pytest.raises(ValueError, match=r"1\.\.9 frames"):
        net(torch.randn(2, 9, 161), torch.tensor([9, 10]))
