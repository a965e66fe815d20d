"""One tensor into its record: the smallest of the forms in dsd/coding/archive.py."""

from __future__ import annotations

import zlib
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dsd.coding import archive, stream
from dsd.coding.archive import DTYPES, HALF, RAW, SPARSE, TIED, Writer
from dsd.coding.stream import Coder
from dsd.positions import spread, write_positions, write_with_fillers

Array = npt.NDArray[Any]
Fillers = Literal["escape", "paper"]
MOST_SHARED = 1 << 16  # distinct values of a codebook
SMALLEST = 16  # entries; less is written as it is
LARGE = 1 << 20  # bytes; no deflate beyond
INTEGERS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
SPARSE_DTYPES = ("float32", "float16", "bfloat16", "float64")


def write_record(
    out: Writer,
    name: str,
    tensor: Tensor,
    tied: int | None,
    coder: Coder,
    index_bits: int | None,
    fillers: Fillers = "escape",
) -> None:
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} is a {type(tensor).__name__}; an archive holds tensors")
    if tensor.is_meta:
        raise ValueError(f"{name} is on the meta device and has no values to store")
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in DTYPES or tensor.layout != torch.strided:
        raise ValueError(f"{name}: {dtype} tensors of layout {tensor.layout} can't be stored; convert it first")
    if not _finite(tensor):
        raise ValueError(f"{name} has NaN or infinity: the network has diverged, there is nothing worth storing")
    out.text("header", name)
    out.byte("header", DTYPES.index(dtype))
    out.varint("header", tensor.dim())
    for length in tensor.shape:
        out.varint("header", length)
    if tied is not None:
        out.byte("header", TIED)
        out.varint("header", tied)
        return
    raw, sparse = tensor.numel() * tensor.element_size(), None
    if dtype in SPARSE_DTYPES and tensor.numel() >= SMALLEST:
        sparse = _sparse(tensor, dtype, coder, index_bits, raw, fillers)
    if sparse is not None and 2 * len(sparse.data) < raw and raw > LARGE:
        best = sparse  # not worth the copies that the plain forms of a large tensor take
    else:
        best = min([form for form in (_plain(tensor, dtype), sparse) if form], key=lambda form: len(form.data))
    out.data += best.data
    for kind, count in best.kinds.items():
        out.kinds[kind] = out.kinds.get(kind, 0) + count


def _plain(tensor: Tensor, dtype: str) -> Any:
    """The smallest of raw, half and deflate."""
    raw, forms = bytes_of(tensor), []
    for form, data in (
        (RAW, raw),
        (HALF, _as_half(tensor) if dtype == "float32" else None),
        (archive.DEFLATE, zlib.compress(raw, 9)[2:-4] if len(raw) < LARGE else None),
    ):
        if data is not None:
            out = Writer()
            out.byte("header", form)
            if form == archive.DEFLATE:
                out.varint("header", len(data))
            out.bytes("other", data)
            forms.append(out)
    return min(forms, key=lambda out: len(out.data))


def _sparse(
    tensor: Tensor, dtype: str, coder: Coder, index_bits: int | None, most: int, fillers: Fillers
) -> Writer | None:
    """Positions, codebook and indices; None if it can't get below `most` bytes."""
    flat = _integers(tensor)
    position = np.flatnonzero(flat != 0)  # of bools: three times faster
    values = flat[position]
    shared = _distinct(values)
    index = None if shared is None else _places(shared, values)
    out = Writer()
    out.byte("header", SPARSE)
    if fillers == "paper":
        counts = None if shared is None or index is None else np.bincount(index, minlength=len(shared) + 1)
        filler = write_with_fillers(out, position, coder, index_bits, counts, 8 * values.itemsize)
        values = spread(values, filler, 0)
        index = None if shared is None or index is None else spread(index, filler, len(shared))
    else:
        write_positions(out, position, matrix(tensor.shape), coder, index_bits)
    if len(out.data) >= most:
        return None
    if shared is None or index is None:
        out.varint("header", 0)
        _write_values(out, "other", values, dtype)
    else:
        out.varint("header", len(shared))
        if len(shared):
            _write_values(out, "codebook", shared, dtype)
            stream.write(out, "values", index, len(shared) + (fillers == "paper"), coder)
    return out


