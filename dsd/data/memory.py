"""Image sets that fit into memory: ready batches without a worker process, the same after a restart as without it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning import Trainer
from torch import Tensor

from dsd.data.augment import Augment, Pixels, fill_value
from dsd.data.module import ImageModule, where
from dsd.data.order import BATCH, Order, Ordered, Place, generator, place
from dsd.data.sources import Source
from dsd.data.split import held_out, shuffled, stratified

Labels = npt.NDArray[np.int64]


class Batches(Ordered):
    """Yields (images uint8 (n, C, H, W), labels int64 (n,)) in the order of `sampler`, augmented if `augment` is given.

    images_NCHW, labels_N: the whole set. A batch's random numbers are a pure function of (seed, epoch, number of the
    batch, rank). `fill_C`: what the crop finds outside of the image, uint8 per channel; needed with `augment`.
    With a `trainer`, each iteration is its current epoch; without one, the order's `set_epoch` says which.
    """

    def __init__(
        self,
        images_NCHW: Pixels,
        labels_N: Labels,
        order: Order,
        *,
        augment: Augment | None = None,
        fill_C: Pixels | None = None,
        trainer: Trainer | None = None,
    ) -> None:
        if len(images_NCHW) != order.n or len(labels_N) != order.n:
            raise ValueError(f"{len(images_NCHW)} images and {len(labels_N)} labels, but an order of {order.n}")
        super().__init__(order, trainer)
        self.images, self.labels = images_NCHW, labels_N
        self.augment = augment
        self.fill = np.zeros(images_NCHW.shape[1], dtype=np.uint8) if fill_C is None else fill_C

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order, epoch = self.sampler, self.begin()
        for batch, indices in order.numbered():
            images = self.images[indices]
            if self.augment is not None:
                random = generator(order.seed, BATCH, epoch, batch, order.rank)
                images = self.augment(images, random, fill_C=self.fill)
            yield torch.from_numpy(images), torch.from_numpy(self.labels[indices])


class ImageData(ImageModule):
    """A set of images in memory: training, validation held out of the training images, and the official test set.

    source: says what and where the images are (`dsd.data.Cifar10()`, ...). validation: count (int) or fraction (float)
    of the training images, stratified, chosen by `split_seed` alone; 0 holds out none and there is no validation loop.
    subset: that many of the remaining training images, a fixed choice by `split_seed`. augment: {pad, flip} or None;
    seed: order and augmentation of the training batches. root: the folder of all data sets, else DSD_DATA.
    mean, std, channels, size: see `ImageModule`. num_classes: how many there must be, or None for any number.

    After `setup`: num_classes, train_size, val_size, test_size, channels, size, image_shape (C, H, W), classes.
    Raises FileNotFoundError if the set isn't there and ValueError if it isn't what it should be, with the remedy.
    """

    def __init__(
        self,
        *,
        source: Source,
        batch_size: int,
        seed: int,
        validation: int | float,
        augment: Mapping[str, Any] | None,
        mean: Sequence[float],
        std: Sequence[float],
        channels: int | None,
        size: int | None,
        num_classes: int | None = None,
        download: bool = False,
        root: str | os.PathLike[str] | None = None,
        split_seed: int = 0,
        subset: int | None = None,
        eval_batch_size: int = 512,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            mean=mean,
            std=std,
            channels=channels,
            size=size,
        )
        self.source, self.download, self.root = source, download, where(root)
        self.validation, self.split_seed, self.subset, self._wanted = validation, split_seed, subset, num_classes
        self.augment = None if augment is None else Augment(**augment)
        self.classes: tuple[str, ...] = ()
        self._parts: dict[str, tuple[Pixels, Labels]] = {}

    def prepare_data(self) -> None:
        """The set's files are in place if `download` is true (one process does this); otherwise nothing happens."""
        if self.download:
            self.source.download(self.root)

    def setup(self, stage: str | None = None) -> None:
        """All three parts are in memory, whatever the stage; the second call does nothing."""
        if self._parts:
            return
        images = self.source(self.root)
        if self._wanted not in (None, len(images.classes)):
            raise ValueError(f"{images.name} has {len(images.classes)} classes, but data.num_classes={self._wanted}")
        self._shape(*images.train_images.shape[1:])
        labels = images.train_labels
        kept, held = stratified(labels, held_out(self.validation, len(labels)), seed=self.split_seed)
        if self.subset is not None:
            if not 1 <= self.subset <= len(kept):
                raise ValueError(f"subset={self.subset}: there are 1..{len(kept)} training images to choose from")
            kept = shuffled(kept, seed=self.split_seed)[: self.subset]
        whole = len(kept) == len(labels) and self.subset is None
        train = images.train_images if whole else images.train_images[kept]
        self._parts = {
            "train": (train, labels if whole else labels[kept]),
            "val": (images.train_images[held], labels[held]),
            "test": (images.test_images, images.test_labels),
        }
        self.classes, self.num_classes = images.classes, len(images.classes)
        self.train_size, self.val_size, self.test_size = (len(part[1]) for part in self._parts.values())

    def train_batches(self, epoch: int = 0) -> Batches:
        """The training batches of `epoch` in one process, without a trainer."""
        return self._train(Place(epoch=epoch), None)

    def train_dataloader(self) -> Batches:
        """The training batches for the attached trainer, from where its checkpoint stopped."""
        return self._train(place(self.trainer), self.trainer)

    def val_dataloader(self) -> Batches | list[Batches]:
        """The held-out images, each once; an empty list if none are held out."""
        return self._evaluation("val") if self.val_size else []

    def test_dataloader(self) -> Batches:
        """The official test images, each once."""
        return self._evaluation("test")

    def _train(self, at: Place, trainer: Trainer | None) -> Batches:
        images, labels = self._part("train")
        order = Order(len(labels), self.batch_size, seed=self.seed, first=at.first, rank=at.rank, world=at.world)
        order.set_epoch(at.epoch)
        fill = fill_value(self.mean, self.channels)[: images.shape[1]]
        return Batches(images, labels, order, augment=self.augment, fill_C=fill, trainer=trainer)

    def _evaluation(self, part: str) -> Batches:
        images, labels = self._part(part)
        at = place(self.trainer)
        order = Order(len(labels), self.eval_batch_size, seed=0, shuffle=False, rank=at.rank, world=at.world)
        return Batches(images, labels, order)

    def _part(self, name: str) -> tuple[Pixels, Labels]:
        if not self._parts:
            raise RuntimeError("call setup() before asking for batches")
        return self._parts[name]
