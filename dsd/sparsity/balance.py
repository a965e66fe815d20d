"""The cost of an uneven load: rows of a sparse matrix are interleaved over processing elements, and the slowest decides.

The model of EIE (ISCA 2016) and ESE (FPGA 2017): row i belongs to element i mod `parts`, each element takes one cycle a
kept weight, and all wait for the last. Published at 10 % density: 6.2x dense when balanced, 5.5x when not.
"""

from __future__ import annotations

import torch
from torch import Tensor


def loads(keep: Tensor, parts: int) -> Tensor:
    """Kept weights of each processing element, (parts,) int64; `keep` is bool (rows, columns) or a convolution's."""
    per_row = keep.flatten(1).sum(1)
    return torch.stack([per_row[part::parts].sum() for part in range(parts)])


def balance(keep: Tensor, parts: int) -> float:
    """Mean load over the largest, 0..1: 1 when all elements finish together."""
    load = loads(keep, parts)
    return float(load.double().mean() / load.max().clamp_min(1))


def speedup(keep: Tensor, parts: int) -> float:
    """Cycles of the dense matrix on as many elements over cycles of the sparse one; infinite if nothing is kept."""
    dense = loads(torch.ones_like(keep), parts).max()
    return float(dense / loads(keep, parts).max())
