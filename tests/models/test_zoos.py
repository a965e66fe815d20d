import sys

import pytest
import torch
from torch import Tensor, nn

from dsd.models import timm_model, torchvision_model
from dsd.models.torchvision_zoo import enlarge_map, take_channels_


def test_unknown_torchvision_name_gives_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no network named 'resnet_18'; did you mean .*resnet18"):
        torchvision_model("resnet_18", num_classes=10, channels=3)


def test_detection_networks_are_not_offered() -> None:
    with pytest.raises(ValueError, match="no network named"):
        torchvision_model("fasterrcnn_resnet50_fpn", num_classes=10, channels=3)


def test_a_name_near_nothing_gives_the_extent_of_the_list() -> None:
    with pytest.raises(ValueError, match="from alexnet to"):
        torchvision_model("@@@@", num_classes=10, channels=3)


@pytest.mark.parametrize("option", ["weights", "pretrained"])
def test_trained_weights_come_only_from_init_from(option: str) -> None:
    with pytest.raises(ValueError, match="init_from"):
        torchvision_model("alexnet", num_classes=10, channels=3, **{option: True})
    with pytest.raises(ValueError, match="init_from"):
        timm_model("test_resnet", num_classes=10, channels=3, **{option: True})


def test_unknown_options_are_errors() -> None:
    with pytest.raises(TypeError, match="dropuot"):
        torchvision_model("alexnet", num_classes=10, channels=3, dropuot=0.5)
    with pytest.raises(TypeError, match="drop_rat"):
        timm_model("test_resnet", num_classes=10, channels=3, drop_rat=0.5)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_speak_in_training_only(name: str) -> None:
    with torch.device("meta"):
        model = torchvision_model(name, num_classes=7, channels=3)
        images = torch.rand(2, 3, 75, 75)
        assert all(head.shape == (2, 7) for head in model.train()(images))
        assert isinstance(model.train()(images), tuple)
        assert isinstance(model.eval()(images), Tensor)


def test_without_auxiliary_heads_training_gives_plain_logits() -> None:
    with torch.device("meta"):
        model = torchvision_model("inception_v3", num_classes=7, channels=3, aux_logits=False)
        assert isinstance(model.train()(torch.rand(2, 3, 75, 75)), Tensor)


@pytest.mark.parametrize(("side", "seen"), [(3, 17), (16, 17), (17, 17), (18, 18)])
def test_only_maps_too_small_for_the_auxiliary_head_are_enlarged(side: int, seen: int) -> None:
    x = torch.rand(1, 2, side, side)
    (y,) = enlarge_map(nn.Identity(), (x,))
    assert y.shape == (1, 2, seen, seen)
    assert x.min() <= y.min() <= y.max() <= x.max()
    assert (y is x) == (side >= 17)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_first_convolution_takes_other_channels(channels: int) -> None:
    torch.manual_seed(0)
    model = torchvision_model("resnet18", num_classes=4, channels=channels)
    first = model.get_submodule("conv1")
    assert isinstance(first, nn.Conv2d)
    assert first.weight.shape == (64, channels, 7, 7)
    assert first.weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.1)
    assert model.eval()(torch.rand(2, channels, 32, 32)).shape == (2, 4)


@pytest.mark.parametrize(
    "model",
    [nn.Linear(3, 3), nn.Sequential(nn.Conv2d(4, 8, 3)), nn.Sequential(nn.Conv2d(3, 6, 3, groups=3))],
)
def test_what_cannot_take_other_channels_says_so(model: nn.Module) -> None:
    with pytest.raises(ValueError, match="odd does not begin with"):
        take_channels_(model, 1, "odd")


def test_no_channels_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1 channel"):
        torchvision_model("squeezenet1_1", num_classes=4, channels=0)


def test_initialisation_follows_the_seed() -> None:
    def first(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return next(torchvision_model("squeezenet1_1", num_classes=4, channels=1).parameters())

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


@pytest.mark.parametrize("name", ["test_resnet", "test_resnet.r160_in1k"])
def test_timm_networks_take_classes_and_channels(name: str) -> None:
    model = timm_model(name, num_classes=5, channels=1)
    logits = model(torch.rand(2, 1, 32, 32))
    logits.sum().backward()
    assert logits.shape == (2, 5)


def test_unknown_timm_name_gives_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"timm has no network named 'resnet5O'; did you mean .*resnet50"):
        timm_model("resnet5O", num_classes=10, channels=3)


def test_without_timm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dsd\[timm\]'"):
        timm_model("resnet18", num_classes=10, channels=3)
