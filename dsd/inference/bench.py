"""EIE's nine layers at their published densities: every arm at batch 1, 8 and 64, in time, bytes and share of the bandwidth.

Weights are drawn: independent positions, 32 shared values (5 bits, as Deep Compression has for these layers). Time does not
depend on the values. With one input a layer takes at least its bytes / bandwidth, and its look-ups / their rate with the weights
in the second cache: that of as many of its own rows as fit there, without what a call costs. A time near the first is all that
memory allows, one near the second all that the kernel does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dsd.inference.crossover import faster
from dsd.inference.energy import per_call
from dsd.inference.layers import ConvolutionOf, LinearOf
from dsd.inference.matrices import Coded, Looked, Rows
from dsd.inference.peers import SPINNING, has_compiler, products
from dsd.inference.published import LAYERS
from dsd.inference.timing import bandwidth, interleaved

VALUES = 32
CACHED = 1 << 19  # bytes of weights a core that its second cache holds
DENSITIES = (0.01, 0.02, 0.04, 0.08, 0.12, 0.16, 0.25, 0.35, 0.5, 0.7)
GRID = (1, 2, 4, 8, 16, 32, 64, 128)
CONVOLUTIONS = {"convolution": (256, 3, 14), "pointwise": (512, 1, 14)}  # channels in and out, kernel, pixels a side


def drawn(rows: int, width: int, density: float, *, seed: int = 0) -> Tensor:
    """A pruned weight with shared values."""
    random = torch.Generator().manual_seed(seed)
    book = torch.randn(VALUES, generator=random)
    weight = torch.empty(rows, width)
    for first in range(0, rows, 1024):  # an index for each of VGG-16's fc6 at once would take too many bytes
        block = weight[first : first + 1024]
        keep = torch.rand(block.shape, generator=random) < density
        block.zero_()[keep] = book[torch.randint(0, VALUES, (int(keep.sum()),), generator=random)]
    return weight


def compiled_linear() -> Callable[..., Any] | None:
    """F.linear through torch.compile, for any shape; None where there is no C++ compiler."""

    def linear(x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight)

    return torch.compile(linear, dynamic=True) if has_compiler() else None


def cached(weight_MK: Tensor, form: type[Rows] | type[Coded]) -> float:
    """Look-ups a second of one input's product with the first rows of a weight, which the second caches hold.

    Two rows alone take what a call costs, which does not count.
    """
    each = 8 if form is Rows else 3
    rows = CACHED * torch.get_num_threads() * len(weight_MK) // (each * int(weight_MK.count_nonzero()))
    few, part = (LinearOf(form.of(weight_MK[:n]), None) for n in (2, max(4, min(len(weight_MK), rows))))
    x, kept = torch.randn(1, weight_MK.shape[1]), int(part.weight.count_nonzero() - few.weight.count_nonzero())
    took = interleaved({"few": partial(few, x), "part": partial(part, x)}, rounds=9)
    return kept / max(took["part"].median - took["few"].median, 1e-9)


def layer(
    name: str, batches: Iterable[int], *, rounds: int, compiled: Callable[..., Any] | None, reads: float
) -> list[dict[str, Any]]:
    """A row for each batch: timings of the arms, their bytes and share of the bandwidth."""
    width, rows, density = LAYERS[name]
    weight = drawn(rows, width, density)
    arms, held = products(weight, compiled)
    found = []
    for batch in batches:
        x = torch.randn(batch, width)
        expected = F.linear(x, weight)
        for arm, product in arms.items():
            if not torch.allclose(product(x), expected, atol=1e-3, rtol=1e-3):
                raise ValueError(f"{name}, batch {batch}: {arm} gives other numbers than the dense layer")
        took = interleaved(
            {arm: partial(f, x) for arm, f in arms.items()}, rounds=rounds, budget=1.0, spinning=SPINNING
        )
        kept, row = int(weight.count_nonzero()), dict[str, Any]()
        for arm, timing in took.items():
            moved = held[arm] + 4 * batch * (width + rows)
            row[arm] = asdict(timing) | {"bytes": moved, "share": moved / timing.median / reads}
            if batch == 1:
                row[arm] |= per_call(partial(arms[arm], x))
        if batch == 1:
            for arm, form in (("sparse", Rows), ("codebook", Coded)):
                row[arm]["cached"] = cached(weight, form)
        found.append({"layer": name, "batch": batch, "kept": kept, "density": density, "arms": row})
    return found


def picked(row: Mapping[str, Any]) -> str:
    """The form that the runtime, by its stored table, gives a layer's row at its batch."""
    width, rows, _ = LAYERS[row["layer"]]
    pays = faster("linear", "sparse", density=row["kept"] / (width * rows), batch=row["batch"])
    return "sparse" if pays else "dense"


