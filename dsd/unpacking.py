"""One tensor out of its record, nothing believed before it is checked."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsd.coding import archive, bitmap, gaps, stream
from dsd.coding.archive import DTYPES, FORMS, HALF, RAW, SPARSE, TIED, WIDTH, Reader
from dsd.coding.stream import entropy
from dsd.ledger import Row
from dsd.packing import INTEGERS, MOST_SHARED, SPARSE_DTYPES, Array, matrix
from dsd.positions import PAPER

ROOM = 1 << 28  # bytes that a tensor may take at work, however low the limit is


def read_record(reader: Reader, before: list[tuple[str, Tensor, Row]], left: int) -> tuple[str, Tensor, Row]:
    counted = dict(reader.kinds)
    name = reader.text("header")
    reader.where = f"tensor {name!r}"
    number = reader.byte("header")
    if number >= len(DTYPES):
        raise reader.error(f"dtype {number} is unknown")
    dtype, width = DTYPES[number], WIDTH[number]
    shape = tuple(reader.varint("header", 1 << 40) for _ in range(reader.varint("header", 64)))
    n, room = 1, 1
    for length in shape:
        n, room = n * length, room * max(1, length)
    if room > 1 << 48:  # an empty tensor too must have strides that fit
        raise reader.error(f"a shape of {shape}")
    form = reader.byte("header")
    extra: dict[str, Any] = {}
    if form == TIED:
        target = reader.varint("header", len(before) - 1 if before else 0)
        if not before or tuple(before[target][1].shape) != shape or before[target][1].dtype != getattr(torch, dtype):
            raise reader.error("tied to a tensor that isn't there or is of another shape")
        tensor, extra["kept"] = before[target][1], before[target][2].kept
    else:
        if n * width > left:
            raise reader.error(f"{n * width:,} bytes when unpacked, and {left:,} are left of the limit")
        reader.room = max(left, ROOM)
        tensor, extra = _read_values(reader, form, dtype, width, n, shape)
        tensor = tensor.reshape(shape)
    for kind, share in extra.get("fillers of", {}).items():  # bytes of fillers or escapes, by the information in them
        part = round((reader.kinds.get(kind, 0) - counted.get(kind, 0)) * share)
        reader.kinds[kind] = reader.kinds.get(kind, 0) - part
        reader.kinds["fillers"] = reader.kinds.get("fillers", 0) + part
    spent = {k: v - counted.get(k, 0) for k, v in reader.kinds.items() if v - counted.get(k, 0)}
    return name, tensor, _row(name, shape, dtype, FORMS[form], n, tensor, extra, spent)


def _row(
    name: str, shape: Any, dtype: str, form: str, n: int, tensor: Tensor, extra: dict[str, Any], spent: Any
) -> Row:
    countable = tensor.is_floating_point() or tensor.is_complex()
    kept = extra["kept"] if "kept" in extra else int(torch.count_nonzero(tensor)) if countable else n
    distinct, per = extra.get("distinct", 0), max(1, kept)
    positions = spent.get("index", 0) + spent.get("fillers", 0)
    own = spent.get("values", 0) + (spent.get("other", 0) if form == "sparse" else 0)
    bits = float(max(1, (distinct - 1).bit_length())) if distinct else 8.0 * tensor.element_size()
    return Row(
        name, shape, dtype, form, n, kept, distinct, bits, 8 * own / per if form == "sparse" else bits,
        extra.get("bits", 0), 8 * positions / per, extra.get("fillers", 0), extra.get("shannon", 0.0), spent,
    )  # fmt: skip


def _read_values(
    reader: Reader, form: int, dtype: str, width: int, n: int, shape: Any
) -> tuple[Tensor, dict[str, Any]]:
    if form == RAW:
        return _tensor(bytearray(reader.bytes("other", n * width)), dtype), {}
    if form == HALF and dtype == "float32":
        return _tensor(bytearray(reader.bytes("other", 2 * n)), "float16").float(), {}
    if form == archive.DEFLATE:
        packed = reader.bytes("other", reader.varint("header", reader.end))
        unpacker = zlib.decompressobj(-15)
        try:
            data = unpacker.decompress(packed, n * width + 1)
        except zlib.error as error:
            raise reader.error(f"deflated data is damaged ({error})") from error
        if len(data) != n * width or not unpacker.eof or unpacker.unused_data:
            raise reader.error(f"deflated data gives {len(data):,} bytes instead of {n * width:,}")
        return _tensor(bytearray(data), dtype), {}
    if form != SPARSE or dtype not in SPARSE_DTYPES:
        raise reader.error(f"form {form} of {dtype} is unknown")
    position, extra = _read_positions(reader, n, matrix(shape))
    entries, paper = len(position), extra["paper"]
    shared = reader.varint("header", min(MOST_SHARED, entries))
    own = 0.0
    if entries == 0:
        values, filler = np.empty(0, INTEGERS[width]), np.empty(0, bool)
    elif shared:
        book = _read_numbers(reader, "codebook", shared, dtype, width)
        index = stream.read(reader, "values", most=entries, k=shared + paper)
        if len(index) != entries:
            raise reader.error(f"{len(index):,} indices for {entries:,} positions")
        filler, counts = index == shared, np.bincount(index, minlength=shared + paper)
        own = entropy(counts[:shared])
        values = book[np.where(filler, 0, index) if paper else index]
    else:
        values = _read_numbers(reader, "other", entries, dtype, width)
        filler = values == 0
    if paper:
        extra["fillers"] = fillers = int(filler.sum())
        extra["fillers of"] = {"index": _share(fillers, extra["counts"])}
        extra["fillers of"] |= {"values": _share(fillers, counts)} if shared else {"other": fillers / max(1, entries)}
        position, values = position[~filler], values[~filler]
    extra["shannon"] = entropy(np.array([len(position), n - len(position)])) + own if shared or not entries else 0.0
    flat = np.zeros(n, INTEGERS[width])
    flat[position] = values
    return _tensor(flat, dtype), extra | {"distinct": shared, "kept": len(position)}


def _share(part: int, counts: Array) -> float:
    """What `part` of the symbols of one kind, among symbols of these counts, has of the information (0..1)."""
    total = entropy(counts)
    own = -np.log2(counts[-1] / counts.sum()) if counts[-1] else 0.0
    return min(1.0, float(part * own / total)) if total else float(part > 0)


def _read_positions(reader: Reader, n: int, matrix: tuple[int, int]) -> tuple[Array, dict[str, Any]]:
    rows, columns = matrix
    layout, extra = reader.byte("header"), dict[str, Any]()
    extra["paper"] = layout == PAPER
    if layout > PAPER:
        raise reader.error(f"layout {layout} of positions is unknown")
    if layout in (2, 3):
        data = reader.bytes("index", reader.varint("header", reader.end))
        if n > bitmap.LARGEST:
            raise reader.error(f"a bitmap of {n:,} bits")
        shape = (columns, rows) if layout == 3 else (rows, columns)
        placed = np.flatnonzero(bitmap.decode(data, *shape))
    else:
        bits = reader.byte("header")
        if bits not in gaps.BITS:
            raise reader.error(f"gaps of {bits} bits")
        most = n if extra["paper"] else n + (n >> bits) + n // ((1 << bits) - 1) + 1
        symbols = stream.read(reader, "index", most=most, k=1 << bits)
        extra |= {"bits": bits, "counts": np.bincount(symbols, minlength=1 << bits)}
        if extra["paper"]:
            placed = np.cumsum(symbols.astype(np.int64) + 1) - 1
        else:
            try:
                placed = gaps.from_symbols(symbols, bits)
            except ValueError as error:
                raise reader.error(str(error)) from error
            extra["fillers"] = gaps.paper_fillers(gaps.gaps_of(placed), bits)
            extra["fillers of"] = {"index": _share(int(extra["counts"][-1]), extra["counts"])}
        if len(placed) and int(placed[-1]) >= n:
            raise reader.error(f"position {int(placed[-1]):,} of a tensor with {n:,} entries")
    return (np.sort(placed % rows * columns + placed // rows) if layout in (1, 3) else placed), extra


def _read_numbers(reader: Reader, kind: str, n: int, dtype: str, width: int) -> Array:
    half = reader.byte("header")
    if half and dtype == "float32":
        return np.frombuffer(reader.bytes(kind, 2 * n), "<f2").astype(np.float32).view(np.uint32)
    return np.frombuffer(reader.bytes(kind, width * n), INTEGERS[width])


def _tensor(data: Any, dtype: str) -> Tensor:
    found = getattr(torch, dtype)
    if len(data) == 0:
        return torch.empty(0, dtype=found)
    if isinstance(data, bytearray):
        return torch.frombuffer(data, dtype=found)
    return torch.from_numpy(data.view({1: np.uint8, 2: np.int16, 4: np.int32, 8: np.int64}[data.itemsize])).view(found)
