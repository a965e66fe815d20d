"""Bits of each layer's codebook, chosen so that a size or an error is not exceeded.

The error of a layer is the share of its energy (sum of squares) that its codebook takes away: noise over signal, which
layers pass on to each other. The size is what positions and indices take at order 0, and the codebook. Nothing is
retrained and no data are needed; training takes back much of such an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dsd.quantization.codebook import Codebook
from dsd.quantization.kmeans import Initial

MOST = 8  # bits


@dataclass(frozen=True)
class Choice:
    """A layer with codebooks of `bits`: bytes by estimate, and the lost share of its energy (0..1)."""

    bits: int
    bytes: float
    loss: float


def choices(weight: Tensor, *, init: Initial, iterations: int, seed: int) -> tuple[Choice, ...]:
    """The layer at 1 to 8 bits, smallest first; only those that are worth their bytes (the lower convex hull)."""
    found: list[Choice] = []
    flat = weight.detach().reshape(-1).float().cpu().numpy()
    energy = float(np.square(flat, dtype=np.float64).sum())
    for bits in range(1, MOST + 1):
        book = Codebook.of(weight, bits, init=init, iterations=iterations, seed=seed)
        index, kept = book.index_N.numpy(), len(book.index_N)
        off = flat[book.position_N.numpy()] - book.centroid_K.numpy()[index]
        counts = np.bincount(index) if kept else np.zeros(1, np.int64)
        size = (_entropy(counts) + _entropy(np.array([kept, flat.size - kept]))) / 8 + 4 * len(book.centroid_K)
        loss = float(np.square(off, dtype=np.float64).sum()) / energy if energy else 0.0
        found = _with(found, Choice(bits, size, loss))
        if loss == 0:
            break  # every value has a centroid of its own
    return tuple(found)


def frontier(layers: Mapping[str, Sequence[Choice]]) -> list[dict[str, Choice]]:
    """Allocations from the most bytes to the least: each step takes bits from the layer that loses least for its bytes."""
    at = {name: len(found) - 1 for name, found in layers.items()}
    steps = [{name: found[-1] for name, found in layers.items()}]
    while open_ := [name for name in at if at[name] > 0]:
        name = min(open_, key=lambda n: _price(layers[n][at[n] - 1], layers[n][at[n]]))
        at[name] -= 1
        steps.append({n: layers[n][at[n]] for n in at})
    return steps


def for_bytes(layers: Mapping[str, Sequence[Choice]], budget: float) -> dict[str, int]:
    """Bits of each layer: the least loss whose estimated bytes are at most `budget`. ValueError if one bit is too much."""
    steps = frontier(layers)
    for step in steps:
        if sum(choice.bytes for choice in step.values()) <= budget:
            return {name: choice.bits for name, choice in step.items()}
    least = sum(choice.bytes for choice in steps[-1].values())
    raise ValueError(
        f"{budget:,.0f} bytes are too few: with the smallest codebooks these weights take about {least:,.0f}; prune more"
    )


def for_loss(layers: Mapping[str, Sequence[Choice]], budget: float) -> dict[str, int]:
    """Bits of each layer: the fewest bytes whose mean loss is at most `budget` (0..1). ValueError if 8 bits lose more."""
    steps = [
        step for step in frontier(layers) if sum(choice.loss for choice in step.values()) <= budget * max(1, len(step))
    ]
    if not steps:
        raise ValueError(f"a loss of {budget:g} is too little: {MOST} bits in every layer lose more")
    return {name: choice.bits for name, choice in steps[-1].items()}


def _with(found: list[Choice], new: Choice) -> list[Choice]:
    """The lower convex hull of bytes and loss, with a choice of more bits added at its end."""
    while found and (new.bytes <= found[-1].bytes or new.loss >= found[-1].loss):
        if new.loss >= found[-1].loss:
            return found  # more bits, no gain
        found = found[:-1]
    while len(found) > 1 and _price(found[-2], found[-1]) <= _price(found[-1], new):
        found = found[:-1]
    return [*found, new]


def _price(less: Choice, more: Choice) -> float:
    """Loss for each byte that going from `more` to `less` saves."""
    return (less.loss - more.loss) / (more.bytes - less.bytes)


def _entropy(counts_K: npt.NDArray[Any]) -> float:
    """Bits of symbols with these counts, order 0."""
    counts = counts_K[counts_K > 0].astype(np.float64)
    return float(-(counts * np.log2(counts / counts.sum())).sum()) if len(counts) else 0.0
