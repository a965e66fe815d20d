"""What is in an archive, or would be in that of a checkpoint: where every byte goes, and how each layer's values lie.

Published numbers stand beside it where the archive's meta names an experiment (`experiment`) whose file has them, under
`published.ledger` by tensor's name or "total": kept (%) and percent (of float32).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.table import Table
from torch import Tensor

from dsd.compression import compress, read_ledger, sizes_beside
from dsd.ledger import Ledger, Row
from dsd.results.figures import COLOURS, Figure
from dsd.source import is_checkpoint, notes, tensors

EXPERIMENTS = Path(__file__).parents[1] / "conf" / "experiment"  # in a checkout; an installed package has none
BARS = " ▁▂▃▄▅▆▇█"
MOST = 256  # values that still count as shared, and are marked


@dataclass(frozen=True)
class Histogram:
    """The values of a tensor that are not 0, in equal bins over -limit..limit; `shared` are its centroids, if it has any."""

    limit: float
    counts: tuple[int, ...]
    zeros: int
    shared: tuple[float, ...]

    @property
    def bars(self) -> str:
        """A line of text: four of the bins a character."""
        sums = np.add.reduceat(np.array(self.counts), np.arange(0, len(self.counts), 4))
        return "".join(BARS[-(-8 * int(n) // max(1, int(sums.max())))] for n in sums)


@dataclass(frozen=True)
class Inspection:
    """A file, its ledger, its tensors' histograms, and the published rows of its experiment by tensor."""

    name: str
    packed: bool
    ledger: Ledger
    meta: Mapping[str, str]
    histograms: Mapping[str, Histogram]
    published: Mapping[str, Mapping[str, Any]]
    beside: Mapping[str, int]


@dataclass(frozen=True)
class Line:
    """A line of the ledger as it is shown: bits as text, before and after the entropy coder; `total` bytes of `n` values."""

    name: str
    shape: str = ""
    form: str = ""
    n: int = 0
    kept: int = 0
    distinct: str = ""
    weight: str = ""
    index: str = ""
    total: int = 0
    published: Mapping[str, Any] = field(default_factory=dict)


def inspect(path: Path, *, beside: bool = False) -> Inspection:
    """What is in the file. `beside`: also how many bytes other formats take for the same tensors, which takes longer.

    A checkpoint is packed in memory, without any change, to know its ledger. ValueError as of `tensors`.
    """
    state, packed = tensors(path), not is_checkpoint(path)
    ledger = read_ledger(path) if packed else compress(state).ledger
    meta = notes(path)
    distinct = {row.name: row.distinct for row in ledger.rows}
    return Inspection(
        path.name, packed, ledger, meta, {name: histogram(value, distinct[name]) for name, value in state.items()},
        published(meta.get("experiment", "")), sizes_beside(state) if beside else {},
    )  # fmt: skip


def histogram(value: Tensor, distinct: int, bins: int = 64) -> Histogram:
    """Where the finite values of a tensor lie, of complex ones their sizes. `distinct`: how many values it shares, 0 if none; only few are marked."""
    value = value.abs() if value.is_complex() else value
    flat = value.detach().reshape(-1).to("cpu", torch.float32).numpy()
    finite = flat[np.isfinite(flat) & (flat != 0)]
    limit = float(np.abs(finite).max()) if finite.size else 1.0
    counts, _ = np.histogram(finite.astype(np.float64), bins, (-limit, limit))
    shared = tuple(np.unique(finite).tolist()) if 0 < distinct <= MOST else ()
    return Histogram(limit, tuple(counts.tolist()), int(np.count_nonzero(flat == 0)), shared)


def published(experiment: str) -> dict[str, Mapping[str, Any]]:
    """The published ledger of `experiment` by tensor's name or "total"; nothing if it has none."""
    path = EXPERIMENTS / f"{experiment}.yaml"
    if not re.fullmatch(r"\w+", experiment) or not path.is_file():
        return {}
    return dict((yaml.safe_load(path.read_text()).get("published") or {}).get("ledger") or {})


