"""What every data module shares: where the files are; and those of images: bytes to normalised floats on the device."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule
from torch import Tensor, nn

from dsd.data.augment import to_input


def where(root: str | os.PathLike[str] | None) -> Path | None:
    """The folder of all data sets: `root`, else the environment's DSD_DATA, else None."""
    named = root or os.environ.get("DSD_DATA")
    return Path(named).expanduser() if named else None


class DataModule(LightningDataModule):
    """Training, validation and test set; what only the data know of a network comes from here, after `setup`."""

    train_size = val_size = test_size = 0

    @property
    def sizes(self) -> dict[str, int]:
        """Arguments of the network that follow from the data, such as the size of a vocabulary; none by default."""
        return {}

    def initialise_(self, net: nn.Module) -> None:
        """A new network starts from what the data know, such as word frequencies; nothing changes by default."""


class ImageModule(DataModule):
    """Batches of (uint8 images (N, c, h, w), int64 labels (N,)) become (float32 (N, C, H, W), labels) on the device.

    mean, std: per channel (or one for all), in units of the full range 0..1. channels: C, or None for the data's own;
    3 repeats a single channel. size: H = W in pixels, or None for the data's own.
    ValueError for a standard deviation <= 0, another number of means than one or C, or counts below 1.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        eval_batch_size: int,
        seed: int,
        mean: Sequence[float],
        std: Sequence[float],
        channels: int | None,
        size: int | None,
    ) -> None:
        super().__init__()
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        if (
            len(self.mean) != len(self.std)
            or not self.mean
            or min(self.std) <= 0
            or not all(map(math.isfinite, self.mean + self.std))
        ):
            raise ValueError(f"need one mean and one std > 0 per channel; found mean={self.mean}, std={self.std}")
        counts = {"batch_size": batch_size, "eval_batch_size": eval_batch_size, "channels": channels, "size": size}
        wrong = [
            f"{name}={value}"
            for name, value in counts.items()
            if value is not None and not (isinstance(value, int) and value >= 1)
        ]
        if wrong:
            raise ValueError(f"must be a whole number, at least 1: {', '.join(wrong)}")
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self._channels, self._size = channels, size
        self.num_classes = 0

    def _shape(self, c: int, h: int, w: int) -> None:
        """`channels`, `size` and `image_shape` are what the network will see, given images of c channels, h x w pixels.

        ValueError if c can't become `channels`, if h x w is larger than `size`, or not square without a `size`.
        """
        self.channels = c if self._channels is None else self._channels
        if c not in (1, self.channels):
            raise ValueError(f"channels={self.channels}, but the images have {c}: only one channel can be repeated")
        if len(self.mean) not in (1, self.channels):
            raise ValueError(f"{len(self.mean)} means for {self.channels} channels: give one, or one per channel")
        if self._size is None and h != w:
            raise ValueError(f"the images are {h}x{w}: say which square they shall become (data.size=PIXELS)")
        self.size = h if self._size is None else self._size
        if max(h, w) > self.size:
            raise ValueError(f"size={self.size}, but the images are {h}x{w}: they are enlarged, never made smaller")
        self.image_shape = (self.channels, self.size, self.size)

    def to_input(self, images_NCHW: Tensor) -> Tensor:
        """float32 (N, channels, size, size) of uint8 images, normalised and enlarged; on the same device."""
        shape = (self.size, self.size)
        return to_input(images_NCHW, mean=self.mean, std=self.std, channels=self.channels, size=shape)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """(float32 images, int64 labels), made on the device that the bytes were sent to."""
        images, labels = batch
        return self.to_input(images), labels
