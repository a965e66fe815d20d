"""The files of conf/model build the networks of PROTOCOLS, which train at their small size."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

FOLDER = Path(__file__).parents[2] / "conf" / "model"

COUNTS = {  # parameters at 1000 classes (ImageNet) or 10 (MNIST, CIFAR-10)
    "resnet18": (1000, 11_689_512),
    "resnet50": (1000, 25_557_032),
    "googlenet": (1000, 13_004_888),
    "vgg16": (1000, 138_357_544),
    "alexnet": (1000, 61_100_840),
    "inception_v3": (1000, 27_161_264),
    "squeezenet": (1000, 1_248_424),
    "resnet20": (10, 269_722),
    "resnet32": (10, 464_154),
    "resnet44": (10, 658_586),
    "resnet56": (10, 853_018),
    "lenet300": (10, 266_610),
    "lenet5": (10, 431_080),
}
NAMED = {"torchvision": "mobilenet_v3_small", "timm": "test_resnet"}
HEADS = {"googlenet": 3, "inception_v3": 2}
AUX_WEIGHT = {"googlenet": 0.3, "inception_v3": 0.4}


def composed(file: str, num_classes: int, **changes: Any) -> DictConfig:
    config = OmegaConf.load(FOLDER / f"{file}.yaml")
    assert isinstance(config, DictConfig)
    data = {"num_classes": num_classes, "channels": config.network.channels, **changes}
    merged = OmegaConf.merge(config, {"data": data})
    assert isinstance(merged, DictConfig)
    return merged


def heads(output: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return output if isinstance(output, tuple) else (output,)


def test_every_file_is_tested_here() -> None:
    others = {path.stem for path in FOLDER.glob("*.yaml") if "kind" in OmegaConf.load(path).network}
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*COUNTS, *NAMED} | others
    assert others == {"neuraltalk", "deepspeech1", "deepspeech2"}, "tested in their own files"


@pytest.mark.parametrize("file", [*COUNTS, *NAMED])
def test_files_are_of_one_form(file: str) -> None:
    text = (FOLDER / f"{file}.yaml").read_text().splitlines()
    config = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{file}.yaml"))
    assert isinstance(config, dict)
    assert text[:1] == ["# @package _global_"]
    assert config["model"]["num_classes"] == "${data.num_classes}"
    assert config["model"]["channels"] == "${data.channels}"
    assert set(config["network"]) == {"name", "small_size", "channels"}
    assert config["network"]["name"] == {**dict.fromkeys(NAMED, "${model.name}")}.get(file, file)
    assert config.get("task", {}).get("aux_weight") == AUX_WEIGHT.get(file)


@pytest.mark.parametrize("file", COUNTS)
def test_parameters_are_counted(file: str) -> None:
    num_classes, expected = COUNTS[file]
    with torch.device("meta"):
        model = instantiate(composed(file, num_classes).model)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("file", COUNTS)
def test_small_images_train(file: str) -> None:
    config = composed(file, 10)
    with torch.device("meta"):
        model: nn.Module = instantiate(config.model)
    model.to_empty(device="cpu").train()
    for tensor in [*model.parameters(), *model.buffers()]:  # faster than the networks' own initialisation
        tensor.data.fill_(0.01)
    size = config.network.small_size
    outputs = heads(model(torch.rand(4, config.network.channels, size, size)))
    torch.stack([output.logsumexp(1).sum() for output in outputs]).sum().backward()
    assert [output.shape for output in outputs] == [(4, 10)] * HEADS.get(file, 1)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    logits = model.eval()(torch.rand(1, config.network.channels, size, size))
    assert logits.shape == (1, 10)


@pytest.mark.parametrize("file", COUNTS)
def test_grey_images_are_taken(file: str) -> None:
    config = composed(file, 10, channels=1)
    size = config.network.small_size
    with torch.device("meta"):
        logits = instantiate(config.model).eval()(torch.rand(2, 1, size, size))
    assert logits.shape == (2, 10)


@pytest.mark.parametrize("file", NAMED)
def test_any_name_is_built(file: str) -> None:
    config = composed(file, 10)
    config.model.name = NAMED[file]
    assert config.network.name == NAMED[file]
    assert instantiate(config.model).eval()(torch.rand(1, 3, 64, 64)).shape == (1, 10)