def crossover(*, rounds: int = 5, size: int = 2048) -> dict[str, Any]:
    """Times of dense, sparse and both kinds of codebook over density and batch, for a square matrix and convolutions."""
    cells = []
    for density in DENSITIES:
        weight = drawn(size, size, density)
        matrices = {"sparse": Rows.of(weight), "coded": Coded.of(weight), "looked": Looked.of(weight)}
        forms = {name: LinearOf(matrix, None) for name, matrix in matrices.items()}
        for batch in GRID:
            x = torch.randn(batch, size)
            arms = {"dense": partial(F.linear, x, weight)} | {name: partial(form, x) for name, form in forms.items()}
            took = interleaved(arms, rounds=rounds, budget=0.4)
            cells.append(
                {"kind": "linear", "density": density, "batch": batch} | {k: v.median for k, v in took.items()}
            )
    return {"size": size, "cells": [*cells, *(cell for kind in CONVOLUTIONS for cell in _convolutions(kind, rounds))]}


def _convolutions(kind: str, rounds: int) -> Iterable[dict[str, Any]]:
    channels, kernel, side = CONVOLUTIONS[kind]
    conv = torch.nn.Conv2d(channels, channels, kernel, padding=kernel // 2).requires_grad_(False)
    for density in DENSITIES:
        weight = drawn(channels, kernel * kernel * channels, density)
        conv.weight.copy_(weight.reshape(conv.weight.shape))
        matrices = {"sparse": Rows.of(weight), "coded": Coded.of(weight), "looked": Looked.of(weight)}
        forms = {name: ConvolutionOf(conv, matrix) for name, matrix in matrices.items()}
        for batch in (1, 8):
            x = torch.randn(batch, channels, side, side)
            arms = {"dense": partial(conv, x)} | {name: partial(form, x) for name, form in forms.items()}
            took = interleaved(arms, rounds=rounds, budget=0.4)
            yield {"kind": kind, "density": density, "batch": batch} | {k: v.median for k, v in took.items()}


def table_of(cells: Iterable[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """crossover.json's table: by kind, form and batch the highest density up to which no cell is slower than what the form
    competes with, which is the dense layer for compressed rows, and a byte for every weight for the codebook of kept ones."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for cell in sorted(cells, key=lambda cell: cell["density"]):
        for form, other in (("sparse", "dense"), ("coded", "looked")):
            row = found.setdefault(cell["kind"], {}).setdefault(form, {})
            key, below = str(cell["batch"]), [d for d in (0.0, *DENSITIES) if d < cell["density"]]
            row.setdefault(key, 0.0)
            if cell[form] <= cell[other] and row[key] == max(below):
                row[key] = cell["density"]
    return found


def layers(*, rounds: int, batches: Iterable[int], names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """First the bandwidth that layers are held against, then one layer after the other."""
    compiled, reads = compiled_linear(), bandwidth()
    yield {"bandwidth": reads}
    for name in names:
        yield {"layers": layer(name, batches, rounds=rounds, compiled=compiled, reads=reads)}
