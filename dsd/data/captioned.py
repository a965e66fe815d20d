"""Captioned pictures for training and testing: features in memory, batches of (features, words, pictures)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn

from dsd.data.captions import PARTS, CaptionSource, Picture
from dsd.data.features import Extractor, Features
from dsd.data.module import DataModule, where
from dsd.data.order import Order, Ordered, place
from dsd.data.vocabulary import Vocabulary

PADDING = -1
Batch = tuple[Tensor, Tensor, Tensor]


class CaptionBatches(Ordered):
    """Yields what `make` makes of each batch of indices, in the order of `sampler`."""

    def __init__(
        self, make: Callable[[npt.NDArray[np.int64]], Batch], order: Order, trainer: Trainer | None = None
    ) -> None:
        super().__init__(order, trainer)
        self.make = make

    def __iter__(self) -> Iterator[Batch]:
        self.begin()
        for indices in self.sampler:
            yield self.make(indices)


class CaptionData(DataModule):
    """(features (B, F) float32, words (B, T) int64 padded with -1, picture numbers (B,)) for training, a pair an example.

    An epoch goes once through all (picture, sentence) pairs in a new order; NeuralTalk draws them with replacement.
    For validation and test an example is a picture with its R sentences, words (B, R, T). The vocabulary is the words
    that occur `min_count` times in the training sentences. `source`: which pictures; `extractor`: their features, kept
    in `cache` (else DSD_CACHE, else ~/.cache/dsd). root: the folder of all data sets, else DSD_DATA.

    After `setup`: vocabulary, features, train_size (pairs), val_size and test_size (pictures).
    FileNotFoundError if the set isn't there and ValueError if it isn't what it should be, with the remedy.
    """

    def __init__(
        self,
        *,
        source: CaptionSource,
        extractor: Extractor,
        batch_size: int,
        seed: int,
        min_count: int,
        root: str | os.PathLike[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        eval_batch_size: int = 100,
    ) -> None:
        super().__init__()
        if batch_size < 1 or eval_batch_size < 1:
            raise ValueError(f"must be at least 1: batch_size={batch_size}, eval_batch_size={eval_batch_size}")
        self.source, self.extractor, self.min_count = source, extractor, min_count
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.root = where(root)
        named = cache or os.environ.get("DSD_CACHE")
        self.cache = Path(named).expanduser() if named else Path.home() / ".cache" / "dsd"
        self._pictures: dict[str, list[Picture]] = {}
        self._features: dict[str, Features] = {}
        self._pairs: list[tuple[int, list[int]]] = []

    def setup(self, stage: str | None = None) -> None:
        """All three parts are in memory, whatever the stage; the second call does nothing."""
        if self._pictures:
            return
        pictures = self.source(self.root)
        if not pictures:
            raise ValueError(f"the set has no pictures: {self.source} found none below {self.root}")
        if mute := [picture.name for picture in pictures if picture.part in PARTS and not picture.sentences]:
            raise ValueError(f"{mute[0]} has no sentence (one of {len(mute)} such pictures): take them off the list")
        there, features = self.extractor(pictures, root=self.root, cache=self.cache)
        rows = {part: [row for row, index in enumerate(there) if pictures[index].part == part] for part in PARTS}
        if empty := [part for part in PARTS if not rows[part]]:
            raise ValueError(f"no picture of the {' and '.join(empty)} part is there, of {len(pictures)} in the set")
        self._features = {part: features[rows[part]] for part in PARTS}
        self._pictures = {part: [pictures[there[row]] for row in rows[part]] for part in PARTS}
        spoken = [sentence for picture in self._pictures["train"] for sentence in picture.sentences]
        self.vocabulary = Vocabulary.of(spoken, min_count=self.min_count)
        numbered = [
            (index, self.vocabulary.numbers_of(sentence))
            for index, picture in enumerate(self._pictures["train"])
            for sentence in picture.sentences
        ]
        self._pairs = [(index, numbers) for index, numbers in numbered if numbers]
        for part in ("val", "test"):
            if not any(self.vocabulary.numbers_of(s) for p in self._pictures[part] for s in p.sentences):
                raise ValueError(
                    f"no sentence of the {part} part has a word that {self.min_count} training sentences have: lower data.min_count"
                )
        self.train_size = len(self._pairs)
        self.val_size, self.test_size = (len(self._pictures[part]) for part in ("val", "test"))

    @property
    def sizes(self) -> dict[str, int]:
        """How many features a picture has, and how many words there are, END included."""
        return {"features": self._features["train"].shape[1], "vocabulary": len(self.vocabulary)}

    def initialise_(self, net: nn.Module) -> None:
        """The decoder starts with the words' frequencies, as NeuralTalk's does."""
        net.begin_with_(self.vocabulary.counts)  # type: ignore[operator]

    def picture(self, part: str, index: int) -> Picture:
        """Picture number `index` of a part."""
        return self._pictures[part][index]

    def train_dataloader(self) -> CaptionBatches:
        """The pairs for the attached trainer, from where its checkpoint stopped; without one, of epoch 0."""
        at = place(self.trainer)
        order = Order(len(self._pairs), self.batch_size, seed=self.seed, first=at.first, rank=at.rank, world=at.world)
        order.set_epoch(at.epoch)
        return CaptionBatches(self._train, order, self.trainer)

    def val_dataloader(self) -> CaptionBatches:
        """The validation pictures, each once."""
        return self._evaluation("val")

    def test_dataloader(self) -> CaptionBatches:
        """The test pictures, each once."""
        return self._evaluation("test")

    def _train(self, indices: npt.NDArray[np.int64]) -> Batch:
        pairs = [self._pairs[index] for index in indices]
        pictures = [picture for picture, _ in pairs]
        return (
            torch.from_numpy(self._features["train"][pictures]),
            padded([numbers for _, numbers in pairs]),
            torch.tensor(pictures),
        )

    def _evaluation(self, part: str) -> CaptionBatches:
        at = place(self.trainer)
        count = len(self._pictures[part])
        order = Order(count, self.eval_batch_size, seed=0, shuffle=False, rank=at.rank, world=at.world)

        def make(indices: npt.NDArray[np.int64]) -> Batch:
            several = [[self.vocabulary.numbers_of(s) for s in self._pictures[part][i].sentences] for i in indices]
            most = max(map(len, several))
            flat = padded([sentence for one in several for sentence in [*one, *[[]] * (most - len(one))]])
            return (
                torch.from_numpy(self._features[part][indices]),
                flat.view(len(indices), most, -1),
                torch.from_numpy(indices),
            )

        return CaptionBatches(make, order)


def padded(sentences: Sequence[Sequence[int]]) -> Tensor:
    """(n, T) int64: the sentences as rows, padded with -1 to the longest, T at least 1."""
    longest = max(1, *map(len, sentences))
    return torch.tensor([[*sentence, *[PADDING] * (longest - len(sentence))] for sentence in sentences])
