"""Where the survivors of a tensor are, into its record: as gaps, with escapes or the paper's fillers, or as a bitmap."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dsd.coding import bitmap, gaps, stream
from dsd.coding.archive import Writer
from dsd.coding.stream import Coder

Array = npt.NDArray[Any]
PAPER = 4  # layout of positions: gaps with the paper's fillers


def spread(values: Array, filler: Array, blank: int) -> Array:
    """The values in order where `filler` is False, and `blank` where it is True."""
    out = np.full(len(filler), blank, values.dtype)
    out[~filler] = values
    return out


def write_with_fillers(
    out: Writer, position: Array, coder: Coder, index_bits: int | None, values: Array | None, width: int
) -> Array:
    """Row-major gaps as in the paper; which entries are fillers. What fillers cost among the values counts for the width."""
    gap = gaps.gaps_of(position)
    counts = np.bincount(gap) if len(gap) else np.zeros(1, np.int64)
    best, chosen = float("inf"), 2
    for bits in gaps.BITS if index_bits is None else (index_bits,):
        extra = gaps.paper_fillers(gap, bits)
        cost = min(stream.sizes(gaps.filler_counts(counts, bits), coder).values())
        if values is None:
            cost += extra * width / 8
        else:
            values[-1] = extra
            cost += min(stream.sizes(values, coder).values())
        if cost < best:
            best, chosen = cost, bits
    symbols, filler = gaps.with_fillers(gap, chosen)
    out.byte("header", PAPER)
    out.byte("header", chosen)
    stream.write(out, "index", symbols, 1 << chosen, coder)
    return filler


def write_positions(
    out: Writer, position: Array, matrix: tuple[int, int], coder: Coder, index_bits: int | None
) -> None:
    rows, columns = matrix
    best: tuple[float, int, int, Array] | None = None
    for layout in (0, 1) if min(matrix) > 1 and len(position) < 1 << 20 else (0,):
        placed = np.sort(position % columns * rows + position // columns) if layout else position
        gap = gaps.gaps_of(placed)
        counts, own = np.bincount(gap) if len(gap) else np.zeros(1, np.int64), float("inf")
        for bits in gaps.BITS if index_bits is None else (index_bits,):
            cost = min(stream.sizes(gaps.symbol_counts(counts, bits), coder).values())
            own = min(own, cost)
            if best is None or cost < best[0]:
                best = (cost, layout, bits, gap)
            elif index_bits is None and cost > 1.2 * own:
                break  # wider gaps only get dearer
    assert best is not None
    if index_bits is None and coder == "best" and 0 < rows * columns <= bitmap.LARGEST and len(position):
        keep = np.zeros(rows * columns, bool)
        keep[position] = True
        maps = [bitmap.encode(keep.reshape(rows, columns)), bitmap.encode(keep.reshape(rows, columns).T)]
        layout = int(len(maps[1]) < len(maps[0]))
        if len(maps[layout]) < best[0]:
            out.byte("header", layout + 2)
            out.varint("header", len(maps[layout]))
            out.bytes("index", maps[layout])
            return
    out.byte("header", best[1])
    out.byte("header", best[2])
    stream.write(out, "index", gaps.to_symbols(best[3], best[2]), 1 << best[2], coder)
