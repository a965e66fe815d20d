"""A plan says, for every update, which phase it belongs to and at which learning rate it is made.

Everything the papers do is a plan. DSD (Han et al., ICLR 2017, Algorithm 1) is dense, sparse, dense; direct fine-tuning
is the same without the mask; iterative pruning (Han et al., NIPS 2015) is dense, sparse, sparse, ... A plan is frozen
and a pure function of the update, so there is nothing to save and nothing to resume. No torch here.

An *update* is one optimizer step. Update 0 is the first one.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from numbers import Real
from typing import Any

from dsd.schedules import (
    Constant,
    Cosine,
    Drops,
    Exponential,
    Inv,
    Moment,
    MultiStep,
    Polynomial,
    Scaled,
    Schedule,
    Step,
    Times,
    Warmup,
)

__all__ = [
    "Constant", "Cosine", "Drops", "Exponential", "Inv", "Moment", "MultiStep", "Phase", "Plan", "Polynomial", "Scaled",
    "Schedule", "Step", "Times", "Warmup", "flat", "iterated", "repeated",
]  # fmt: skip


@dataclass(frozen=True)
class Phase:
    """A stretch of training under one constraint.

    `epochs` may be fractional (VGG-16's sparse phase is 1.25). `constraint` says what the weights may be (None: dense).
    `reset_optimizer` empties momentum and moments when the phase begins, as Caffe's `-weights` and fb.resnet.torch's
    `-retrain` do (inferred: the paper is silent). Set it False to carry them over; the momentum of weights that are
    released at that boundary is zeroed all the same.
    """

    name: str
    epochs: float
    rate: Schedule
    constraint: Any = None
    reset_optimizer: bool = True

    def __post_init__(self) -> None:
        if not (isinstance(self.epochs, Real) and 0 < self.epochs < math.inf):
            raise ValueError(f"phase {self.name!r}: epochs must be a positive number, found {self.epochs!r}")
        if not callable(self.rate):
            raise TypeError(f"phase {self.name!r}: rate must be a schedule such as Constant(0.1), found {self.rate!r}")


def flat(phases: Iterable[Phase | Iterable[Phase]]) -> tuple[Phase, ...]:
    """The phases one after another, those of `repeated` groups among them."""
    return tuple(q for p in phases for q in ((p,) if isinstance(p, Phase) else flat(p)))


@dataclass(frozen=True)
class Plan:
    """Phases in order, laid out over updates: `plan.rate(u)`, `plan.index(u)`, `plan.spans`.

    Boundaries are rounded cumulatively, so the total is always round(total epochs x updates_per_epoch).
    Raises ValueError if there is no phase, two share a name, or a phase would be shorter than one update.
    """

    phases: tuple[Phase, ...]
    updates_per_epoch: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "phases", flat(self.phases))
        if not self.phases:
            raise ValueError("a plan needs at least one phase")
        names = [phase.name for phase in self.phases]
        if len(set(names)) < len(names):
            raise ValueError(f"phases must have different names, found {names}")
        if self.updates_per_epoch < 1:
            raise ValueError(f"updates_per_epoch must be at least 1, found {self.updates_per_epoch}")
        for phase, (first, end) in zip(self.phases, self.spans, strict=True):
            if end <= first:
                raise ValueError(
                    f"phase {phase.name!r}: {phase.epochs} epochs of {self.updates_per_epoch} updates is less than one update"
                )

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The update after the last one of each phase."""
        return tuple(
            math.floor(epochs * self.updates_per_epoch + 0.5 + 1e-9)
            for epochs in accumulate(phase.epochs for phase in self.phases)
        )

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """(first update, update after the last) of each phase."""
        return tuple(zip((0, *self.ends[:-1]), self.ends, strict=True))

    @property
    def words(self) -> str:
        """The name of each phase, the update it ends at, and its sparsity."""
        sparsities = [getattr(phase.constraint, "sparsity", None) for phase in self.phases]
        return ", ".join(
            f"{phase.name} to update {end}" + ("" if sparsity is None else f" at sparsity {sparsity}")
            for phase, end, sparsity in zip(self.phases, self.ends, sparsities, strict=True)
        )

    @property
    def rates(self) -> list[str]:
        """Each phase's schedule in words; of a function, whose words hold an address, without that."""
        return [re.sub(r" at 0x[0-9a-f]+", "", repr(phase.rate)) for phase in self.phases]

    @property
    def updates(self) -> int:
        """Updates in all."""
        return self.ends[-1]

    @property
    def epochs(self) -> int:
        """Epochs in all, the last one counted even if it is cut short."""
        return -(-self.updates // self.updates_per_epoch)

    def index(self, update: int) -> int:
        """Number of the phase that update belongs to; updates past the end belong to the last phase."""
        if update < 0:
            raise ValueError(f"updates count from 0, found {update}")
        return min(bisect_right(self.ends, update), len(self.phases) - 1)

    def phase(self, update: int) -> Phase:
        """The phase that update belongs to."""
        return self.phases[self.index(update)]

    def rate(self, update: int) -> float:
        """The learning rate of that update (or its factor, when the phase's schedule is relative)."""
        index = self.index(update)
        first, end = self.spans[index]
        return self.phases[index].rate(Moment(min(update, end - 1) - first, end - first, self.updates_per_epoch))


def repeated(
    phases: Sequence[Phase], times: int, *, decay: float | Sequence[float] = 1.0, thin: float = 1.0, whole: bool = False
) -> tuple[Phase, ...]:
    """The phases `times` times over in the length of one round; DSDSD is dense + repeated([sparse, redense], 2).

    In round k = 0, 1, ... rates are multiplied by `decay` ** k (one number, or one of each phase) and the sparsity of
    every layer by `thin` ** k. `whole`: each round has the full length, as published (Han et al., ICLR 2017, Tables 7, 9).
    """
    if times < 1:
        raise ValueError(f"times must be at least 1, found {times}")
    decays = [decay] * len(phases) if isinstance(decay, (int, float)) else list(decay)
    if len(decays) != len(phases):
        raise ValueError(f"decay must be one number, or one of each of the {len(phases)} phases; found {decays}")
    return tuple(
        replace(
            phase,
            name=f"{phase.name}{k + 1}",
            epochs=phase.epochs if whole else phase.epochs / times,
            rate=Scaled(phase.rate, factor**k),
            constraint=phase.constraint and replace(phase.constraint, share=phase.constraint.share * thin**k),
        )
        for k in range(times)
        for phase, factor in zip(phases, decays, strict=True)
    )


def iterated(phase: Phase, rounds: int) -> tuple[Phase, ...]:
    """A sparse phase in `rounds` equal parts, each pruned further: density ** (k / rounds) in round k (iterative pruning).

    Han et al., NIPS 2015, section 3.4; the last round has the phase's own sparsity, and all together its length.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, found {rounds}")
    return tuple(
        replace(
            phase,
            name=f"{phase.name}{k}",
            epochs=phase.epochs / rounds,
            constraint=replace(phase.constraint, part=phase.constraint.part * k / rounds),
        )
        for k in range(1, rounds + 1)
    )
