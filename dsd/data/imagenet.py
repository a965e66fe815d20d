"""ImageNet (ILSVRC 2012) from its folders; a restart or another number of workers never changes a pixel.

The official validation set is the test set here; validation images, if any, are held out of the training images.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dsd.data.folder import Listing, class_folders, imagenet_folder, listing
from dsd.data.module import ImageModule, where
from dsd.data.order import Order, Ordered, place
from dsd.data.picture import Centre, RandomView, read
from dsd.data.split import held_out, stratified

Key = tuple[int, int]


@dataclass(frozen=True)
class Pictures(Dataset[tuple[Tensor, int]]):
    """(epoch, index) -> (uint8 (3, size, size), label) of image number `index`. ValueError names a damaged file."""

    files: Listing
    view: Centre | RandomView

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        epoch, index = key
        pixels = self.view(read(self.files.path(index)), epoch, index)
        return torch.from_numpy(pixels), int(self.files.labels[index])


@dataclass(frozen=True)
class Keys:
    """The batches of `order` as lists of (epoch, image number), where sample i of the order is image `images_N[i]`."""

    order: Order
    images_N: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[list[Key]]:
        epoch = self.order.epoch
        for batch in self.order:
            yield [(epoch, int(index)) for index in self.images_N[batch]]


class Loader(Ordered):
    """Batches (uint8 (n, 3, size, size), int64 (n,)) from worker processes, in the order of `sampler`.

    A DataLoader inside a plain iterable: Lightning then leaves its order alone on many devices, and can resume it.
    """

    def __init__(
        self,
        pictures: Pictures,
        images_N: npt.NDArray[np.int64],
        order: Order,
        *,
        workers: int,
        trainer: Trainer | None = None,
    ) -> None:
        super().__init__(order, trainer)
        self.loader: DataLoader[tuple[Tensor, int]] = DataLoader(
            pictures,
            batch_sampler=Keys(order, images_N),
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else each epoch takes a number from the global generator
        )

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.begin()  # this is a generator: workers start, and epoch and `first` are read, at the first batch
        try:
            yield from self.loader
        except (ValueError, OSError) as error:  # a worker's comes as its traceback, whose last line is what we said
            kind, _, said = str(error).strip().rpartition("\n")[2].partition(": ")
            raise (type(error)(said) if kind == type(error).__name__ else error) from error

    def close(self) -> None:
        """The workers are gone. Left to the garbage collector, each group of them is waited for in vain for 5 s."""
        self.loader._iterator = None


class ImageNetData(ImageModule):
    """ImageNet: random views of the training images, the centre of the held-out and of the official validation images.

    Reads ROOT/imagenet (or ROOT) with train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, or flat val/*.JPEG with val.txt.
    size: pixels of the crop; resize: short side before the centre crop. augment: {jitter, lighting}, see `RandomView`.
    validation: count or fraction of the training images, stratified, by `split_seed` alone. workers: processes.
    num_classes: how many there must be.

    After `setup`: train_size, val_size, test_size; known from the start: num_classes, channels, size, image_shape.
    Raises FileNotFoundError if the set is not or only partly there, ValueError if it isn't what it should be.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        seed: int,
        validation: int | float,
        augment: Mapping[str, Any],
        mean: Sequence[float],
        std: Sequence[float],
        size: int,
        resize: int,
        num_classes: int,
        workers: int,
        root: str | os.PathLike[str] | None = None,
        split_seed: int = 0,
        eval_batch_size: int = 128,
        channels: int = 3,
    ) -> None:
        if channels != 3:
            raise ValueError(f"ImageNet's pictures are read as 3 channels, found channels={channels}")
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            mean=mean,
            std=std,
            channels=channels,
            size=size,
        )
        self._shape(3, size, size)
        self.num_classes, self.workers, self.root = num_classes, workers, where(root)
        self.validation, self.split_seed = validation, split_seed
        self._random = RandomView(size=size, seed=seed, **augment)
        self._centre = Centre(resize, size)
        self._loaders: list[Loader] = []
        self._train: Listing | None = None
        self._test: Listing | None = None

    def setup(self, stage: str | None = None) -> None:
        """The files are listed and split. Stage "test" needs val/ only, any other stage both. A second call is free."""
        train = stage != "test"
        if self._test is not None and (self._train is not None or not train):
            return
        folder = imagenet_folder(self.root, train=train)
        has_train = (folder / "train").is_dir()
        classes = class_folders(folder / ("train" if has_train else "val")) or class_folders(folder / "val")
        self._test = listing(folder / "val", classes=classes, num_classes=self.num_classes)
        self.test_size = len(self._test.labels)
        if train:
            self._train = listing(folder / "train", classes=classes, num_classes=self.num_classes)
            count = held_out(self.validation, len(self._train.labels))
            self._kept, self._held = stratified(self._train.labels, count, seed=self.split_seed)
            self.train_size, self.val_size = len(self._kept), len(self._held)

    def teardown(self, stage: str) -> None:
        """The worker processes of all loaders are gone; a loader that is used again starts new ones."""
        while self._loaders:
            self._loaders.pop().close()

    def train_dataloader(self) -> Loader:
        """The training batches for the attached trainer, from where its checkpoint stopped."""
        at = place(self.trainer)
        files = self._listed(self._train)
        order = Order(self.train_size, self.batch_size, seed=self.seed, first=at.first, rank=at.rank, world=at.world)
        order.set_epoch(at.epoch)
        return self._loader(Pictures(files, self._random), self._kept, order, self.trainer)

    def val_dataloader(self) -> Loader | list[Loader]:
        """The centre of each held-out image, once; an empty list if none are held out."""
        return self._evaluation(self._listed(self._train), self._held) if self.val_size else []

    def test_dataloader(self) -> Loader:
        """The centre of each official validation image, once."""
        return self._evaluation(self._listed(self._test), np.arange(self.test_size))

    def _evaluation(self, files: Listing, images_N: npt.NDArray[np.int64]) -> Loader:
        at = place(self.trainer)
        order = Order(len(images_N), self.eval_batch_size, seed=0, shuffle=False, rank=at.rank, world=at.world)
        return self._loader(Pictures(files, self._centre), images_N, order, None)

    def _loader(
        self, pictures: Pictures, images_N: npt.NDArray[np.int64], order: Order, trainer: Trainer | None
    ) -> Loader:
        self._loaders.append(Loader(pictures, images_N, order, workers=self.workers, trainer=trainer))
        return self._loaders[-1]

    def _listed(self, files: Listing | None) -> Listing:
        if files is None:
            raise RuntimeError("call setup() before asking for batches")
        return files
