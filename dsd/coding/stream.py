"""A stream of small numbers by the coder that makes it shortest, its tables counted."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dsd.coding import ans, huffman
from dsd.coding.archive import ArchiveError, Reader, Writer

Ints = npt.NDArray[np.integer[Any]]
Coder = Literal["best", "ans", "huffman", "fixed"]
NONE, FIXED, HUFFMAN, ANS = range(4)
LENGTH_BITS = 5  # of a Huffman code's lengths
WORK = 40  # bytes that a symbol takes at most while it becomes a weight
CHUNK = 1 << 16  # symbols that are packed at a time: a multiple of 8, so that each part ends with a byte


def entropy(counts_K: Ints) -> float:
    """Bits that symbols of these counts take at least, all together (Shannon, order 0)."""
    counts = np.asarray(counts_K, np.float64)
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / counts.sum())).sum()) if len(counts) else 0.0


def sizes(counts_K: Ints, coder: Coder) -> dict[int, float]:
    """Bytes with each coder that is allowed and can be used, tables included."""
    used, k = int(np.count_nonzero(counts_K)), len(counts_K)
    if used <= 1:
        return {NONE: 3.0}
    n, bits = int(np.sum(counts_K)), max(1, int(k - 1).bit_length())
    found = {FIXED: 1 + n * bits / 8}
    if coder == "huffman" or (
        coder == "best" and k <= 256
    ):  # beyond that ANS has always won, and the tree takes its time
        lengths = huffman.lengths_of(counts_K).astype(np.int64)
        found[HUFFMAN] = 4 + LENGTH_BITS * k / 8 + float((lengths * counts_K).sum()) / 8
    if coder in ("best", "ans") and used > 1:
        found[ANS] = 4 + k + ans.bits(counts_K, ans.table_of(counts_K)) / 8 + 2
    wanted = {"fixed": FIXED, "huffman": HUFFMAN, "ans": ANS}.get(coder)
    return found if wanted is None or wanted not in found else {wanted: found[wanted]}


def write(out: Writer, kind: str, symbols_N: Ints, k: int, coder: Coder) -> None:
    """Append the symbols, each below `k`."""
    counts = np.bincount(symbols_N, minlength=k) if len(symbols_N) else np.zeros(k, np.int64)
    cost = sizes(counts, coder)
    chosen = min(cost, key=lambda c: cost[c])
    out.varint("header", len(symbols_N))
    out.byte("header", chosen)
    if chosen == NONE:
        out.varint("header", int(symbols_N[0]) if len(symbols_N) else 0)
    elif chosen == FIXED:
        bits = max(1, int(k - 1).bit_length())
        out.byte("header", bits)
        out.bytes(kind, pack(symbols_N, bits))
    elif chosen == HUFFMAN:
        lengths = huffman.lengths_of(counts)
        out.varint("header", k)
        out.bytes("tables", pack(lengths, LENGTH_BITS))
        _payload(out, kind, huffman.encode(symbols_N, lengths))
    else:
        table = ans.table_of(counts)
        out.varint("header", k)
        out.bytes("tables", table.tobytes())
        _payload(out, kind, ans.encode(symbols_N, table))


def read(source: Reader, kind: str, *, most: int, k: int) -> npt.NDArray[np.int32]:
    """The next stream: at most `most` symbols, each below `k`, and as many as the reader has room for. Raises ArchiveError."""
    n, coder = source.varint("header", most), source.byte("header")
    if n * WORK > source.room:
        raise source.error(f"{n:,} symbols need {n * WORK:,} bytes at work, and the limit leaves {source.room:,}")
    try:
        if coder == NONE:
            symbols = np.full(n, source.varint("header", max(0, k - 1)), np.int32)
        elif coder == FIXED:
            bits = source.byte("header")
            if not 1 <= bits <= 32:
                raise source.error(f"{bits} bits a symbol")
            symbols = unpack(source.bytes(kind, (n * bits + 7) // 8), n, bits)
        elif coder == HUFFMAN:
            alphabet = source.varint("header", k)
            lengths = unpack(source.bytes("tables", (LENGTH_BITS * alphabet + 7) // 8), alphabet, LENGTH_BITS)
            symbols = huffman.decode(source.bytes(kind, source.varint("header", source.end)), n, lengths)
        elif coder == ANS:
            table = np.frombuffer(source.bytes("tables", source.varint("header", k)), np.uint8)
            symbols = ans.decode(source.bytes(kind, source.varint("header", source.end)), n, table)
        else:
            raise source.error(f"coder {coder} is unknown")
    except ArchiveError:
        raise
    except ValueError as error:
        raise source.error(str(error)) from error
    if len(symbols) and int(symbols.max()) >= k:
        raise source.error(f"symbol {int(symbols.max())} where {k} is the first that can't be")
    return symbols


def _payload(out: Writer, kind: str, data: bytes) -> None:
    out.varint("header", len(data))
    out.bytes(kind, data)


def pack(symbols_N: Ints, bits: int) -> bytes:
    """`bits` for each symbol, lowest bit first."""
    shift, whole = np.arange(bits, dtype=np.uint32), np.asarray(symbols_N)
    parts = (whole[at : at + CHUNK].astype(np.uint32)[:, None] >> shift & 1 for at in range(0, len(whole), CHUNK))
    return b"".join(np.packbits(part.astype(np.uint8).reshape(-1), bitorder="little").tobytes() for part in parts)


def unpack(data: bytes, n: int, bits: int) -> npt.NDArray[np.int32]:
    """The `n` symbols that `pack` packed."""
    found, packed = np.empty(n, np.int32), np.frombuffer(data, np.uint8)
    for at in range(0, n, CHUNK):
        count, first = min(CHUNK, n - at), at * bits // 8
        spread = np.unpackbits(packed[first:], count=count * bits, bitorder="little").reshape(count, bits)
        found[at : at + count] = (spread.astype(np.uint32) << np.arange(bits, dtype=np.uint32)).sum(1, dtype=np.uint32)
    return found