def lines(found: Inspection) -> list[Line]:
    """A line for each weight in the order of the file, one for all vectors and scalars together, and the sum."""
    rows = found.ledger.rows
    made = [
        Line(
            row.name, "×".join(map(str, row.shape)), row.form, row.n, row.kept, f"{row.distinct:,}" if row.distinct else "",
            bits(row.weight_bits, row.weight_bits_coded) if row.form == "sparse" else "",
            bits(row.index_bits or "map", row.index_bits_coded) if row.form == "sparse" else "",
            row.total, found.published.get(row.name, {}),
        ) for row in rows if len(row.shape) > 1
    ]  # fmt: skip
    if small := [row for row in rows if len(row.shape) < 2]:
        n, kept = _entries(small)
        made.append(Line(f"{len(small)} vectors and scalars", n=n, kept=kept, total=sum(row.total for row in small)))
    n, kept = _entries(rows)
    published = found.published.get("total", {})
    return [*made, Line("all, with the file's head", n=n, kept=kept, total=found.ledger.size, published=published)]


def _entries(rows: Sequence[Row]) -> tuple[int, int]:
    """(all, those that are not 0), tied tensors once."""
    once = [row for row in rows if row.form != "tied"]
    return sum(row.n for row in once), sum(row.kept for row in once)


def table(found: Inspection) -> Table:
    """For the terminal: of each weight, how many are 0, how many values are shared, and where the others lie."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    made.add_column("tensor", overflow="fold")
    for head in ("0", "shared values", "from", "", "to"):
        made.add_column(head, justify="left" if not head else "right", no_wrap=True)
    for row in found.ledger.rows:
        shown = found.histograms[row.name]
        if len(row.shape) > 1:
            zeros, shared = f"{shown.zeros / max(1, row.n):.1%}", str(len(shown.shared) or "–")
            made.add_row(row.name, zeros, shared, f"{-shown.limit:.3g}", shown.bars, f"{shown.limit:.3g}")
    return made


def html(found: Inspection) -> str:
    """The same as a page that needs nothing else: the ledger, every kind of byte, a histogram of each weight."""
    environment = Environment(
        loader=PackageLoader("dsd.results", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "svg": Markup,
        "breakable": lambda name: Markup(".<wbr>").join(name.split(".")),
    }
    kinds = sorted(((kind, n) for kind, n in found.ledger.kinds().items() if n), key=lambda item: -item[1])
    figures = [figure(row.name, found.histograms[row.name]) for row in found.ledger.rows if len(row.shape) > 1]
    return environment.get_template("inspect.html").render(
        found=found, ledger=found.ledger, lines=lines(found), kinds=kinds, figures=figures
    )


def figure(name: str, shown: Histogram) -> Figure:
    """A histogram, its centroids as marks below it: one path each, so that a page of a hundred layers stays small."""
    width, height = 320, 90
    step, high = width / len(shown.counts), max(1, *shown.counts)
    path = "".join(f"V{height * (1 - n / high):.1f}H{(i + 1) * step:.1f}" for i, n in enumerate(shown.counts))
    marks = "".join(f"M{width * (0.5 + 0.5 * value / shown.limit):.1f} {height + 3}v9" for value in shown.shared)
    labels = "".join(
        f'<text x="{x}" y="{height + 26}" text-anchor="{anchor}">{text}</text>'
        for x, anchor, text in ((0, "start", f"{-shown.limit:.3g}"), (width / 2, "middle", "0"), (width, "end", f"{shown.limit:.3g}"))
    )  # fmt: skip
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + 30}" font-size="12" fill="currentColor">'
        f'<path d="M0 {height}{path}V{height}Z" fill="{COLOURS[0]}" opacity="0.8"/>'
        f'<path d="M0 {height}.5H{width}" stroke="var(--line, #999)"/>'
        f'<path d="{marks}" stroke="{COLOURS[1]}" stroke-width="1.2" fill="none"/>{labels}</svg>'
    )
    n = sum(shown.counts) + shown.zeros
    said = f"{shown.zeros / max(1, n):.1%} are 0; " + (
        f"{len(shown.shared)} shared values" if shown.shared else "values are not shared"
    )
    return Figure(name, said, svg, f"Histogram of {name} from {-shown.limit:.3g} to {shown.limit:.3g}. {said}.")


def bits(plain: float | str | None, coded: float | None) -> str:
    """Bits each before and after the entropy coder."""
    before = "–" if plain is None else plain if isinstance(plain, str) else f"{plain:.3g}"
    return before if coded is None else f"{before} → {coded:.2f}"
