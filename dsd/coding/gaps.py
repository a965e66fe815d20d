"""Positions of the surviving weights as gaps of a few bits (Deep Compression, section 2, Figure 2).

A gap is the number of pruned weights between two survivors. What doesn't fit into the bits needs a filler. The paper's is
a stored weight of value 0, which costs a value and a gap of 2**bits - 1 (`with_fillers`; `paper_fillers` counts them).
Ours is an escape: the symbol 2**bits - 1 says "so many pruned weights, and no survivor here", so values are stored for
survivors only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer[Any]]
BITS = range(2, 17)


def gaps_of(position_N: Ints) -> npt.NDArray[np.int64]:
    """The number of pruned weights in front of each survivor, given their ascending positions."""
    gaps: npt.NDArray[np.int64] = np.diff(position_N, prepend=-1) - 1
    return gaps


def to_symbols(gap_N: Ints, bits: int) -> npt.NDArray[np.int32]:
    """Gaps and escapes in order, each below 2**bits. A gap of 2**bits - 1 is an escape and a gap of 0."""
    escape = (1 << bits) - 1
    if not len(gap_N) or gap_N.max() < escape:
        return gap_N.astype(np.int32)
    skips = gap_N // escape
    symbols = np.full(len(gap_N) + int(skips.sum()), escape, np.int32)
    symbols[np.cumsum(skips + 1) - 1] = gap_N % escape
    return symbols


def from_symbols(symbols: Ints, bits: int) -> npt.NDArray[np.int64]:
    """The ascending positions. Raises ValueError if the symbols end in an escape, which no encoder writes."""
    escape = (1 << bits) - 1
    if len(symbols) and symbols[-1] == escape:
        raise ValueError("the gaps end in an escape")
    kept = symbols != escape
    reached = np.cumsum(symbols.astype(np.int64) + kept)
    positions: npt.NDArray[np.int64] = reached[kept] - 1
    return positions


def with_fillers(gap_N: Ints, bits: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """The paper's entries in order: the gap in front of each, below 2**bits, and whether it is a filler, not a survivor."""
    ends = np.cumsum((gap_N >> bits) + 1) - 1
    filler = np.ones(int(ends[-1]) + 1 if len(ends) else 0, bool)
    filler[ends] = False
    symbols = np.full(len(filler), (1 << bits) - 1, np.int32)
    symbols[ends] = gap_N & ((1 << bits) - 1)
    return symbols, filler


def filler_counts(gap_counts: Ints, bits: int) -> npt.NDArray[np.int64]:
    """How often each symbol of `with_fillers` would occur; `gap_counts[g]` says how often gap g does."""
    gaps = np.arange(len(gap_counts))
    counts = np.zeros(1 << bits, np.int64)
    np.add.at(counts, gaps & ((1 << bits) - 1), gap_counts)
    counts[-1] += int(((gaps >> bits) * gap_counts).sum())
    return counts


def symbol_counts(gap_counts: Ints, bits: int) -> npt.NDArray[np.int64]:
    """How often each symbol would occur; `gap_counts[g]` says how often gap g does."""
    escape, gaps = (1 << bits) - 1, np.arange(len(gap_counts))
    counts = np.zeros(escape + 1, np.int64)
    np.add.at(counts, gaps % escape, gap_counts)
    counts[escape] = int((gaps // escape * gap_counts).sum())
    return counts


def paper_fillers(gap_N: Ints, bits: int) -> int:
    """Fillers that the paper's way needs: a filler stands on a pruned weight, so it takes 2**bits weights away."""
    return int((gap_N >> bits).sum())
