"""Anybody's images as NumPy files, and the checks that every set of images has to pass.

An .npz file has either `x_train, y_train, x_test, y_test` (Keras' names) or `x, y`; or give two .npy files. Images are
uint8, (n, h, w, c), (n, c, h, w) or (n, h, w) with c = 1 or 3; labels are integers (n,), 0 .. classes-1.
"""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dsd.data.augment import Pixels
from dsd.data.split import stratified


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Training and test images, uint8 (N, C, H, W), with int64 labels (N,) that index `classes`.

    `name` says where they are from, for errors. ValueError if shapes, types, counts or labels don't fit together.
    """

    train_images: Pixels
    train_labels: npt.NDArray[np.int64]
    test_images: Pixels
    test_labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    name: str

    def __post_init__(self) -> None:
        for part, x, y in (
            ("training", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        ):
            if x.dtype != np.uint8 or x.ndim != 4 or len(x) == 0:
                raise ValueError(f"{self.name}: {part} images must be uint8 (n, c, h, w), found {x.dtype} {x.shape}")
            if y.shape != (len(x),):
                raise ValueError(f"{self.name}: {len(x)} {part} images need as many labels, found {y.shape}")
            if y.min() < 0 or y.max() >= len(self.classes):
                raise ValueError(
                    f"{self.name}: {part} labels must be in 0..{len(self.classes) - 1}, found {y.min()}..{y.max()}"
                )
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            shapes = f"{self.train_images.shape[1:]} and {self.test_images.shape[1:]}"
            raise ValueError(f"{self.name}: training and test images differ in shape: {shapes}")


def as_pixels(array: npt.NDArray[Any], name: str) -> Pixels:
    """uint8 (n, c, h, w), contiguous. ValueError unless uint8 (n,h,w), (n,h,w,c) or (n,c,h,w) with c = 1 or 3."""
    if array.dtype != np.uint8:
        raise ValueError(
            f"{name} is {array.dtype}: images must be uint8, 0..255. If yours are floats in 0..1, save "
            "(x * 255).round().astype('uint8'); put a mean and a standard deviation into data.mean and data.std"
        )
    if array.ndim == 3:
        return np.ascontiguousarray(array[:, None])
    first, last = (array.ndim == 4 and array.shape[axis] in (1, 3) for axis in (1, 3))
    if first == last:
        raise ValueError(
            f"{name} has shape {array.shape}: it must be (n, h, w), (n, h, w, c) or (n, c, h, w) with exactly one "
            "axis that can be c = 1 or 3"
        )
    return np.ascontiguousarray(array if first else array.transpose(0, 3, 1, 2))


def as_labels(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.int64]:
    """int64 (n,). ValueError unless integers of one dimension."""
    if array.dtype.kind not in "iu" or array.ndim != 1:
        how = (
            "y.argmax(1), if a row is a picture's classes"
            if array.ndim == 2 and array.shape[1] > 1
            else "y.reshape(-1).astype('int64')"
        )
        raise ValueError(f"{name} is {array.dtype} {array.shape}: labels must be integers (n,), e.g. {how}")
    return array.astype(np.int64)


def load(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an .npz file by name, or {"": array} of an .npy file. ValueError if unreadable; no pickles."""
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            return {"": content} if isinstance(content, np.ndarray) else {key: content[key] for key in content.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} can't be read as a NumPy file ({error}): is it complete, and free of Python objects?"
        ) from error


def split_test(
    x: Pixels, y: npt.NDArray[np.int64], test_fraction: float | None, name: str
) -> tuple[Pixels, npt.NDArray[np.int64], Pixels, npt.NDArray[np.int64]]:
    """(x_train, y_train, x_test, y_test), stratified and fixed. ValueError unless 0 < test_fraction < 1 splits it."""
    if len(x) != len(y):
        raise ValueError(f"{name}: {len(x)} images and {len(y)} labels")
    if test_fraction is None or not 0 < round(test_fraction * len(y)) < len(y):
        raise ValueError(
            f"{name} has no test images of its own: data.source.test_fraction must split its {len(y)} images "
            f"(e.g. 0.2), found {test_fraction}"
        )
    train, test = stratified(y, round(test_fraction * len(y)), seed=0)
    return x[train], y[train], x[test], y[test]


