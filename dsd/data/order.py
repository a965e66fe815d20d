"""The order in which a run sees its images: a pure function of (seed, epoch), so it can be resumed in mid-epoch.

All random numbers of this room come from `generator(seed, stream, ...)`: one independent PCG64 stream per place where
chance is used (the permutation of an epoch, the crops of a batch, the crop of one image). Nothing draws from a global
generator, so neither the number of workers nor a restart can change a number, and nothing has to be saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pytorch_lightning import Trainer

ORDER, BATCH, SAMPLE, SPLIT = range(4)
"""Streams of `generator`: an epoch's permutation, a batch's augmentation, one image's augmentation, a split."""


def generator(seed: int, stream: int, *where: int) -> np.random.Generator:
    """A PCG64 generator that depends on `seed` >= 0, the stream and the integers `where` >= 0, and on nothing else."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream, *where))))


class Place(NamedTuple):
    """Where a run stands: the epoch, the first batch of it that is still to come, and this process among all."""

    epoch: int = 0
    first: int = 0
    rank: int = 0
    world: int = 1


def place(trainer: Trainer | None) -> Place:
    """Where the trainer's next training batch comes from; the very beginning without a trainer.

    A checkpoint made at or after the last batch of an epoch resumes with batch 0 of the next one, whichever hook saved
    it (Lightning counts the epoch as over only after `on_train_batch_end` and validation).
    """
    if trainer is None:
        return Place()
    loop = trainer.fit_loop
    batches = loop.epoch_loop.batch_progress
    epoch, first = trainer.current_epoch, batches.current.ready
    if batches.is_last_batch:
        epoch, first = loop.epoch_progress.current.ready, 0
    return Place(epoch, first, trainer.global_rank, trainer.world_size)


class Order:
    """A batch sampler that yields int64 index arrays (size,) of the current epoch, for this rank.

    Training (`shuffle=True`): a new permutation of range(n) each epoch; over all ranks every index comes once, and if
    n is no multiple of `world`, the first few of the permutation come again, so that all ranks make equally many
    equally large batches. `drop_last=True` instead leaves out what doesn't fill a batch on every rank.
    Evaluation (`shuffle=False`): 0 .. n-1 in order, dealt out to the ranks in turn, each exactly once.

    The first iteration starts at batch `first`, later ones at 0; `len()` is always the full number of batches.
    Raises ValueError for n, batch_size < 1, a rank outside 0 .. world-1, `first` outside 0 .. len, a negative seed,
    when `drop_last` would leave no batch, or evaluation a rank without a sample.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        shuffle: bool = True,
        drop_last: bool = False,
        first: int = 0,
    ) -> None:
        if n < 1 or batch_size < 1:
            raise ValueError(f"Order needs at least one sample and one per batch, found n={n}, batch_size={batch_size}")
        if not 0 <= rank < world:
            raise ValueError(f"rank must be in 0..{world - 1}, found {rank}")
        if seed < 0:
            raise ValueError(f"seed must be >= 0, found {seed}")
        if not shuffle and n < world:
            raise ValueError(
                f"{world} processes can't evaluate {n} samples: one without any would wait for ever; take fewer"
            )
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.rank, self.world = rank, world
        self.shuffle, self.drop_last = shuffle, drop_last
        self.epoch = 0
        self.first = first
        if len(self) == 0 and shuffle:
            raise ValueError(f"drop_last leaves no batch: {n} samples, {world} rank(s), batch_size={batch_size}")
        if not 0 <= first <= len(self):
            raise ValueError(f"first must be in 0..{len(self)} batches, found {first}")

    @property
    def sampler(self) -> Order:
        """This object: where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """The next iteration yields the batches of `epoch` (0 is the first)."""
        self.epoch = epoch

    def indices(self) -> npt.NDArray[np.int64]:
        """(samples of this rank,) int64: this epoch's indices for this rank, before they are cut into batches."""
        if not self.shuffle:
            return np.arange(self.rank, self.n, self.world)
        permutation = generator(self.seed, ORDER, self.epoch).permutation(self.n)
        return np.resize(permutation, self._samples() * self.world)[self.rank :: self.world]

    def _samples(self) -> int:
        if not self.shuffle:
            return len(range(self.rank, self.n, self.world))
        return self.n // self.world if self.drop_last else -(-self.n // self.world)

    def __len__(self) -> int:
        samples = self._samples()
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def __iter__(self) -> Iterator[npt.NDArray[np.int64]]:
        for _, indices in self.numbered():
            yield indices

    def numbered(self) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
        """The same batches, each with its number in the epoch. Lazy: epoch and `first` are read at the first batch."""
        indices = self.indices()
        first, self.first = self.first, 0
        for batch in range(first, len(self)):
            yield batch, indices[batch * self.batch_size : (batch + 1) * self.batch_size]

    def state_dict(self) -> dict[str, Any]:
        """What the order depends on. There is no position in it: that is Lightning's own count, see `place`."""
        names = ("n", "batch_size", "seed", "world", "shuffle", "drop_last")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing changes; ValueError if the checkpoint was made with another order, as a run can't go on in it."""
        now = self.state_dict()
        changed = [f"{name} was {state.get(name)}, is {now[name]}" for name in now if state.get(name) != now[name]]
        if changed:
            raise ValueError(f"this checkpoint stopped inside an epoch of other batches: {'; '.join(changed)}")


class Ordered:
    """What a loader with an `Order` shows to Lightning: where `set_epoch` is, and that it can go on in mid-epoch."""

    def __init__(self, order: Order, trainer: Trainer | None) -> None:
        self.sampler = order
        self.batch_sampler = order
        self.trainer = trainer

    def begin(self) -> int:
        """The epoch that starts now, which the order is set to: the trainer's own count, or without one what it is.

        Lightning calls `set_epoch` too, but with another counter; that one is ahead by an epoch if `max_steps` is set
        and the run was resumed from a checkpoint of `on_train_epoch_end`, as it then ends that epoch a second time.
        """
        if self.trainer is not None:
            self.sampler.set_epoch(self.trainer.current_epoch)
        return self.sampler.epoch

    def __len__(self) -> int:
        return len(self.sampler)

    def state_dict(self) -> dict[str, Any]:
        """See `Order.state_dict`."""
        return self.sampler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Order.load_state_dict`."""
        self.sampler.load_state_dict(state)
