"""Canonical Huffman codes (Huffman, 1952; Deep Compression, section 4).

Rules that make the code one: of two nodes with equal counts the one made earlier is merged first (symbols count as made
in order); codewords are numbered by (length, symbol) and written from their highest bit, bits filling bytes from the top.
A single symbol has a code of length 0 and takes no bits.
"""

from __future__ import annotations

import heapq
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer[Any]]
LONGEST = 24


def lengths_of(counts_K: Ints) -> npt.NDArray[np.uint8]:
    """The code length of each symbol, 0 for those that don't occur (and for the only one that does)."""
    counts = np.asarray(counts_K, np.int64)
    while True:
        lengths = _tree(counts)
        if lengths.max(initial=0) <= LONGEST:
            return lengths
        counts = np.where(counts > 0, counts // 4 + 1, 0)  # flatter counts, shorter codes


def _tree(counts: Ints) -> npt.NDArray[np.uint8]:
    used = np.flatnonzero(counts)
    lengths = np.zeros(len(counts), np.uint8)
    heap: list[tuple[int, int, Any]] = [(int(counts[s]), int(s), int(s)) for s in used]
    heapq.heapify(heap)
    made = len(counts)
    while len(heap) > 1:
        (first, _, left), (second, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        heapq.heappush(heap, (first + second, made, (left, right)))
        made += 1
    stack = [(heap[0][2], 0)] if heap else []
    while stack:
        node, depth = stack.pop()
        if isinstance(node, tuple):
            stack += [(node[0], depth + 1), (node[1], depth + 1)]
        else:
            lengths[node] = depth
    return lengths


def codes_of(lengths_K: Ints) -> npt.NDArray[np.uint32]:
    """The codeword of each symbol, right-aligned. Raises ValueError if the lengths are no complete prefix code."""
    lengths = np.asarray(lengths_K, np.int64)
    used = np.flatnonzero(lengths)
    if len(used) and (lengths.max() > LONGEST or np.sum(2.0 ** -lengths[used]) != 1):
        raise ValueError("the code lengths are no complete prefix code")
    codes = np.zeros(len(lengths), np.uint32)
    code = previous = 0
    for symbol in used[np.argsort(lengths[used], kind="stable")]:
        code <<= int(lengths[symbol]) - previous
        codes[symbol], previous = code, int(lengths[symbol])
        code += 1
    return codes


def encode(symbols_N: Ints, lengths_K: Ints) -> bytes:
    """The codewords one after another; the last byte is filled up with 0."""
    bits = int(np.asarray(lengths_K, np.int64)[symbols_N].sum())
    out = np.zeros((bits + 7) // 8 + 8, np.uint8)
    _compiled()[0](np.asarray(symbols_N, np.int32), codes_of(lengths_K), np.asarray(lengths_K, np.uint8), out)
    return out[: (bits + 7) // 8].tobytes()


def decode(data: bytes, n: int, lengths_K: Ints) -> npt.NDArray[np.int32]:
    """The `n` symbols. Raises ValueError if the data ends too early, goes on too long, or the lengths are no code."""
    codes, lengths = codes_of(lengths_K), np.asarray(lengths_K, np.uint8)
    if not lengths.any():
        raise ValueError("a code without codewords")
    if n > 8 * len(data):
        raise ValueError(f"{n} symbols can't be in {len(data)} bytes")
    order = np.lexsort((np.arange(len(lengths)), lengths))
    order = order[lengths[order] > 0].astype(np.int32)
    out = np.empty(n, np.int32)
    padded = np.frombuffer(data + bytes(8), np.uint8)
    used = _compiled()[1](padded, order, lengths[order], codes[order], out)
    if (used + 7) // 8 != len(data):
        raise ValueError(f"{n} symbols end at bit {used} of {8 * len(data)}")
    return out


@cache
def _compiled() -> tuple[Any, Any]:
    """The two inner loops, compiled when first needed: importing numba takes half a second."""
    from numba import njit

    @njit(cache=True)
    def write(symbols: Any, codes: Any, lengths: Any, out: Any) -> None:
        gathered, held, place = np.uint64(0), 0, 0
        for symbol in symbols:
            length = lengths[symbol]
            gathered = (gathered << np.uint64(length)) | np.uint64(codes[symbol])
            held += length
            while held >= 8:
                held -= 8
                out[place] = (gathered >> np.uint64(held)) & np.uint64(255)
                place += 1
        if held:
            out[place] = (gathered << np.uint64(8 - held)) & np.uint64(255)

    @njit(cache=True)
    def read(data: Any, order: Any, lengths: Any, codes: Any, out: Any) -> int:
        width = min(12, lengths[-1])
        table = np.full(1 << width, -1, np.int32)
        # of each length: how many codewords, the first of them, and its place in `order`
        count = np.zeros(lengths[-1] + 1, np.int64)
        first, start = np.zeros(len(count), np.int64), np.zeros(len(count), np.int64)
        for k in range(len(order)):
            if count[lengths[k]] == 0:
                first[lengths[k]], start[lengths[k]] = codes[k], k
            count[lengths[k]] += 1
            if lengths[k] <= width:
                begin = codes[k] << (width - lengths[k])
                table[begin : begin + (1 << (width - lengths[k]))] = k
        gathered, held, place, used = np.uint64(0), 0, 0, 0
        for i in range(len(out)):
            while held <= 48 and place < len(data):
                gathered = (gathered << np.uint64(8)) | np.uint64(data[place])
                place += 1
                held += 8
            if held < 24:
                return 1 << 60
            k = table[(gathered >> np.uint64(held - width)) & np.uint64((1 << width) - 1)]
            if k < 0:  # a long, rare codeword: those of one length are consecutive numbers
                for length in range(width + 1, len(count)):
                    code = (gathered >> np.uint64(held - length)) & np.uint64((1 << length) - 1)
                    far = np.int64(code) - first[length]
                    if 0 <= far < count[length]:
                        k = start[length] + far
                        break
            out[i] = order[k]
            held -= lengths[k]
            used += lengths[k]
        return used

    return write, read
