"""Learning rates inside a phase: small frozen functions of the update's place in it. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from numbers import Real
from typing import NamedTuple, Protocol


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


class _Rated:
    """A schedule whose numbers are checked: a rate below 0 would climb the loss."""

    def __post_init__(self) -> None:
        for name in ("rate", "factor", "final", "start"):
            value = getattr(self, name, 0.0)
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < math.inf:
                raise ValueError(f"{type(self).__name__}: {name} is a finite number, 0 or more; found {value!r}")


@dataclass(frozen=True)
class Times(_Rated):
    """`factor` times whatever rate the optimizer, or a scheduler of the user's, has set."""

    factor: float
    relative: bool = field(default=True, init=False)

    def __call__(self, at: Moment) -> float:
        return self.factor


@dataclass(frozen=True)
class Constant(_Rated):
    """`rate` all through the phase."""

    rate: float
    relative: bool = field(default=False, init=False)

    def __call__(self, at: Moment) -> float:
        return self.rate


@dataclass(frozen=True)
class Step(_Rated):
    """`rate`, times `factor` after each `every` epochs (fb.resnet.torch: x0.1 every 30)."""

    rate: float
    every: float
    factor: float
    relative: bool = field(default=False, init=False)

    def __call__(self, at: Moment) -> float:
        return self.rate * self.factor ** math.floor(at.epoch / self.every + 1e-9)


@dataclass(frozen=True)
class MultiStep(_Rated):
    """`rate`, times `factor` from each of the epochs in `at` on (fb.resnet.torch on CIFAR-10: 81 and 122)."""

    rate: float
    at: tuple[float, ...]
    factor: float
    relative: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "at", tuple(self.at))

    def __call__(self, at: Moment) -> float:
        return self.rate * self.factor ** sum(at.epoch >= epoch - 1e-9 for epoch in self.at)


ROUNDED = 5e-9
"""Parts of a phase are written to eight digits in the recipes, and 0.66666667 of 90 epochs is where epoch 60 begins."""


@dataclass(frozen=True)
class Drops(_Rated):
    """`rate`, times `factor` after each of the `parts` of the phase: MultiStep that keeps its shape at any length.

    fb.resnet.torch's "every 30 of 90 epochs" is parts (1/3, 2/3), its CIFAR-10 schedule (81/164, 122/164).
    """

    rate: float
    parts: tuple[float, ...]
    factor: float
    relative: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "parts", tuple(self.parts))

    def __call__(self, at: Moment) -> float:
        return self.rate * self.factor ** sum(at.part >= part - ROUNDED for part in self.parts)


@dataclass(frozen=True)
class Exponential(_Rated):
    """`rate` times `factor` once an epoch: in steps if `staircase`, otherwise evenly (Deep Speech's annealing)."""

    rate: float
    factor: float
    staircase: bool = True
    relative: bool = field(default=False, init=False)

    def __call__(self, at: Moment) -> float:
        return self.rate * self.factor ** (math.floor(at.epoch + 1e-9) if self.staircase else at.epoch)


@dataclass(frozen=True)
class Cosine(_Rated):
    """From `rate` down to `final` along half a cosine over the phase."""

    rate: float
    final: float = 0.0
    relative: bool = field(default=False, init=False)

    def __call__(self, at: Moment) -> float:
        return self.final + (self.rate - self.final) * 0.5 * (1 + math.cos(math.pi * at.part))


@dataclass(frozen=True)
class Polynomial(_Rated):
    """`rate` x (1 - part of the phase) ** `power` (Caffe's `poly`; GoogLeNet's quick_solver has power 0.5)."""

    rate: float
    power: float
    relative: bool = field(default=False, init=False)

    def __call__(self, at: Moment) -> float:
        return float(self.rate * (1 - at.part) ** self.power)


@dataclass(frozen=True)
class Inv(_Rated):
    """`rate` x (1 + `gamma` x update) ** -`power` (Caffe's `inv`; its LeNet has gamma 1e-4, power 0.75)."""

    rate: float
    gamma: float
    power: float
    relative: bool = field(default=False, init=False)

    def __call__(self, at: Moment) -> float:
        return float(self.rate * (1 + self.gamma * at.update) ** -self.power)


@dataclass(frozen=True)
class Warmup(_Rated):
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
class Scaled(_Rated):
    """`then`, times a constant `factor`."""

    then: Schedule
    factor: float

    @property
    def relative(self) -> bool:
        return self.then.relative

    def __call__(self, at: Moment) -> float:
        return self.then(at) * self.factor
