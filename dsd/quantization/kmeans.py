"""One-dimensional k-means: sorted once, summed once, so that an iteration looks at the k borders only.

Han et al., "Deep Compression" (ICLR 2016), section 3.1; initial centroids are section 3.2. A scikit-learn KMeans of the
same values is an order of magnitude slower, since it measures every distance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Initial = Callable[[Floats, int, np.random.Generator], Floats]


def linear(ordered: Floats, k: int, rng: np.random.Generator) -> Floats:
    """`k` centroids equally spaced from the smallest value to the largest: the paper's choice, it keeps large weights."""
    return np.linspace(ordered[0], ordered[-1], k)


def symmetric(ordered: Floats, k: int, rng: np.random.Generator) -> Floats:
    """`k` values equally spaced from -max|w| to max|w|; with no iterations, symmetric uniform quantization."""
    top = max(abs(ordered[0]), abs(ordered[-1]))
    return np.linspace(-top, top, k)


def density(ordered: Floats, k: int, rng: np.random.Generator) -> Floats:
    """`k` centroids equally spaced in the cumulative distribution."""
    return ordered[((np.arange(k) + 0.5) / k * len(ordered)).astype(np.int64)]


def forgy(ordered: Floats, k: int, rng: np.random.Generator) -> Floats:
    """`k` of the values, drawn at random without repetition."""
    return ordered[np.sort(rng.choice(len(ordered), k, replace=False))]


def plus_plus(ordered: Floats, k: int, rng: np.random.Generator) -> Floats:
    """k-means++ (Arthur and Vassilvitskii, 2007) on at most 65,536 of the values: each next one far from those chosen."""
    pool = ordered[:: max(1, len(ordered) >> 16)]
    chosen = [pool[rng.integers(len(pool))]]
    distance = np.square(pool - chosen[0], dtype=np.float64)
    while len(chosen) < k:
        total = distance.sum()
        chosen.append(pool[rng.choice(len(pool), p=distance / total) if total > 0 else rng.integers(len(pool))])
        np.minimum(distance, np.square(pool - chosen[-1], dtype=np.float64), out=distance)
    return np.sort(np.asarray(chosen))


def kmeans(
    values_N: Floats, k: int, *, init: Initial = linear, iterations: int = 50, rng: np.random.Generator | None = None
) -> npt.NDArray[np.float32]:
    """At most `k` ascending centroids of `values_N` (any shape), float32, none of them without members.

    With no more than `k` distinct values, these are the centroids. An empty cluster takes over the upper half of the one
    with the largest squared error. With `iterations=0` they are the initial ones, members or not (linear: affine uniform
    quantization). Raises ValueError for k < 1, NaN or infinity.
    """
    if k < 1:
        raise ValueError(f"k-means needs at least one centroid, found k={k}")
    ordered = np.sort(np.asarray(values_N, np.float32).reshape(-1))
    if ordered.size == 0:
        return np.empty(0, np.float32)
    if not (np.isfinite(ordered[0]) and np.isfinite(ordered[-1])):
        raise ValueError(f"NaN or infinity among {ordered.size} values: the weights have diverged")
    if ordered.size <= k or len(distinct := np.unique(ordered[:: max(1, ordered.size // (64 * k))])) <= k:
        distinct = np.unique(ordered)
        if len(distinct) <= k:
            return distinct
    sums = np.concatenate([[0.0], np.cumsum(ordered, dtype=np.float64)])
    squares = np.concatenate([[0.0], np.cumsum(np.square(ordered, dtype=np.float64))])
    centroid = np.sort(np.asarray(init(ordered, k, rng or np.random.default_rng(0)), np.float64))
    borders = np.empty(0, np.int64)
    for _ in range(iterations):
        inner = np.searchsorted(ordered, ((centroid[1:] + centroid[:-1]) / 2).astype(np.float32), side="right")
        fresh = _filled(np.concatenate([[0], inner, [ordered.size]]), sums, squares)
        if np.array_equal(fresh, borders):
            break
        borders = fresh
        centroid = (sums[borders[1:]] - sums[borders[:-1]]) / np.diff(borders)
    return np.unique(centroid.astype(np.float32))


def _filled(borders: npt.NDArray[np.int64], sums: Floats, squares: Floats) -> npt.NDArray[np.int64]:
    """The borders with every empty cluster moved into the middle of the one with the largest squared error."""
    while (size := np.diff(borders)).min() == 0:
        total = sums[borders[1:]] - sums[borders[:-1]]
        error = squares[borders[1:]] - squares[borders[:-1]] - total**2 / np.maximum(size, 1)
        error[size < 2] = -1
        worst, empty = int(error.argmax()), int(size.argmin())
        middle = borders[worst] + size[worst] // 2
        borders = np.sort(np.append(np.delete(borders, empty if empty else 1), middle))
    return borders


def assign(values_N: Floats, centroid_K: Floats) -> npt.NDArray[np.int64]:
    """The number of the nearest of the ascending centroids for each value; halfway goes to the lower."""
    middle = (centroid_K[1:].astype(np.float64) + centroid_K[:-1]) / 2
    cells = 1 << (12 if len(middle) < 64 else 16)
    if values_N.dtype != np.float32 or values_N.size < cells or len(middle) == 0:
        return np.searchsorted(middle, values_N, side="left")
    low, high = values_N.min(), values_N.max()
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scale = np.float32(cells - 1) / (high - low)
    if not (np.isfinite(low) and np.isfinite(high) and 0 < scale < np.inf):
        return np.searchsorted(middle, values_N, side="left")
    # A grid of equal cells: only those that a border falls into have to be searched. `cell` grows with the value, so a
    # value in another cell than the largest float32 below a border is on the same side of that border as its cell.
    below = middle.astype(np.float32)
    below = np.where(below > middle, np.nextafter(below, np.float32(-np.inf)), below)
    border = np.floor((below.clip(low, high) - low) * scale).astype(np.int32)
    border[below < low], border[below > high] = -1, cells
    lower = np.searchsorted(border, np.arange(cells)).astype(np.int64)
    unsure = np.zeros(cells, bool)
    unsure[border[(border >= 0) & (border < cells)]] = True
    cell = ((values_N - low) * scale).astype(np.int32)
    found: npt.NDArray[np.int64] = lower.take(cell)
    search = np.flatnonzero(unsure.take(cell))
    found[search] = np.searchsorted(middle, values_N[search], side="left")
    return found
