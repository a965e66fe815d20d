"""The best codebook there is, in one dimension: dynamic programming over the sorted values.

The best k clusters of the first m values end in a cluster whose first value moves right as m grows, so that a layer of the
table takes n log n looks instead of n^2 (Gronlund et al., "Fast exact k-means, k-medians and Bregman divergence clustering
in 1D", 2017). Exact up to 4,096 values; beyond, clusters begin only at the edges of as many groups (half of them of equal
width, half of equal size), which Lloyd's iterations then adjust.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
GROUPS = 4096


def optimal(ordered: Floats, k: int, rng: np.random.Generator) -> Floats:
    """`k` centroids of the clusters with the least squared error; `ordered` has more than `k` different values."""
    edges = _edges(np.asarray(ordered, np.float64), max(GROUPS, 4 * k))
    sums = np.concatenate([[0.0], np.cumsum(ordered, dtype=np.float64)])[edges]
    count = edges.astype(np.float64)
    first = _last_clusters(sums, count, k)
    borders = [len(edges) - 1]
    for layer in range(k - 1, -1, -1):
        borders.append(int(first[layer][borders[-1]]))
    at = np.asarray(borders[::-1])
    return np.asarray(np.diff(sums[at]) / np.diff(count[at]), np.float64)


def _edges(ordered: npt.NDArray[np.float64], groups: int) -> Ints:
    """Where clusters may begin, the end included."""
    n = len(ordered)
    if n <= groups:
        return np.arange(n + 1)
    width = np.searchsorted(ordered, np.linspace(ordered[0], ordered[-1], groups // 2 + 1)[1:-1])
    size = np.linspace(0, n, groups // 2 + 1).astype(np.int64)
    return np.unique(np.concatenate([width, size]))


def _last_clusters(sums: Floats, count: Floats, k: int) -> list[Ints]:
    """For 1 to k clusters: where the last one begins, for every end.

    Minimising squared error is maximising the sum over clusters of sum^2 / count, since the sum of squares is fixed.
    """
    n = len(sums) - 1
    best = np.full(n + 1, -np.inf)
    best[1:] = sums[1:] ** 2 / count[1:]
    found = [np.zeros(n + 1, np.int64)]
    for clusters in range(2, k + 1):
        best, first = _layer(best, sums, count, clusters)
        found.append(first)
    return found


def _layer(before: Floats, sums: Floats, count: Floats, clusters: int) -> tuple[Floats, Ints]:
    """The best with one cluster more, and where that begins: middles first, each between its neighbours' answers."""
    n = len(sums) - 1
    best, first = np.full(n + 1, -np.inf), np.full(n + 1, clusters - 1, np.int64)
    step = 1 << max(0, (n - 1).bit_length())
    low, high = np.full(n + 2 * step + 1, clusters - 1, np.int64), np.full(n + 2 * step + 1, n - 1, np.int64)
    while step:
        ends = np.arange(step, n + 1, 2 * step)
        ends = ends[ends >= clusters]
        if len(ends):
            begin = np.maximum(low[ends - step], clusters - 1)
            stop = np.minimum(high[np.minimum(ends + step, n + 1)], ends - 1)
            length = stop - begin + 1
            start = np.cumsum(length) - length
            end = np.repeat(ends, length)
            place = np.arange(int(length.sum())) - np.repeat(start, length) + np.repeat(begin, length)
            value = before[place] + (sums[end] - sums[place]) ** 2 / (count[end] - count[place])
            top = np.maximum.reduceat(value, start)
            hit = np.flatnonzero(value == np.repeat(top, length))
            of = np.searchsorted(start, hit, side="right") - 1
            _, one = np.unique(of, return_index=True)
            best[ends], first[ends] = top, place[hit[one]]
            low[ends] = high[ends] = first[ends]
        step //= 2
    return best, first
