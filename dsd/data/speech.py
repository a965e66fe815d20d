"""Transcribed speech for training and testing: batches of similar lengths, the shortest first in the first epoch."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning import Trainer
from torch import Tensor

from dsd.data.module import DataModule, where
from dsd.data.order import BATCH, ORDER, SPLIT, Order, Ordered, generator, place
from dsd.data.spectrogram import BINS, spectrograms
from dsd.data.utterances import ALPHABET, PARTS, SpeechSource, Utterance, spelled

log = logging.getLogger("dsd")
Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
Indices = npt.NDArray[np.int64]


class Buckets(Order):
    """Batches of utterances of about one length, in a new order each epoch; in epoch 0 the shortest first.

    SortaGrad (Amodei et al. 2016, section 3.3). lengths_N: of the utterances; `spread`: they are sorted by their length
    times a random number of 1 - spread to 1 + spread, so that batches change. What doesn't fill a batch comes last.
    """

    def __init__(
        self, lengths_N: Indices, batch_size: int, *, spread: float, seed: int, rank: int, world: int, first: int
    ) -> None:
        super().__init__(len(lengths_N), batch_size, seed=seed, rank=rank, world=world, first=first)
        self.lengths, self.spread = lengths_N, spread

    def indices(self) -> Indices:
        """(utterances of this rank,) int64, see `Order.indices`."""
        draw, width = generator(self.seed, ORDER, self.epoch), self.batch_size * self.world
        about = self.lengths * draw.uniform(1 - self.spread, 1 + self.spread, self.n) if self.epoch else self.lengths
        order = np.resize(np.argsort(about, kind="stable"), self._samples() * self.world)
        full = len(order) // width * width
        batches = order[:full].reshape(-1, width)
        batches = draw.permutation(batches) if self.epoch else batches
        return np.concatenate([batches.ravel(), order[full:]])[self.rank :: self.world]


class SpeechBatches(Ordered):
    """Yields what `make(indices, epoch, batch)` makes of each batch of indices, in the order of `sampler`."""

    def __init__(
        self, make: Callable[[Indices, int, int], Batch], order: Order, trainer: Trainer | None = None
    ) -> None:
        super().__init__(order, trainer)
        self.make = make

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.begin()
        for number, indices in self.sampler.numbered():
            yield self.make(indices, epoch, number)


class SpeechData(DataModule):
    """(spectrograms (B, T, 161) float32, frames (B,), symbols (B, L), symbol counts (B,), utterance numbers (B,)).

    Padding is 0. source: which utterances; without a "val" part, `validation` of the training utterances is held out,
    whole speakers where they are known, chosen by `split_seed`. stride: frames a step of the network; utterances with
    fewer steps than their transcript needs (CTC) are left out of training, which is logged. augment: SpecAugment
    (Park et al. 2019), {freq: bins, freqs: times, time: frames, times: times}, or None. spread: see `Buckets`.
    root: the folder of all data sets, else DSD_DATA. cache: of spectrograms, else DSD_CACHE, else ~/.cache/dsd.
    FileNotFoundError if the set isn't there and ValueError if it isn't what it should be, with the remedy.
    """

    def __init__(
        self,
        *,
        source: SpeechSource,
        batch_size: int,
        seed: int,
        validation: float,
        stride: int,
        spread: float,
        augment: Mapping[str, int] | None,
        split_seed: int = 0,
        root: str | os.PathLike[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        eval_batch_size: int = 32,
    ) -> None:
        super().__init__()
        if min(batch_size, eval_batch_size, stride) < 1 or not 0 <= spread < 1 or not 0 <= validation < 1:
            found = f"batch_size={batch_size}, eval_batch_size={eval_batch_size}, stride={stride}, spread={spread}"
            raise ValueError(
                f"sizes must be at least 1, spread and validation in [0, 1): {found}, validation={validation}"
            )
        self.source, self.validation, self.stride, self.spread = source, validation, stride, spread
        self.batch_size, self.eval_batch_size, self.seed, self.split_seed = (
            batch_size,
            eval_batch_size,
            seed,
            split_seed,
        )
        self.augment = dict(augment) if augment else None
        self.root = where(root)
        named = cache or os.environ.get("DSD_CACHE")
        self.cache = Path(named).expanduser() if named else Path.home() / ".cache" / "dsd"
        self._utterances: list[Utterance] = []

    def setup(self, stage: str | None = None) -> None:
        """All parts are at hand, whatever the stage; the second call does nothing."""
        if self._utterances:
            return
        utterances = self.source(self.root)
        if not utterances:
            raise ValueError(f"the set has no utterances: {self.source} found none below {self.root}")
        self._frames, self._begins = spectrograms(utterances, cache=self.cache)
        self.transcripts = [spelled(one.transcript) for one in utterances]
        dropped = sum(len(one.transcript.replace(" ", "")) for one in utterances) - sum(
            len(text.replace(" ", "")) for text in self.transcripts
        )
        if dropped:
            log.info("%s characters of transcripts are not in the alphabet and left out", f"{dropped:,}")
        parts = {part: np.flatnonzero([one.part == part for one in utterances]) for part in PARTS}
        if not len(parts["val"]):
            held = held_speakers([utterances[i].speaker for i in parts["train"]], self.validation, seed=self.split_seed)
            parts["val"], parts["train"] = parts["train"][held], parts["train"][~held]
        fits = np.array(
            [steps_needed(self.transcripts[i]) <= -(-self._length(i) // self.stride) for i in parts["train"]]
        )
        if not fits.all():
            log.info(
                "%d of %d training utterances are too short for their transcript and left out", (~fits).sum(), len(fits)
            )
        parts["train"] = parts["train"][fits]
        if empty := [part for part in PARTS if not len(parts[part])]:
            raise ValueError(f"no utterance of the {' and '.join(empty)} part, of {len(utterances)} in the set")
        for part in ("val", "test"):
            if not any(self.transcripts[i] for i in parts[part]):
                name = utterances[parts[part][0]].name
                raise ValueError(
                    f"no transcript of the {part} part has a letter of the alphabet ({name}: "
                    f"{utterances[parts[part][0]].transcript!r}): spell out numbers, in {len(ALPHABET)} symbols: {''.join(ALPHABET)!r}"
                )
        self._parts, self._utterances = parts, utterances
        self.train_size, self.val_size, self.test_size = (len(parts[part]) for part in PARTS)

    def name_of(self, index: int) -> str:
        """The name of utterance number `index`."""
        return self._utterances[index].name

    def train_dataloader(self) -> SpeechBatches:
        """The training batches for the attached trainer, from where its checkpoint stopped; without one, of epoch 0."""
        at, own = place(self.trainer), self._parts["train"]
        lengths = np.array([self._length(i) for i in own])
        order = Buckets(
            lengths, self.batch_size, spread=self.spread, seed=self.seed, rank=at.rank, world=at.world, first=at.first
        )
        order.set_epoch(at.epoch)

        def make(indices: Indices, epoch: int, number: int) -> Batch:
            batch = self._batch(own[indices])
            if self.augment:
                hide_(batch[0], generator(self.seed, BATCH, epoch, number, at.rank), **self.augment)
            return batch

        return SpeechBatches(make, order, self.trainer)

    def val_dataloader(self) -> SpeechBatches:
        """The held-out utterances, each once."""
        return self._evaluation("val")

    def test_dataloader(self) -> SpeechBatches:
        """The test utterances, each once."""
        return self._evaluation("test")

    def _evaluation(self, part: str) -> SpeechBatches:
        own, at = self._parts[part], place(self.trainer)
        own = own[np.argsort([self._length(i) for i in own], kind="stable")]  # little padding
        order = Order(len(own), self.eval_batch_size, seed=0, shuffle=False, rank=at.rank, world=at.world)
        return SpeechBatches(lambda indices, _epoch, _number: self._batch(own[indices]), order)

    def _length(self, index: int | np.integer[Any]) -> int:
        return int(self._begins[index + 1] - self._begins[index])

    def _batch(self, indices: Indices) -> Batch:
        lengths = [self._length(i) for i in indices]
        x_BTF = torch.zeros(len(indices), max(lengths), BINS)
        for row, index in enumerate(indices):
            frames = np.asarray(self._frames[self._begins[index] : self._begins[index + 1]], np.float32)
            x_BTF[row, : len(frames)] = torch.from_numpy(frames)
        numbers = [[1 + ALPHABET.index(letter) for letter in self.transcripts[i]] for i in indices]
        counts = [len(one) for one in numbers]
        symbols_BL = torch.tensor([[*one, *[0] * (max(counts) - len(one))] for one in numbers])
        return x_BTF, torch.tensor(lengths), symbols_BL, torch.tensor(counts), torch.from_numpy(indices)


def steps_needed(text: str) -> int:
    """Steps that CTC needs at least: one a symbol, and a blank between two that are the same."""
    return max(1, len(text) + sum(a == b for a, b in pairwise(text)))


def held_speakers(speakers: Sequence[str], share: float, *, seed: int) -> npt.NDArray[np.bool_]:
    """(n,) bool: utterances held out, at least `share` of them, whole speakers where there are several, else single ones."""
    draw, units = (
        generator(seed, SPLIT),
        np.array(speakers if len(set(speakers)) > 1 else list(map(str, range(len(speakers))))),
    )
    held = np.zeros(len(units), bool)
    for unit in draw.permutation(np.unique(units)):
        if held.sum() >= share * len(units):
            break
        held |= units == unit
    return held


def hide_(x_BTF: Tensor, draw: np.random.Generator, *, freq: int, freqs: int, time: int, times: int) -> None:
    """Stretches of up to `freq` bins (`freqs` times) and `time` frames (`times` times) of each spectrogram become 0."""
    for x_TF in x_BTF:
        for axis, width, often in ((1, freq, freqs), (0, time, times)):
            for _ in range(often):
                length = int(draw.integers(0, min(width, x_TF.shape[axis]) + 1))
                x_TF.narrow(axis, int(draw.integers(0, x_TF.shape[axis] - length + 1)), length).zero_()
