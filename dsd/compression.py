"""A model's tensors into one file and back, bit for bit (Deep Compression, sections 2 to 4). The model is the message.

Nobody hands in masks or codebooks: pruned weights are zeros, shared weights take few values, and both are found in the
tensors. `-0.0` is written as 0.0 (masks leave half of the pruned weights with that sign); everything else, all the rest of
the state_dict included, comes back exactly. The format is in dsd/coding/archive.py.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from dsd.coding import archive, gaps
from dsd.coding.archive import FORMS, TIED, Reader, Writer
from dsd.coding.stream import Coder
from dsd.ledger import Ledger, Row
from dsd.packing import Fillers, bytes_of, memory, write_record
from dsd.unpacking import read_record


@dataclass(frozen=True)
class Archive:
    """A compressed model: the file's bytes."""

    data: bytes

    @cached_property
    def ledger(self) -> Ledger:
        """Where the bytes went, read from them when first asked for."""
        return read_ledger(self.data)

    def save(self, path: Path) -> None:
        """Write the file; it appears whole or not at all."""
        archive.write(Path(path), self.data)


def compress(
    state: Mapping[str, Tensor],
    *,
    coder: Coder = "best",
    index_bits: int | None = None,
    fillers: Fillers = "escape",
    meta: Mapping[str, str] | None = None,
) -> Archive:
    """The tensors of `state` as an archive: per tensor the smallest form, or the one asked for.

    `coder` is "huffman" or "fixed" as in the paper, "ans", or the smallest; `index_bits` 2..16 fixes the width of a gap (and
    leaves bitmaps out), None takes the best for each tensor. `fillers="paper"` stores a weight of value 0 where a gap is too
    long, as in the paper (no bitmaps, row-major); otherwise an escape does it without a value. `meta` are texts to carry along. Raises ValueError naming a
    tensor with NaN or infinity or of a dtype that can't be stored.
    """
    if coder not in (coders := get_args(Coder)):
        raise ValueError(f"coder must be one of {', '.join(coders)}, found {coder!r}")
    if index_bits is not None and index_bits not in gaps.BITS:
        raise ValueError(f"index_bits must be from {gaps.BITS.start} to {gaps.BITS.stop - 1}, found {index_bits}")
    if fillers not in get_args(Fillers):
        raise ValueError(f"fillers must be one of {', '.join(get_args(Fillers))}, found {fillers!r}")
    out = Writer()
    out.bytes("header", archive.MAGIC + bytes([2 if fillers == "paper" else 1]))
    out.varint("header", len(meta or {}))
    for key, text in (meta or {}).items():
        out.text("header", key)
        out.text("header", text)
    out.varint("header", len(state))
    seen: dict[tuple[Any, ...], int] = {}
    for number, (name, tensor) in enumerate(state.items()):
        write_record(out, name, tensor, seen.get(memory(tensor)), coder, index_bits, fillers)
        seen.setdefault(memory(tensor), number)
    return Archive(archive.seal(out))


def decompress(source: bytes | str | Path, *, limit: int | None = None) -> dict[str, Tensor]:
    """The tensors by name, bit for bit; those that shared memory share it again.

    Raises ArchiveError (a ValueError) that says where if the file is damaged, hostile, of a newer version, or would unpack
    to more than `limit` bytes (default: 8 GiB, or 256 times the file if that is more), or need more at work (256 MiB are free).
    """
    return {name: tensor for name, tensor, _ in _records(source, limit, keep=True)[1]}


def read_ledger(source: bytes | str | Path, *, limit: int | None = None) -> Ledger:
    """Where the bytes of a file went, from the file alone. Raises ArchiveError as `decompress` does."""
    reader, records = _records(source, limit, keep=False)
    around = dict(reader.kinds)
    for _, _, row in records:
        for kind, count in row.bytes.items():
            around[kind] -= count
    return Ledger(tuple(row for _, _, row in records), {k: v for k, v in around.items() if v} | {"checksum": 4})


def read_meta(source: bytes | str | Path) -> dict[str, str]:
    """The texts that a file carries."""
    return _meta(archive.opened(source))


def sizes_beside(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Bytes of the same tensors in other ways: fp32, gzip and zstd of that, safetensors, and it through zstd."""
    import zstandard
    from safetensors.torch import save

    plain = b"".join(bytes_of(t.float() if t.is_floating_point() else t) for t in state.values())
    best = zstandard.ZstdCompressor(level=19 if len(plain) < 1 << 24 else 3)
    packed = gzip.compress(plain, 9 if len(plain) < 1 << 24 else 6)
    found = {"fp32": len(plain), "gzip": len(packed), "zstd": len(best.compress(plain))}
    try:
        stored = save({name: t.detach().cpu().contiguous().clone() for name, t in state.items()})
    except KeyError:  # it has no complex128
        return found
    return found | {"safetensors": len(stored), "safetensors + zstd": len(best.compress(stored))}


def _meta(reader: Reader) -> dict[str, str]:
    return {reader.text("header"): reader.text("header") for _ in range(reader.varint("header", reader.end))}


def _records(
    source: bytes | str | Path, limit: int | None, *, keep: bool
) -> tuple[Reader, list[tuple[str, Tensor, Row]]]:
    reader = archive.opened(source)
    _meta(reader)
    records: list[tuple[str, Tensor, Row]] = []
    names: set[str] = set()
    left = max(archive.LIMIT, archive.MOST * reader.end) if limit is None else limit
    for number in range(reader.varint("header", reader.end)):
        reader.where = f"tensor {number}"
        record = read_record(reader, records, left)
        if record[0] in names:
            raise reader.error(f"a second tensor of the name {record[0]!r}")
        names.add(record[0])
        left -= record[1].numel() * record[1].element_size() if record[2].form != FORMS[TIED] else 0
        if not keep:
            record = (record[0], record[1].to("meta"), record[2])
        records.append(record)
    reader.where = "the end"
    if reader.place != reader.end:
        raise reader.error(f"{reader.end - reader.place:,} bytes too many")
    return reader, records
