"""Asymmetric numeral systems (Duda, 2009) through `constriction`: within a thousandth of the entropy, table and all small.

The table has one byte a symbol: 0 if it doesn't occur, else 16 e + m for a frequency of (16 + m) << e: at most 3 % off,
which costs less than 0.001 bits a symbol. Decoder and encoder build the same model from these bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer[Any]]


def table_of(counts_K: Ints) -> npt.NDArray[np.uint8]:
    """The table byte of each symbol. Frequencies are scaled so that the largest is just below 2**20."""
    counts = np.asarray(counts_K, np.float64)
    scaled = np.maximum(np.rint(counts * ((1 << 19) / max(1.0, counts.max(initial=1)))), 16).astype(np.int64)
    exponent = np.maximum(0, np.floor(np.log2(scaled)).astype(np.int64) - 4)
    mantissa = np.minimum(15, (scaled >> exponent) - 16)
    return np.where(counts > 0, np.maximum(1, 16 * exponent + mantissa), 0).astype(np.uint8)


def frequencies(table_K: Ints) -> npt.NDArray[np.int64]:
    """What the table's bytes stand for."""
    table = np.asarray(table_K, np.int64)
    return np.where(table > 0, (16 + table % 16) << (table // 16), 0)


def encode(symbols_N: Ints, table_K: Ints) -> bytes:
    """The symbols, little-endian 32-bit words."""
    import constriction

    coder = constriction.stream.stack.AnsCoder()
    used, dense = _dense(table_K)
    coder.encode_reverse(dense[symbols_N], _model(used, table_K))
    data: bytes = coder.get_compressed().astype("<u4").tobytes()
    return data


def decode(data: bytes, n: int, table_K: Ints) -> npt.NDArray[np.int32]:
    """The `n` symbols. Raises ValueError for data that no encoder wrote."""
    import constriction

    used, _ = _dense(table_K)
    if len(used) < 2 or len(data) % 4:
        raise ValueError(f"{len(data)} bytes for {len(used)} symbols are no ANS stream")
    coder = constriction.stream.stack.AnsCoder(np.frombuffer(data, "<u4").astype(np.uint32))
    symbols = coder.decode(_model(used, table_K), n)
    if not coder.is_empty():
        raise ValueError(f"the ANS stream goes on after {n} symbols")
    found: npt.NDArray[np.int32] = used[symbols]
    return found


def bits(counts_K: Ints, table_K: Ints) -> float:
    """What the symbols will take in bits."""
    share = frequencies(table_K) / max(1, int(frequencies(table_K).sum()))
    used = np.flatnonzero(counts_K)
    return float(-(np.asarray(counts_K)[used] * np.log2(share[used])).sum())


def _dense(table: Ints) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The symbols that occur, and the number of each among them."""
    used = np.flatnonzero(table).astype(np.int32)
    numbers = np.zeros(len(table), np.int32)
    numbers[used] = np.arange(len(used), dtype=np.int32)
    return used, numbers


def _model(used: Ints, table: Ints) -> Any:
    import constriction

    return constriction.stream.model.Categorical(frequencies(table)[used].astype(np.float64), perfect=False)
