import pytest
import torch
from torch import nn

from dsd.models import LeNet5, LeNet300


def lenet300(side: int = 28) -> LeNet300:
    return LeNet300(num_classes=10, channels=1, side=side, hidden=[300, 100])


def lenet5(side: int = 28) -> LeNet5:
    return LeNet5(num_classes=10, channels=1, side=side, widths=[20, 50, 500])


def weights(model: nn.Module) -> dict[str, int]:
    return {name: p.numel() for name, p in model.named_parameters() if name.endswith("weight")}


def test_lenet300_has_the_published_weights() -> None:
    model = lenet300()
    assert weights(model) == {"fc1.weight": 235_200, "fc2.weight": 30_000, "fc3.weight": 1_000}
    assert sum(p.numel() for p in model.parameters()) == 266_610


def test_lenet5_has_the_published_weights() -> None:
    model = lenet5()
    assert weights(model) == {
        "conv1.weight": 500,
        "conv2.weight": 25_000,
        "fc1.weight": 400_000,
        "fc2.weight": 5_000,
    }
    assert sum(p.numel() for p in model.parameters()) == 431_080


@pytest.mark.parametrize("model", [lenet300(), lenet5()])
def test_weights_start_from_caffes_xavier(model: nn.Module) -> None:
    for layer in model.children():
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        bound = (3 / layer.weight[0].numel()) ** 0.5
        assert 0.9 * bound < layer.weight.abs().max().item() <= bound
        assert not layer.bias.any()


@pytest.mark.parametrize("model", [lenet300(), lenet5(), lenet5(16), lenet5(33), lenet300(8)])
def test_logits_have_a_row_an_image_and_all_weights_learn(model: LeNet300 | LeNet5) -> None:
    logits = model(torch.rand(3, 1, model.side, model.side))
    logits.square().sum().backward()
    assert logits.shape == (3, 10)
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_lenet300_is_linear_only_in_its_last_layer() -> None:
    model = lenet300()
    images = torch.rand(2, 1, 28, 28)
    expected = model.fc3(torch.relu(model.fc2(torch.relu(model.fc1(images.flatten(1))))))
    assert torch.equal(model(images), expected)


@pytest.mark.parametrize("model", [lenet300(), lenet5()])
@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (2, 1, 32, 32), (2, 784), (2, 1, 14, 56)])
def test_images_of_another_shape_are_an_error(model: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(N, 1, 28, 28\)"):
        model(torch.rand(shape))


def test_lenet5_cannot_be_built_for_tiny_images_or_two_widths() -> None:
    with pytest.raises(ValueError, match="16 pixels"):
        lenet5(15)
    with pytest.raises(ValueError, match="three widths"):
        LeNet5(num_classes=10, channels=1, side=28, widths=[20, 50])
