"""The network that the authors of Deep Compression published: SqueezeNet v1.0, pruned and shared, in their own layout.

songhan/SqueezeNet-Deep-Compression, 675,763 bytes, before Huffman coding (Han et al., ICLR 2016, section 2 and figure 2:
relative indices of 4 bits, gaps beyond them bridged by filler zeros; 8-bit codebook indices). Little-endian:

    entries of each layer                    uint32 each
    for each layer: codebook                 256 float32, the first is 0
                    bias                     float32 each output channel
                    codebook indices         uint8 each entry
                    gaps                     4 bits each entry, low half of a byte first

An entry's position in the flattened weight is the sum of (gap + 1) up to it, minus 1; what has no entry is 0.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

PUBLISHED_BYTES = 675_763
SHA256 = "e4ab6960ae8cd81505e1c2136921201507e930966c53deaf15862a395b3a3261"
CENTROIDS = 256
FIRES = (  # channels in, squeezed, expanded by 1x1 and by 3x3 (SqueezeNet, table 1)
    (96, 16, 64), (128, 16, 64), (128, 32, 128), (256, 32, 128), (256, 48, 192), (384, 48, 192), (384, 64, 256), (512, 64, 256),
)  # fmt: skip
PLACES = (3, 4, 5, 7, 8, 9, 10, 12)  # of the fire modules in torchvision's `features`


@dataclass(frozen=True)
class Shape:
    """A convolution: its name in the authors' prototxt and in torchvision, and its weight's (O, I, H, W)."""

    name: str
    torchvision: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """A layer of the file, decoded. `entries` are stored, with fillers; `kept` of its weights are not 0."""

    name: str
    weight: Tensor
    bias: Tensor
    entries: int

    @property
    def kept(self) -> int:
        return int(torch.count_nonzero(self.weight))


def squeezenet() -> tuple[Shape, ...]:
    """The 26 convolutions of SqueezeNet v1.0 in the order of the file."""
    shapes = [Shape("conv1", "features.0", (96, 3, 7, 7))]
    for number, (place, (inputs, squeezed, expanded)) in enumerate(zip(PLACES, FIRES, strict=True), 2):
        fire, features = f"fire{number}", f"features.{place}"
        shapes += [
            Shape(f"{fire}/conv1x1_1", f"{features}.squeeze", (squeezed, inputs, 1, 1)),
            Shape(f"{fire}/conv1x1_2", f"{features}.expand1x1", (expanded, squeezed, 1, 1)),
            Shape(f"{fire}/conv3x3_2", f"{features}.expand3x3", (expanded, squeezed, 3, 3)),
        ]
    return (*shapes, Shape("conv_final", "classifier.1", (1000, 512, 1, 1)))


def read_squeezenet(path: Path) -> tuple[Layer, ...]:
    """The 26 layers of the published file, bit for bit.

    ValueError, naming the place, if it is missing, cut short, too long or damaged: whatever the structure cannot show,
    its SHA-256 does.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}; it is in songhan/SqueezeNet-Deep-Compression on GitHub")
    data = path.read_bytes()
    layers = decode(data, squeezenet())
    if (digest := hashlib.sha256(data).hexdigest()) != SHA256:
        raise ValueError(
            f"{path} is not the published file: SHA-256 {digest[:12]}..., not {SHA256[:12]}...; some codebook, bias, index "
            "or gap is another; copy or download it again"
        )
    return layers


def state(layers: Iterable[Layer]) -> dict[str, Tensor]:
    """Weights and biases by torchvision's names, as `torchvision.models.squeezenet1_0` has them."""
    names = {shape.name: shape.torchvision for shape in squeezenet()}
    return {
        f"{names[layer.name]}.{part}": value
        for layer in layers
        for part, value in (("weight", layer.weight), ("bias", layer.bias))
    }


def decode(data: bytes, shapes: Sequence[Shape]) -> tuple[Layer, ...]:
    """The layers of a file in the authors' layout, float32.

    ValueError naming the layer, the part and the byte where the file ends too early, has bytes to spare, or holds what
    no writer makes: more entries than weights, a position behind the last weight, a first centroid other than 0, a
    codebook or bias that is not finite, a half byte behind the last gap.
    """
    counts = _Cursor(data).take(f"the entries of {len(shapes)} layers", "<u4", len(shapes))
    cursor = _Cursor(data, 4 * len(shapes))
    layers = []
    for shape, entries in zip(shapes, counts.tolist(), strict=True):
        size = math.prod(shape.shape)
        if entries > size:
            raise ValueError(f"{shape.name} has {entries:,} entries for {size:,} weights: the file's head is damaged")
        start = cursor.at
        codebook = cursor.take(f"{shape.name}'s codebook", "<f4", CENTROIDS)
        bias = cursor.take(f"{shape.name}'s bias", "<f4", shape.shape[0])
        if codebook[0] != 0 or not np.isfinite(codebook).all() or not np.isfinite(bias).all():
            raise ValueError(
                f"{shape.name}'s codebook or bias, from byte {start:,}, is damaged: the first centroid is {codebook[0]:g} "
                "(must be 0) and all must be finite"
            )
        index = cursor.take(f"{shape.name}'s codebook indices", "u1", entries)
        start = cursor.at
        packed = cursor.take(f"{shape.name}'s gaps", "u1", (entries + 1) // 2)
        gaps = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)
        if entries % 2 and gaps[-1]:
            raise ValueError(
                f"{shape.name}'s gaps, from byte {start:,}, are damaged: there is one behind the last entry"
            )
        position = np.cumsum(gaps[:entries].astype(np.int64) + 1) - 1
        if entries and position[-1] >= size:
            raise ValueError(
                f"{shape.name}'s gaps, from byte {start:,}, are damaged: they lead to weight {int(position[-1]) + 1:,} of {size:,}"
            )
        weight = np.zeros(size, np.float32)
        weight[position] = codebook[index]
        layers.append(
            Layer(shape.name, torch.from_numpy(weight).reshape(shape.shape), torch.from_numpy(bias.copy()), entries)
        )
    if cursor.at != len(data):
        raise ValueError(f"the file has {len(data) - cursor.at:,} bytes behind its last layer, from byte {cursor.at:,}")
    return tuple(layers)


@dataclass
class _Cursor:
    data: bytes
    at: int = 0

    def take(self, what: str, dtype: str, count: int) -> npt.NDArray[Any]:
        """The next `count` numbers; ValueError if the file ends before."""
        need = count * np.dtype(dtype).itemsize
        if self.at + need > len(self.data):
            raise ValueError(
                f"the file is cut short: {what} begins at byte {self.at:,} and takes {need:,}, but there are "
                f"{len(self.data):,} bytes in all; copy or download it again"
            )
        self.at += need
        return np.frombuffer(self.data, dtype, count, self.at - need)
