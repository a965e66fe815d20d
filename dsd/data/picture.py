"""One ImageNet picture, from file to uint8 (3, size, size): random views for training, the centre for evaluation.

Training follows fb.resnet.torch (datasets/transforms.lua): crop 8..100 % of the area with a side ratio of 3/4..4/3,
resize, colour jitter, PCA lighting noise (Krizhevsky et al. 2012), flip. Two differences: the resizing is bilinear with
antialiasing (Pillow, as torchvision's), and the result is rounded and clipped to bytes, which are normalised on the
device. Every view is a pure function of (seed, epoch, number of the picture).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from dsd.data.augment import Pixels
from dsd.data.order import SAMPLE, generator

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045], dtype=np.float32)
EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], dtype=np.float32
)
"""Of the covariance of ImageNet's RGB pixels in 0..1; one eigenvector a column (fb.resnet.torch)."""


def read(path: Path) -> Image.Image:
    """The RGB picture of a file. FileNotFoundError without it; ValueError, naming it, if it is damaged."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is damaged or no image ({error}): unpack or fetch it again") from error


def bytes_CHW(image: Image.Image) -> Pixels:
    """uint8 (3, height, width)."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


@dataclass(frozen=True)
class Centre:
    """The evaluation view: the short side becomes `resize` pixels, then the centre `size` x `size` is cut out."""

    resize: int
    size: int

    def __post_init__(self) -> None:
        if self.resize < self.size:
            raise ValueError(f"resize={self.resize} must be at least size={self.size}: the crop has to fit")

    def __call__(self, image: Image.Image, epoch: int, index: int) -> Pixels:
        """uint8 (3, size, size), the same in each epoch."""
        short = min(image.size)
        width, height = (max(self.resize, side * self.resize // short) for side in image.size)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        scaled = image.resize((width, height), Image.Resampling.BILINEAR)
        return bytes_CHW(scaled.crop((left, top, left + self.size, top + self.size)))


@dataclass(frozen=True)
class RandomView:
    """The training view. jitter: brightness, contrast and saturation are scaled by 1 +- jitter, in random order
    (fb.resnet.torch: 0.4). lighting: standard deviation of the PCA noise (0.1). 0 leaves either out.
    square: the whole picture becomes so many pixels a side, whatever its shape, and what is cut out of it has `size`, as Caffe's
    networks were trained; None: what is cut out has 8..100 % of the area.

    ValueError for a jitter outside of 0..1, a negative lighting, or a square below `size`.
    """

    size: int
    jitter: float
    lighting: float
    seed: int
    square: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.jitter <= 1 or self.lighting < 0:
            raise ValueError(f"need 0 <= jitter <= 1 and lighting >= 0, found {self.jitter} and {self.lighting}")
        if self.square is not None and self.square < self.size:
            raise ValueError(f"square={self.square} must be at least size={self.size}: the crop has to fit")

    def __call__(self, image: Image.Image, epoch: int, index: int) -> Pixels:
        """uint8 (3, size, size) of picture number `index` in `epoch`."""
        random = generator(self.seed, SAMPLE, epoch, index)
        if self.square is None:
            crop = image.crop(random_box(*image.size, random))
            crop = crop.resize((self.size, self.size), Image.Resampling.BILINEAR)
        else:
            left, top = (int(corner) for corner in random.integers(self.square - self.size + 1, size=2))
            crop = image.resize((self.square, self.square), Image.Resampling.BILINEAR)
            crop = crop.crop((left, top, left + self.size, top + self.size))
        pixels = bytes_CHW(crop)
        if self.jitter or self.lighting:
            colours = lit(jittered(pixels.astype(np.float32), self.jitter, random), self.lighting, random)
            pixels = np.clip(np.rint(colours), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels[:, :, ::-1]) if random.random() < 0.5 else pixels


def random_box(width: int, height: int, random: np.random.Generator) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) inside of the picture: 8..100 % of its area, sides in a ratio of 3/4..4/3.

    Both are uniform (the ratio in its logarithm); after ten misses the largest central box of an allowed ratio.
    """
    for _ in range(10):
        area = width * height * random.uniform(0.08, 1.0)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(random.integers(width - w + 1)), int(random.integers(height - h + 1))
            return left, top, left + w, top + h
    w, h = max(1, min(width, round(height * 4 / 3))), max(1, min(height, round(width * 4 / 3)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def jittered(
    colours_CHW: npt.NDArray[np.float32], jitter: float, random: np.random.Generator
) -> npt.NDArray[np.float32]:
    """The picture (0..255) blended with black, its mean grey and its own greys, by 1 +- jitter, in random order."""
    if not jitter:
        return colours_CHW
    for kind in random.permutation(3):
        factor = np.float32(1 + random.uniform(-jitter, jitter))
        grey_HW = np.tensordot(LUMA, colours_CHW, axes=1)
        other = (np.zeros_like(grey_HW), np.full_like(grey_HW, grey_HW.mean()), grey_HW)[kind]
        colours_CHW = factor * colours_CHW + (1 - factor) * other
    return colours_CHW


def lit(colours_CHW: npt.NDArray[np.float32], lighting: float, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """The picture (0..255) plus one colour: the principal components of ImageNet's pixels, times N(0, lighting)."""
    if not lighting:
        return colours_CHW
    weights = random.normal(0.0, lighting, size=3).astype(np.float32)
    shift_C = EIGENVECTORS @ (weights * EIGENVALUES) * np.float32(255)
    return colours_CHW + shift_C[:, None, None]
