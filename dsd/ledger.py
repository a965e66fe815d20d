"""Where every byte of an archive went: by tensor and by kind, adding up to the file exactly, in the layout of the paper.

Deep Compression's Tables 2 to 5 have, per layer: weights, share kept, bits of a weight before and after coding, bits of an
index before and after, size in % of float32 before and after coding. The paper counts no biases and no header; we do.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

KINDS = ("values", "index", "fillers", "codebook", "tables", "other", "header", "checksum")


@dataclass(frozen=True)
class Row:
    """One tensor. `other` bytes are values stored for themselves: biases, norms, buffers, layers without a codebook."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    form: str  # raw, half, deflate, sparse, tied
    n: int  # entries
    kept: int  # of them not 0
    distinct: int  # different values among the kept, 0 if they don't share any
    weight_bits: float  # an index into the codebook, fixed width; or a value
    weight_bits_coded: float  # what one took
    index_bits: int  # of a gap; 0: a bitmap, or no positions
    index_bits_coded: float  # of a position, fillers included
    fillers: int  # the paper's, at these bits
    shannon_bits: float  # n H(kept share) + kept H(indices), order 0; 0 for tensors that are not sparse
    bytes: Mapping[str, int]

    @property
    def total(self) -> int:
        """Bytes of this tensor's record."""
        return sum(self.bytes.values())

    @property
    def stream_bytes(self) -> int:
        """Bytes of its positions and values, tables and codebook not among them."""
        return sum(self.bytes.get(kind, 0) for kind in ("values", "index", "fillers"))

    @property
    def fp32_bytes(self) -> int:
        """As float32 (integers and halves count by their own width in `other` tensors too: 4 bytes an entry)."""
        return 4 * self.n

    @property
    def uncoded_bytes(self) -> float:
        """The paper's "P+Q": (kept + fillers) x (weight bits + index bits) and the codebook, without Huffman."""
        if not self.index_bits or not self.distinct:
            return float(self.total)
        entries = self.kept + self.fillers
        return (entries * (self.weight_bits + self.index_bits) + 32 * 2**self.weight_bits) / 8


@dataclass(frozen=True)
class Ledger:
    """All rows, and the bytes that belong to no tensor."""

    rows: tuple[Row, ...]
    around: Mapping[str, int]

    def kinds(self) -> dict[str, int]:
        """Bytes by kind, over all rows and what is around them."""
        parts = [self.around, *(row.bytes for row in self.rows)]
        return {kind: sum(part.get(kind, 0) for part in parts) for kind in KINDS}

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return sum(self.kinds().values())

    @property
    def fp32_bytes(self) -> int:
        """Bytes of all tensors as float32, tied ones once."""
        return sum(row.fp32_bytes for row in self.rows if row.form != "tied")

    @property
    def ratio(self) -> float:
        """Compression ratio: float32 bytes over bytes on disk, everything counted."""
        return self.fp32_bytes / self.size

    @property
    def smaller(self) -> str:
        """The ratio in words; of an archive that is larger than float32 too, as tiny ones are."""
        return f"{self.ratio:.2f}x smaller" if self.ratio >= 1 or not self.ratio else f"{1 / self.ratio:.2f}x larger"

    @property
    def shannon_bytes(self) -> float:
        """The order-0 bound of positions and indices of all sparse tensors that share values."""
        return sum(row.shannon_bits for row in self.rows) / 8

    @property
    def stream_bytes(self) -> int:
        """What those positions and indices took."""
        return sum(row.stream_bytes for row in self.rows if row.shannon_bits)

    def table(self, published: Mapping[str, Mapping[str, float]] | None = None) -> Table:
        """The paper's table. `published` maps tensor names, and "total", to {"percent": coded size in %}."""
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("tensor")
        heads = ["weights", "kept %", "w bits", "coded", "i bits", "coded", "P+Q %", "file %"]
        for head in [*heads, *(["paper %"] if published else []), "bytes"]:
            table.add_column(head, justify="right")
        sparse = [row for row in self.rows if row.form == "sparse"]
        for row in sparse:
            cells = [
                f"{row.n:,}", f"{100 * row.kept / max(1, row.n):.1f}", f"{row.weight_bits:g}", f"{row.weight_bits_coded:.2f}",
                str(row.index_bits or "map"), f"{row.index_bits_coded:.2f}", _share(row.uncoded_bytes, row.fp32_bytes),
                _share(row.total, row.fp32_bytes),
            ]  # fmt: skip
            beside = [_percent(published, row.name)] if published else []
            table.add_row(row.name, *cells, *beside, f"{row.total:,}")
        others = [row for row in self.rows if row.form != "sparse"]
        rest = sum(row.total for row in others)
        blank = [""] * (len(heads) - 1) + ([""] if published else [])
        own = sum(row.n for row in others if row.form != "tied")  # the file has tied ones once
        table.add_row(f"{len(others)} others", f"{own:,}", *blank, f"{rest:,}")
        table.add_row("around them", "", *blank, f"{sum(self.around.values()):,}")
        total = [f"{self.fp32_bytes // 4:,}", *[""] * (len(heads) - 2), _share(self.size, self.fp32_bytes)]
        table.add_row(
            f"file, {self.ratio:.1f}x", *total, *([_percent(published, "total")] if published else []), f"{self.size:,}"
        )
        return table

    def as_text(self, published: Mapping[str, Mapping[str, float]] | None = None, *, width: int = 120) -> str:
        """The table, the bytes by kind and the distance to the bound, as plain text."""
        buffer = io.StringIO()
        Console(file=buffer, width=width, color_system=None, legacy_windows=False).print(self.table(published))
        table = "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n")
        return "\n".join([table, "", *self.sentences()])

    def sentences(self) -> list[str]:
        """Bytes by kind; and how far the streams are from Shannon's bound."""
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in self.kinds().items() if count)
        lines = [f"{self.size:,} bytes: {kinds}."]
        if self.shannon_bytes:
            share = 100 * self.stream_bytes / self.shannon_bytes - 100
            lines.append(
                f"Positions and values take {self.stream_bytes:,} bytes, {share:+.1f} % beside the order-0 bound of {self.shannon_bytes:,.0f}."
            )
        return lines


def _share(part: float, whole: int) -> str:
    """In %; of nothing there is none."""
    return f"{100 * part / whole:.2f}" if whole else "–"


def _percent(published: Mapping[str, Mapping[str, float]] | None, name: str) -> str:
    value = (published or {}).get(name, {}).get("percent")
    return "" if value is None else f"{value:.2f}"