def _write_values(out: Writer, kind: str, values: Array, dtype: str) -> None:
    half = _as_half(torch.from_numpy(values.view(np.float32))) if dtype == "float32" else None
    out.byte("header", int(half is not None))
    out.bytes(kind, half if half is not None else values.tobytes())


def _distinct(values: Array) -> Array | None:
    """The different values, ascending by their bits; None if there are too many for a codebook to pay."""
    few = np.unique(values[: 4 * MOST_SHARED])
    if len(few) <= MOST_SHARED and len(values) > 4 * MOST_SHARED:
        found = np.minimum(_places(few, values), len(few) - 1)
        if not np.array_equal(few.take(found), values):
            few = np.unique(values)
    return few if len(few) <= min(MOST_SHARED, max(1, len(values) // 2)) else None


def _places(keys_K: Array, values_N: Array) -> npt.NDArray[np.int32]:
    """`searchsorted` of bits: where each value is, or would be, among the ascending keys."""
    if values_N.itemsize != 4 or len(values_N) < 1 << 16 or len(keys_K) == 0:
        return np.searchsorted(keys_K, values_N).astype(np.int32)
    first = np.searchsorted(keys_K >> 16, np.arange(1 << 16)).clip(max=len(keys_K) - 1).astype(np.int32)
    found = first.take(values_N >> 16)  # right for a key that is the first with these upper bits
    search = np.flatnonzero(keys_K.take(found) != values_N)
    found[search] = np.searchsorted(keys_K, values_N[search])
    return found


def _finite(tensor: Tensor) -> bool:
    """No NaN, no infinity: a finite sum proves it, and takes a tenth of the time."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def matrix(shape: Any) -> tuple[int, int]:
    """The tensor as a matrix: its first dimension by all the others."""
    n = int(np.prod(shape, dtype=np.int64))
    return (int(shape[0]), n // int(shape[0])) if len(shape) > 1 and n else (1, n)


def _signed(tensor: Tensor) -> Tensor:
    """The entries' bits as integers, row-major; -0.0 as 0. No float arithmetic: it may flush denormals (FTZ, DAZ)."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    bits = plain.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[plain.element_size()])
    minus = torch.iinfo(bits.dtype).min  # only the sign; the smallest there is
    return bits.masked_fill(bits == minus, 0) if len(bits) and int(bits.min()) == minus else bits


def _integers(tensor: Tensor) -> Array:
    """The entries' bits, row-major; -0.0 as 0."""
    bits = _signed(tensor)
    return bits.numpy().view(INTEGERS[bits.element_size()])


def bytes_of(tensor: Tensor) -> bytes:
    """The entries as little-endian bytes, row-major; -0.0 as 0."""
    if tensor.is_floating_point():
        return _signed(tensor).numpy().tobytes()
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().reshape(-1)
    plain = plain.clone(memory_format=torch.contiguous_format)  # the stride too, where there is one entry
    return plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""


def _as_half(tensor: Tensor) -> bytes | None:
    """float16 bytes if these hold every value exactly, compared by their bits: denormals may be flushed in arithmetic."""
    bits = _signed(tensor)
    if not len(bits) or not _halves(bits[:1000]):
        return None  # most tensors, before any copy of the whole
    return bits.view(torch.float32).half().numpy().tobytes() if _halves(bits) else None


def _halves(bits: Tensor) -> bool:
    return torch.equal(bits.view(torch.float32).half().float().view(torch.int32), bits)


def memory(tensor: Tensor) -> tuple[Any, ...]:
    """Equal for two tensors that are one in memory; empty ones are never the same."""
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.numel() == 0:
        return (id(tensor),)
    lazy = (tensor.is_conj(), tensor.is_neg())
    return (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride(), lazy)
