"""ImageNet's folders, in the layouts that torchvision (a folder per class) and Caffe (a list file) read."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

ENDINGS = (".jpeg", ".jpg", ".png")
HOW = (
    "ImageNet (ILSVRC 2012) has to be fetched by hand: register at https://image-net.org, unpack it to "
    "imagenet/train/<wnid>/*.JPEG and imagenet/val/<wnid>/*.JPEG (or flat val/*.JPEG with val.txt, 'name label' lines) "
    "and set DSD_DATA or data.root to the folder that has imagenet/. `profile=quick` runs without it"
)


@dataclass(frozen=True, eq=False)
class Listing:
    """Image files of one part and their labels. `names`: paths relative to `folder`, as bytes in one array (N,), so
    that a million of them are no Python objects in every worker; labels int64 (N,)."""

    folder: Path
    names: npt.NDArray[np.bytes_]
    labels: npt.NDArray[np.int64]

    def path(self, index: int) -> Path:
        """The file of image number `index`."""
        return self.folder / os.fsdecode(bytes(self.names[index]))


def imagenet_folder(root: Path | None, *, train: bool) -> Path:
    """ROOT/imagenet, or ROOT itself if that has train/ or val/; with val/, and with train/ if `train`.

    FileNotFoundError otherwise, saying what was looked for and what to do.
    """
    if root is None:
        raise FileNotFoundError(f"ImageNet needs a data folder and none is named (DSD_DATA or data.root). {HOW}.")
    places = (root / "imagenet", root)
    folder = next((place for place in places if (place / "train").is_dir() or (place / "val").is_dir()), None)
    if folder is None:
        looked = " and ".join(str(place) for place in places)
        raise FileNotFoundError(f"ImageNet is not there: looked for train/ and val/ in {looked}. {HOW}.")
    wanted = ("train", "val") if train else ("val",)
    missing = [part for part in wanted if not (folder / part).is_dir()]
    if missing:
        there = [part for part in ("train", "val") if part not in missing and (folder / part).is_dir()]
        purpose = "training needs both" if train else "testing needs val/"
        raise FileNotFoundError(
            f"ImageNet is only partly there: {folder} has {there[0]}/ but no {missing[0]}/, and {purpose}. {HOW}."
        )
    return folder


def class_folders(folder: Path) -> list[str]:
    """The names of the folders in `folder`, sorted: ImageNet's classes, label 0 first. Empty if it is flat.

    Hidden folders are no classes.
    """
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def images_in(folder: Path) -> list[str]:
    """The names of the image files in `folder`, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.name.lower().endswith(ENDINGS))


def listing(folder: Path, *, classes: list[str], num_classes: int) -> Listing:
    """The images of `folder`: one folder per class, else the lines of the list file beside it (`folder`.txt).

    `classes`: the class folders in the order of their labels. ValueError if there are not `num_classes` of them, if a
    class has no images, images lie beside the classes, a label is out of range, or a listed file is missing or an image
    not listed; FileNotFoundError without a list file.
    """
    found = class_folders(folder)
    names: list[str]
    labels: list[int]
    if not found:
        names, labels = listed(folder, num_classes)
        return _listing(folder, names, labels)
    if strange := sorted(set(found) - set(classes)):
        raise ValueError(
            f"{folder / strange[0]} is not among the training classes, {', '.join(classes[:3])}, ...: a class has the same "
            "folder name in train/ and in val/; move it away, or unpack its training images too"
        )
    if len(classes) != num_classes:
        raise ValueError(
            f"{folder}: {len(classes)} class folders for data.num_classes={num_classes}; unpack the missing ones, move away what is "
            f"none (there are {', '.join(classes[:3])}, ...), or say data.num_classes={len(classes)} and have another task"
        )
    if loose := images_in(folder):
        raise ValueError(
            f"{folder / loose[0]} lies beside the class folders, {len(loose)} in all: move images into them"
        )
    label_of = {name: label for label, name in enumerate(classes)}
    inside = {name: images_in(folder / name) for name in found}
    if empty := [name for name in found if not inside[name]]:
        nested = class_folders(folder / empty[0])
        deeper = f", but a folder {nested[0]}: images lie directly in a class folder" if nested else ""
        raise ValueError(f"{folder / empty[0]} has no image files ({', '.join(ENDINGS)}){deeper}; unpack it again")
    names = [f"{name}/{image}" for name in found for image in inside[name]]
    labels = [label_of[name] for name in found for _ in inside[name]]
    return _listing(folder, names, labels)


def _listing(folder: Path, names: list[str], labels: list[int]) -> Listing:
    return Listing(folder, np.array([os.fsencode(name) for name in names]), np.array(labels, dtype=np.int64))


def listed(folder: Path, num_classes: int) -> tuple[list[str], list[int]]:
    """File names and labels of `folder`.txt, 'name label' lines as in Caffe; see `listing` for the errors."""
    file = folder.with_name(folder.name + ".txt")
    if not file.is_file() and (packed := sorted(folder.glob("*.tar"))):
        raise FileNotFoundError(
            f"{packed[0]} is not unpacked, {len(packed)} archives in all. Each is a class: in {folder}, "
            "for f in *.tar; do mkdir ${f%.tar} && tar xf $f -C ${f%.tar}; done"
        )
    if not file.is_file():
        raise FileNotFoundError(f"{folder} has no class folders and there is no list file {file}. {HOW}.")
    present = set(images_in(folder))
    names, labels = [], []
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        name, _, label = line.strip().rpartition(" ")
        if not (label.isdecimal() and int(label) < num_classes):
            raise ValueError(
                f"{file}, line {number}: expected 'name label' with a label in 0..{num_classes - 1}, found {line!r}"
            )
        if name not in present:
            raise ValueError(f"{file}, line {number}: there is no {folder / name}; unpack it again or drop the line")
        names.append(name)
        labels.append(int(label))
    if not names:
        raise ValueError(f"{file} is empty: expected 'name label' lines")
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise ValueError(
            f"{file}: {twice[0]} is listed more than once, and would be counted as often; drop the other line"
        )
    if unlisted := sorted(present - set(names)):
        raise ValueError(
            f"{folder / unlisted[0]} is not in {file}, {len(unlisted)} images in all: list them, or move them away"
        )
    return names, labels
