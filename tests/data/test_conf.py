from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from dsd.data import ImageData, ImageNetData

CONF = Path(__file__).parents[2] / "conf" / "data"


def made(name, **change):
    network = {"channels": 1, "small_size": 28}
    config = OmegaConf.create(
        {"seed": 3, "network": network, "data": OmegaConf.merge(OmegaConf.load(CONF / f"{name}.yaml"), change)}
    )
    return instantiate(config.data)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("embedded", "Embedded"),
        ("mnist", "Mnist"),
        ("fashion_mnist", "FashionMnist"),
        ("cifar10", "Cifar10"),
        ("cifar100", "Cifar100"),
    ],
)
def test_every_set_has_a_node(name, source, monkeypatch):
    monkeypatch.delenv("DSD_DATA", raising=False)
    module = made(name)
    assert isinstance(module, ImageData)
    assert type(module.source).__name__ == source
    assert (module.seed, module.split_seed, module.root) == (3, 0, None)


def test_the_embedded_set_needs_nothing(monkeypatch):
    monkeypatch.delenv("DSD_DATA", raising=False)
    module = made("embedded")
    module.setup()
    assert (module.train_size, module.val_size, module.test_size) == (3500, 500, 1000)
    assert (module.num_classes, module.image_shape) == (10, (1, 28, 28))


def test_arrays_need_a_file():
    with pytest.raises(Exception, match=r"data\.source\.path=FILE\.npz"):
        made("arrays")
    assert made("arrays", source={"path": "mine.npz"}).source.path == "mine.npz"


def test_the_environment_names_the_folder(monkeypatch):
    monkeypatch.setenv("DSD_DATA", "/data")
    assert made("mnist").root == Path("/data")
    assert made("mnist", root="/other").root == Path("/other")


def test_imagenet():
    module = made("imagenet")
    assert isinstance(module, ImageNetData)
    assert (module.num_classes, module.image_shape, module.seed) == (1000, (3, 224, 224), 3)


def test_cifar10_is_normalised_as_fb_resnet_does():
    module = made("cifar10")
    assert [round(255 * value, 6) for value in module.mean] == [125.3, 123.0, 113.9]
    assert [round(255 * value, 6) for value in module.std] == [63.0, 62.1, 66.7]


def test_unknown_keys_fail():
    with pytest.raises(Exception, match="colour"):
        made("cifar10", colour=True)
    with pytest.raises(Exception, match="jitter"):
        made("cifar10", augment={"jitter": 1})
