"""What a test is given: values paired by seed, a group of values, or a group of which only the summary is published."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
Missing: TypeAlias = Literal["error", "drop"]

ROUNDING = 32 * float(np.finfo(np.float64).eps)  # of the largest value: what lies closer is equal


@dataclass(frozen=True)
class Summary:
    """A group as a published table gives it. `std` has the n - 1 denominator; None = not published, or n = 1."""

    n: int
    mean: float
    std: float | None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"a group needs at least one value, got n = {self.n}")
        _finite("mean", self.mean)
        if self.std is not None and _finite("std", self.std) < 0:
            raise ValueError(f"a standard deviation is not negative, got {self.std}")
        if self.n == 1 and self.std is not None:
            raise ValueError(f"one value has no standard deviation, got {self.std}")


Values: TypeAlias = Sequence[float] | FloatArray
Group: TypeAlias = Values | Summary


@dataclass(frozen=True)
class Pairs:
    """Treated and control values of the same seeds, in the order of the seeds; `dropped` had only one of the two."""

    seeds: tuple[int, ...]
    treated: tuple[float, ...]
    control: tuple[float, ...]
    dropped: tuple[int, ...] = ()

    @property
    def differences(self) -> FloatArray:
        """treated - control of each seed; sizes that differ by rounding are made equal, and 0 if they are rounding.

        8.26 - 8.16 and 8.11 - 8.01 differ by 1e-15 in floating point; a rank test must see a tie.
        """
        treated, control = np.array(self.treated), np.array(self.control)
        raw = treated - control
        rounding = ROUNDING * max(np.abs(treated).max(), np.abs(control).max())
        order = np.argsort(np.abs(raw), kind="stable")
        size = np.abs(raw)[order]
        starts = np.concatenate([[size[0] > rounding], np.diff(size) > rounding])
        first = np.maximum.accumulate(np.where(starts, np.arange(len(size)), 0))
        size = np.where(np.cumsum(starts) > 0, size[first], 0.0)
        settled = np.empty_like(raw)
        settled[order] = np.copysign(size, raw[order])
        return np.asarray(settled + 0.0)  # no -0.0


def pair(treated: Mapping[int, float], control: Mapping[int, float], *, missing: Missing = "error") -> Pairs:
    """The values of each seed side by side. A seed with one value only is an error, or dropped and counted.

    NaN is always an error: a run that diverged is a result, and dropping it would flatter its arm.
    """
    (left, right), seeds, dropped = match({"treated": treated, "control": control}, missing=missing)
    return Pairs(seeds, left, right, dropped)


def match(
    arms: Mapping[str, Mapping[int, float]], *, missing: Missing
) -> tuple[tuple[tuple[float, ...], ...], tuple[int, ...], tuple[int, ...]]:
    """Values of each arm over the seeds all arms have, those seeds in order, and the seeds left out."""
    if missing not in ("error", "drop"):
        raise ValueError(f'missing is "error" or "drop", got {missing!r}')
    common = sorted(set.intersection(*(set(values) for values in arms.values())))
    lacking = {name: sorted(set().union(*arms.values()) - set(values)) for name, values in arms.items()}
    dropped = tuple(sorted(set().union(*lacking.values())))
    if dropped and missing == "error":
        raise ValueError("missing pairs: " + "; ".join(f"{name} has no seed {s}" for name, s in lacking.items() if s))
    if not common:
        raise ValueError(f"no pairs: {' and '.join(arms)} have no seed in common")
    matched = tuple(tuple(_finite(f"{arm}[{seed}]", values[seed]) for seed in common) for arm, values in arms.items())
    return matched, tuple(common), dropped


def values_of(name: str, values: Values) -> FloatArray:
    """The values as an array. Raises if there are none, or one of them is not a finite number."""
    if isinstance(values, Mapping | Summary | str):
        raise TypeError(f"{name} must be the values themselves, got {type(values).__name__}")
    if len(values) == 0:
        raise ValueError(f"{name} has no values")
    return np.array([_finite(f"{name}[{i}]", value) for i, value in enumerate(values)])


def summarise(name: str, group: Group) -> Summary:
    """n, mean and standard deviation; the deviation is exactly 0 if all values are equal but for rounding."""
    if isinstance(group, Summary):
        return group
    values = values_of(name, group)
    if len(values) == 1:
        return Summary(1, float(values[0]), None)
    if np.ptp(values) <= ROUNDING * np.abs(values).max():
        return Summary(len(values), float(values[0]), 0.0)
    return Summary(len(values), float(values.mean()), float(values.std(ddof=1)))


def _finite(name: str, value: float) -> float:
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}: a run without a finite result cannot be compared, and is not left out")
    return float(value)