def image_set(
    arrays: Mapping[str, npt.NDArray[Any]],
    name: str,
    *,
    test_fraction: float | None = None,
    classes: tuple[str, ...] | None = None,
) -> ImageSet:
    """The images of arrays named x_train, y_train, x_test, y_test, or x, y; classes are numbered unless named."""
    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        if test_fraction is not None:
            raise ValueError(f"{name} has its own test images: leave data.source.test_fraction out")
        x, x_test = (as_pixels(arrays[key], f"{key} of {name}") for key in ("x_train", "x_test"))
        y, y_test = (as_labels(arrays[key], f"{key} of {name}") for key in ("y_train", "y_test"))
    elif {"x", "y"} <= arrays.keys():
        x, y = as_pixels(arrays["x"], f"x of {name}"), as_labels(arrays["y"], f"y of {name}")
        x, y, x_test, y_test = split_test(x, y, test_fraction, name)
    else:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise ValueError(f"{name} must have the arrays x_train, y_train, x_test, y_test, or x, y; found {found}")
    if classes is None:
        classes = tuple(str(label) for label in range(int(y.max(initial=-1)) + 1))
        if absent := sorted(set(range(len(classes))) - set(y.tolist())):
            few = ", ".join(map(str, absent[:5])) + ", ..." * (len(absent) > 5)
            warnings.warn(
                f"{name}: {len(absent)} of {len(classes)} classes have no training image ({few}): labels are meant to number the classes from 0 on",
                stacklevel=2,
            )
    return ImageSet(x, y, x_test, y_test, classes, name=name)


def read_npz(path: Path, *, test_fraction: float | None = None, classes: tuple[str, ...] | None = None) -> ImageSet:
    """The images of an .npz file; see `image_set`. ValueError if it can't be read or isn't one."""
    arrays = load(path)
    if "" in arrays:
        raise ValueError(f"{path} holds one array, not several: give it as data.source.images, with data.source.labels")
    return image_set(arrays, str(path), test_fraction=test_fraction, classes=classes)


@dataclass(frozen=True)
class Arrays:
    """Images of your own: `path` names an .npz file, or `images` and `labels` name two .npy files.

    Relative names are looked up in the working folder, then in the data folder. `test_fraction` (0..1) is the share of
    the images that becomes the test set, stratified and fixed, if the file has no test images itself.
    There are as many classes as the largest training label says, plus one.
    ValueError unless exactly one of the two ways is used; see `as_pixels` and `as_labels` for the arrays.
    """

    path: str | None = None
    images: str | None = None
    labels: str | None = None
    test_fraction: float | None = None

    def __post_init__(self) -> None:
        if (self.images is not None, self.labels is not None) != (self.path is None,) * 2:
            raise ValueError(
                "arrays need data.source.path=FILE.npz, or both data.source.images=FILE.npy and "
                f"data.source.labels=FILE.npy; found path={self.path}, images={self.images}, labels={self.labels}"
            )

    def __call__(self, root: Path | None) -> ImageSet:
        """The images. FileNotFoundError without the file, ValueError if it isn't as described."""
        if self.path is not None:
            return read_npz(self._find(self.path, root), test_fraction=self.test_fraction)
        arrays = {"x": self._one(self.images, root), "y": self._one(self.labels, root)}
        return image_set(arrays, f"{self.images} with {self.labels}", test_fraction=self.test_fraction)

    def download(self, root: Path | None) -> None:
        """ValueError: your own files are nowhere to be fetched from."""
        raise ValueError("arrays are your own files: data.download=true is not offered, leave it out")

    def _one(self, file: str | None, root: Path | None) -> npt.NDArray[Any]:
        path = self._find(str(file), root)
        arrays = load(path)
        if "" not in arrays:
            raise ValueError(f"{path} is an .npz file: give it as data.source.path")
        return arrays[""]

    def _find(self, file: str, root: Path | None) -> Path:
        places = [Path(file).expanduser()] + ([] if root is None else [root / file])
        for place in places:
            if place.is_file():
                return place
        looked = " and ".join(str(place.absolute()) for place in dict.fromkeys(places))
        raise FileNotFoundError(f"no such file: {file}; looked for {looked}")
