import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dsd.models import ResNetCifar
from dsd.models.resnet_cifar import Block


def counted(model: nn.Module, kind: type[nn.Module]) -> int:
    return sum(p.numel() for layer in model.modules() if isinstance(layer, kind) for p in layer.parameters())


def build(depth: int, width: int = 16, channels: int = 3) -> ResNetCifar:
    with torch.device("meta"):
        return ResNetCifar(depth, num_classes=10, channels=channels, width=width)


def test_resnet20_has_the_parameters_of_the_protocol() -> None:
    model = build(20)
    assert sum(p.numel() for p in model.parameters()) == 269_722
    assert model.conv1.weight.numel() == 432
    assert counted(model, nn.Conv2d) == 267_696
    assert counted(model, nn.Linear) == 650
    assert counted(model, nn.BatchNorm2d) == 1_376


@given(blocks=st.integers(1, 12))
def test_depth_counts_the_convolutions_and_the_classifier(blocks: int) -> None:
    model = build(6 * blocks + 2)
    weighted = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(weighted) == 6 * blocks + 2
    assert all(p.numel() for p in model.parameters())


@pytest.mark.parametrize("depth", [-4, 0, 2, 18, 21, 110 + 1])
def test_other_depths_are_errors(depth: int) -> None:
    with pytest.raises(ValueError, match=f"not {depth}"):
        build(depth)


def test_width_below_one_is_an_error() -> None:
    with pytest.raises(ValueError, match="width"):
        build(20, width=0)


@given(stride=st.sampled_from([1, 2]), width=st.integers(1, 5), more=st.integers(0, 5), side=st.integers(1, 9))
def test_shortcut_keeps_every_second_pixel_and_adds_zeros(stride: int, width: int, more: int, side: int) -> None:
    x = torch.randn(2, width, side, side)
    y = Block(width, width + more, stride).shortcut(x)
    assert torch.equal(y[:, :width], x[:, :, ::stride, ::stride])
    assert not y[:, width:].any()
    assert y.shape == (2, width + more, -(-side // stride), -(-side // stride))


def test_shortcut_stays_channels_last() -> None:
    x = torch.randn(2, 4, 8, 8).contiguous(memory_format=torch.channels_last)
    assert Block(4, 8, 2).shortcut(x).is_contiguous(memory_format=torch.channels_last)


def test_channels_last_computes_the_same() -> None:
    torch.manual_seed(0)
    model = ResNetCifar(8, num_classes=10, channels=3, width=8).eval()
    images = torch.randn(4, 3, 32, 32)
    expected = model(images)
    found = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_block_is_a_residual_of_two_convolutions() -> None:
    torch.manual_seed(0)
    block = Block(4, 4, 1).eval()
    x = torch.randn(2, 4, 6, 6)
    inner: Tensor = F.relu(block.bn1(block.conv1(x)))
    torch.testing.assert_close(block(x), F.relu(x + block.bn2(block.conv2(inner))))


def test_initialisation_is_he_normal_with_fan_out() -> None:
    torch.manual_seed(0)
    model = ResNetCifar(20, num_classes=10, channels=3, width=32)
    weight = model.layer3[1].get_submodule("conv2").weight
    assert isinstance(weight, Tensor)
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    assert not model.fc.bias.any()


def test_any_size_and_channels_train() -> None:
    model = ResNetCifar(8, num_classes=7, channels=1, width=4)
    logits = model(torch.randn(3, 1, 9, 13))
    logits.square().sum().backward()
    assert logits.shape == (3, 7)
    assert all(p.grad is not None for p in model.parameters())
