"""A plan says, for every update, which phase it belongs to and at which learning rate it is made.

Everything the papers do is a plan. DSD (Han et al., ICLR 2017, Algorithm 1) is dense, sparse, dense; direct fine-tuning
is the same without the mask; iterative pruning (Han et al., NIPS 2015) is dense, sparse, sparse, ... A plan is frozen
and a pure function of the update, so there is nothing to save and nothing to resume. No torch here.

An *update* is one optimizer step. Update 0 is the first one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple, Protocol


class Moment(NamedTuple):
    """Where an update stands inside its phase."""

    update: int
    """Updates since the phase began, 0 for its first."""
    updates: int
    """Length of the phase in updates."""
    updates_per_epoch: int

    @property
    def epoch(self) -> float:
        """Epochs since the phase began."""
        return self.update / self.updates_per_epoch

    @property
    def part(self) -> float:
        """Share of the phase that is over, 0 <= part < 1."""
        return self.update / self.updates


class Schedule(Protocol):
    """The learning rate of an update, from its place in the phase. Relative ones multiply the optimizer's own rate."""

    @property
    def relative(self) -> bool: ...
    def __call__(self, at: Moment) -> float: ...


@dataclass(frozen=True)
class Times:
    """`factor` times whatever rate the optimizer, or a scheduler of the user's, has set."""

    factor: float
    relative: bool = field(default=True, init=False)

    def __call__(self, at: Moment) -> float:
        return self.factor


@dataclass(frozen=True)
class Constant:
    """`rate` all through the phase."""

    rate: float
    relative: bool = field(default=False, init=False)

    def __call__(self, at: Moment) -> float:
        return self.rate


@dataclass(frozen=True)
class Step:
    """`rate`, times `factor` after each `every` epochs (fb.resnet.torch: x0.1 every 30)."""

    rate: float
    every: float
    factor: float
    relative: bool = field(default=False, init=False)

    def __call__(self, at: Moment) -> float:
        return self.rate * self.factor ** math.floor(at.epoch / self.every + 1e-9)


@dataclass(frozen=True)
class MultiStep:
    """`rate`, times `factor` from each of the epochs in `at` on (fb.resnet.torch on CIFAR-10: 81 and 122)."""

    rate: float
    at: tuple[float, ...]
    factor: float
    relative: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", tuple(self.at))

    def __call__(self, at: Moment) -> float:
        return self.rate * self.factor ** sum(at.epoch >= epoch - 1e-9 for epoch in self.at)


@dataclass(frozen=True)
class Drops:
    """`rate`, times `factor` after each of the `parts` of the phase: MultiStep that keeps its shape at any length.

    fb.resnet.torch's "every 30 of 90 epochs" is parts (1/3, 2/3), its CIFAR-10 schedule (81/164, 122/164).
    """

    rate: float
    parts: tuple[float, ...]
    factor: float
    relative: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))

    def __call__(self, at: Moment) -> float:
        return self.rate * self.factor ** sum(at.part >= part - 1e-9 for part in self.parts)


@dataclass(frozen=True)
class Exponential:
    """`rate` times `factor` once an epoch: in steps if `staircase`, otherwise evenly (Deep Speech's annealing)."""

    rate: float
    factor: float
    staircase: bool = True
    relative: bool = field(default=False, init=False)

    def __call__(self, at: Moment) -> float:
        return self.rate * self.factor ** (math.floor(at.epoch + 1e-9) if self.staircase else at.epoch)


@dataclass(frozen=True)
class Cosine:
    """From `rate` down to `final` along half a cosine over the phase."""

    rate: float
    final: float = 0.0
    relative: bool = field(default=False, init=False)

    def __call__(self, at: Moment) -> float:
        return self.final + (self.rate - self.final) * 0.5 * (1 + math.cos(math.pi * at.part))


@dataclass(frozen=True)
class Polynomial:
    """`rate` x (1 - part of the phase) ** `power` (Caffe's `poly`; GoogLeNet's quick_solver has power 0.5)."""

    rate: float
    power: float
    relative: bool = field(default=False, init=False)

    def __call__(self, at: Moment) -> float:
        return self.rate * (1 - at.part) ** self.power


@dataclass(frozen=True)
class Inv:
    """`rate` x (1 + `gamma` x update) ** -`power` (Caffe's `inv`; its LeNet has gamma 1e-4, power 0.75)."""

    rate: float
    gamma: float
    power: float
    relative: bool = field(default=False, init=False)

    def __call__(self, at: Moment) -> float:
        return self.rate * (1 + self.gamma * at.update) ** -self.power


@dataclass(frozen=True)
class Warmup:
    """`then`, multiplied by a line from `start` up to 1 over the first `epochs` epochs of the phase."""

    then: Schedule
    epochs: float
    start: float = 0.0

    @property
    def relative(self) -> bool:
        return self.then.relative

    def __call__(self, at: Moment) -> float:
        rise = min(1.0, at.epoch / self.epochs) if self.epochs > 0 else 1.0
        return self.then(at) * (self.start + (1 - self.start) * rise)


@dataclass(frozen=True)
class Scaled:
    """`then`, times a constant `factor`."""

    then: Schedule
    factor: float

    @property
    def relative(self) -> bool:
        return self.then.relative

    def __call__(self, at: Moment) -> float:
        return self.then(at) * self.factor


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
        if not (self.epochs > 0 and math.isfinite(self.epochs)):
            raise ValueError(f"phase {self.name!r}: epochs must be a positive number, found {self.epochs}")
        if not callable(self.rate):
            raise TypeError(
                f"phase {self.name!r}: rate must be a schedule such as Constant(0.1), found {self.rate!r}"
            )


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


def repeated(phases: Sequence[Phase], times: int, *, decay: float = 1.0, thin: float = 1.0) -> tuple[Phase, ...]:
    """The phases `times` times over in the length of one round; DSDSD is dense + repeated([sparse, redense], 2).

    In round k = 0, 1, ... rates are multiplied by `decay` ** k and the constraint's sparsity by `thin` ** k.
    """
    if times < 1:
        raise ValueError(f"times must be at least 1, found {times}")
    return tuple(
        replace(
            phase,
            name=f"{phase.name}{k + 1}",
            epochs=phase.epochs / times,
            rate=Scaled(phase.rate, decay**k),
            constraint=phase.constraint
            and replace(phase.constraint, sparsity=phase.constraint.sparsity * thin**k),
        )
        for k in range(times)
        for phase in phases
    )
