"""Captioned pictures: each source is a small object that reads its public layout, or says what is missing and what to do.

Flickr8k     ROOT/flickr8k/{Flickr8k.token.txt, Flickr_8k.{train,dev,test}Images.txt} and Flicker8k_Dataset/*.jpg
Karpathy     ROOT/<folder>/dataset.json (Karpathy & Fei-Fei's splits: flickr8k, flickr30k, coco) and ROOT/<folder>/<images>/*.jpg
Scenes       rendered here: nothing to download
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from dsd.data.scenes import scene

PARTS = ("train", "val", "test")
SMALL = "or run without files: data=embedded_captions"
Sentence = tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """A picture, its part of the set ("train", "val" or "test"), its sentences as lower-case words.

    `content` gives the bytes of an image file (FileNotFoundError if it isn't there), `exists` whether it is.
    """

    name: str
    part: str
    sentences: tuple[Sentence, ...]
    content: Callable[[], bytes]
    exists: bool = True


class CaptionSource(Protocol):
    """Called with the folder of all data sets (or None), gives every picture, in the set's own order."""

    def __call__(self, root: Path | None) -> list[Picture]: ...


def words_of(sentence: str) -> Sentence:
    """Lower-case words of letters and digits; punctuation is left out, as in Karpathy's tokens."""
    return tuple(word for word in (re.sub(r"[^a-z0-9]", "", part) for part in sentence.lower().split()) if word)


def folder_of(root: Path | None, folder: str, name: str) -> Path:
    """ROOT/folder; FileNotFoundError if there is none, with what to do."""
    if root is None:
        raise FileNotFoundError(
            f"{name} needs a data folder and none is named: set DSD_DATA=DIR or data.root=DIR, {SMALL}"
        )
    return root / folder


def of_file(path: Path, part: str, sentences: Iterable[Sentence]) -> Picture:
    """The picture of an image file."""
    return Picture(path.name, part, tuple(sentences), partial(Path.read_bytes, path), path.exists())


@dataclass(frozen=True)
class Flickr8k:
    """Flickr8k as it was given out: 8,091 pictures, five sentences each, 6,000 / 1,000 / 1,000 (Hodosh et al., JAIR 2013)."""

    folder: str = "flickr8k"

    def __call__(self, root: Path | None) -> list[Picture]:
        """The pictures of the three parts. FileNotFoundError without the texts, ValueError if one is damaged."""
        folder = folder_of(root, self.folder, "Flickr8k")
        sentences: dict[str, list[Sentence]] = {}
        tokens = folder / "Flickr8k.token.txt"
        for number, line in enumerate(_lines(tokens), 1):
            name, found, sentence = line.partition("\t")
            if not found or "#" not in name:
                raise ValueError(
                    f"{tokens}, line {number}: expected NAME.jpg#0, a tab and a sentence, found {line[:60]!r}"
                )
            sentences.setdefault(name.rpartition("#")[0], []).append(words_of(sentence))
        pictures = []
        for part, word in zip(PARTS, ("train", "dev", "test"), strict=True):
            listed = folder / f"Flickr_8k.{word}Images.txt"
            for name in _lines(listed):
                if name not in sentences:
                    raise ValueError(f"{listed} lists {name}, which has no sentence in {tokens}")
                pictures.append(of_file(folder / "Flicker8k_Dataset" / name, part, sentences[name]))
        return pictures


@dataclass(frozen=True)
class Karpathy:
    """ROOT/`folder`/dataset.json of Karpathy & Fei-Fei (CVPR 2015): their splits and tokens; `restval` is trained on."""

    folder: str
    images: str = "images"

    def __call__(self, root: Path | None) -> list[Picture]:
        """All pictures, in the order of the file. FileNotFoundError without it, ValueError if it is damaged."""
        folder = folder_of(root, self.folder, self.folder)
        path = folder / "dataset.json"
        content = "\n".join(_lines(path))
        try:
            return [
                of_file(
                    folder / self.images / image.get("filepath", "") / image["filename"],
                    "train" if image["split"] == "restval" else image["split"],
                    (tuple(sentence["tokens"]) for sentence in image["sentences"]),
                )
                for image in json.loads(content)["images"]
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is not a dataset.json of Karpathy's layout ({type(error).__name__}: {error}): fetch it again"
            ) from error


@dataclass(frozen=True)
class Scenes:
    """Two coloured shapes side by side, rendered, with five sentences each from a grammar; the same every time.

    A result on them is a result on nothing else: they are for trying things out.
    """

    train: int
    val: int
    test: int

    def __call__(self, root: Path | None) -> list[Picture]:
        """The pictures; `root` isn't looked at."""
        parts = [
            part for part, count in zip(PARTS, (self.train, self.val, self.test), strict=True) for _ in range(count)
        ]
        pictures = []
        for number, part in enumerate(parts):
            sentences, content = scene(number)
            pictures.append(Picture(f"scene{number:04}.png", part, tuple(map(words_of, sentences)), content))
        return pictures


def _lines(path: Path) -> list[str]:
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: put the set's files into {path.parent}, set DSD_DATA=DIR or data.root=DIR to the "
            f"folder above it, {SMALL}"
        )
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
