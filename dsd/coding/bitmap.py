"""A mask as a bitmap, each bit coded with the chance that its surroundings give it.

Beyond the paper: trained masks aren't random. Whole input columns are dead (MNIST's margins), rows differ in density,
neighbours go together. Four adaptive guesses (column, row, the last bits in both directions, both densities) are mixed
in the logistic domain (Mahoney, PAQ, 2005) and drive a binary arithmetic coder. Integers only: the same everywhere.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

KNOTS = np.array(
    [1, 2, 3, 6, 10, 16, 27, 45, 73, 120, 194, 310, 488, 747, 1101, 1546, 2047, 2549, 2994, 3348, 3607, 3785, 3901, 3975, 4022,
     4050, 4068, 4079, 4085, 4089, 4092, 4093, 4094], np.int32,
)  # fmt: skip
LARGEST = 1 << 22  # bits; larger masks would take too long
MIXED, STEP = 14000, 1  # the first weight of a guess, of 65536; how fast the weights learn


def _squash_table() -> npt.NDArray[np.int32]:
    """4096 / (1 + exp(-x / 256)) for x = -2047..2047 by interpolation, so that no machine's exp() matters."""
    x = np.arange(-2047, 2048)
    low, part = (x >> 7) + 16, x & 127
    table: npt.NDArray[np.int32] = (
        (KNOTS[low] * (128 - part) + KNOTS[np.minimum(32, low + 1)] * part + 64) >> 7
    ).astype(np.int32)
    return table


def _stretch_table(squash: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The inverse: ln(p / (4096 - p)) x 256 for p = 0..4095."""
    return (np.searchsorted(squash, np.arange(4096)).clip(0, 4094) - 2047).astype(np.int32)


def encode(keep: npt.NDArray[np.bool_]) -> bytes:
    """The bits of `keep`, (rows, columns), row by row."""
    rows, columns = keep.shape
    out = np.zeros(keep.size // 4 + 64, np.uint8)
    data = np.ascontiguousarray(keep, np.uint8)
    size = _coder()(data, out, rows, columns, True, *_tables())
    return out[:size].tobytes()


def decode(data: bytes, rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """The bits, (rows, columns); whatever the data is, so many bits come out."""
    keep = np.zeros((rows, columns), np.uint8)
    _coder()(keep, np.frombuffer(bytearray(data + bytes(8)), np.uint8), rows, columns, False, *_tables())
    return keep.astype(bool)


@cache
def _tables() -> tuple[Any, Any, Any]:
    squash = _squash_table()
    rate = np.array([65536 // (n + 2) for n in range(256)], np.int32)
    return squash, _stretch_table(squash), rate


@cache
def _coder() -> Any:
    from numba import njit

    @njit(cache=True)
    def code(keep: Any, data: Any, rows: Any, columns: Any, writes: Any, squash: Any, stretch: Any, rate: Any) -> int:
        """Encode `keep` into `data`, or decode `data` into `keep`; the number of bytes."""
        start = 8000  # of 65536
        chance = np.full((4, max(rows, columns, 4096)), start, np.int64)  # of 65536
        seen = np.zeros((4, max(rows, columns, 4096)), np.int64)
        weight = np.full((8, 4), MIXED, np.int64)  # of 65536
        in_column = np.zeros(columns, np.int64)
        low, high, place, x = 0, 0xFFFFFFFF, 0, 0
        total, done = 0, 0
        if not writes:
            for _ in range(4):
                x = (x << 8) | data[place]
                place += 1
        for r in range(rows):
            in_row = 0
            for c in range(columns):
                near = 0
                if c >= 1:
                    near |= keep[r, c - 1]
                if c >= 2:
                    near |= keep[r, c - 2] << 1
                if r >= 1:
                    near |= keep[r - 1, c] << 2
                    if c >= 1:
                        near |= keep[r - 1, c - 1] << 3
                    if c + 1 < columns:
                        near |= keep[r - 1, c + 1] << 4
                if r >= 2:
                    near |= keep[r - 2, c] << 5
                share = (
                    min(15, 16 * (in_column[c] * 16 * done + 1) // (r * 16 * max(1, total) * 2 + 1)) if r > 0 else 15
                )
                row_share = min(7, 8 * (in_row * 4 * done + 1) // (max(1, c) * 4 * max(1, total) * 2 + 1))
                spots = (c, r, near, share * 8 + row_share)
                dot = 0
                for k in range(4):
                    dot += weight[near & 7, k] * stretch[chance[k, spots[k]] >> 4]
                guess = squash[min(2047, max(-2047, dot >> 16)) + 2047]
                guess = min(4095, max(1, guess))
                middle = low + ((high - low) >> 12) * guess + ((((high - low) & 4095) * guess) >> 12)
                if writes:
                    bit = keep[r, c]
                else:
                    bit = 1 if x <= middle else 0
                    keep[r, c] = bit
                if bit:
                    high = middle
                else:
                    low = middle + 1
                while (low ^ high) & 0xFF000000 == 0:
                    if writes:
                        data[place] = high >> 24
                        place += 1
                    else:
                        x = ((x << 8) & 0xFFFFFFFF) | (data[place] if place < len(data) else 0)
                        place += 1
                    low = (low << 8) & 0xFFFFFFFF
                    high = ((high << 8) & 0xFFFFFFFF) | 255
                error = ((bit << 12) - guess) * STEP
                for k in range(4):
                    spot = spots[k]
                    weight[near & 7, k] += (stretch[chance[k, spot] >> 4] * error + 2048) >> 12
                    target = 65535 if bit else 0
                    chance[k, spot] += ((target - chance[k, spot]) * rate[seen[k, spot]]) >> 16
                    chance[k, spot] = min(65519, max(16, chance[k, spot]))
                    seen[k, spot] = min(seen[k, spot] + 1, 120)
                total += bit
                done += 1
                in_row += bit
                in_column[c] += bit
        if writes:  # the shortest number between low and high; what follows it reads as 0
            for size in range(1, 5):
                last = (high >> (32 - 8 * size)) << (32 - 8 * size)
                if last >= low:
                    for k in range(size):
                        data[place] = (last >> (24 - 8 * k)) & 255
                        place += 1
                    break
        return place

    return code
