"""Granularity: what is pruned as one piece. Functions `(score, density) -> keep`, both of the weight's shape.

Weights are (out, in) or (out, in, *kernel); a matrix counts as 1x1 kernels. Pieces are scored by the mean of their
entries (Mao et al., "Exploring the granularity of sparsity", 2017, has element, vector, kernel and filter) and chosen by
`keep_top`, so counts are exact in pieces and ties go to the lower one. To add one, write such a function and a YAML file.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from dsd.sparsity.top import keep_top


class Granularity(Protocol):
    """Chooses the pieces of one tensor; see the module's docstring."""

    def __call__(self, score: Tensor, density: float) -> Tensor: ...


def element(score: Tensor, density: float) -> Tensor:
    """Each weight by itself, as in the paper."""
    return keep_top(score, density)


def vector(score: Tensor, density: float) -> Tensor:
    """Rows of kernels: the last axis of a convolution's weight."""
    return _pooled(score, density, first=max(2, score.dim() - 1))


def kernel(score: Tensor, density: float) -> Tensor:
    """Whole kernels: one (out, in) pair each."""
    return _pooled(score, density, first=2)


def filter(score: Tensor, density: float) -> Tensor:
    """Whole filters, or the rows of a matrix: one output each. Of a last layer these are classes: exclude it."""
    return _pooled(score, density, first=1)


def block(score: Tensor, density: float, *, rows: int, columns: int) -> Tensor:
    """Blocks of `rows` x `columns` of the matrix (out, in x kernel); those at the edges may be smaller."""
    matrix = score.flatten(1)
    height, width = matrix.shape
    edges = (0, -width % columns, 0, -height % rows)
    tiles = (matrix.shape[0] + edges[3]) // rows, (width + edges[1]) // columns

    def pooled(x: Tensor) -> Tensor:
        return pad(x, edges).reshape(tiles[0], rows, tiles[1], columns).sum((1, 3))

    keep = keep_top(pooled(matrix) / pooled(matrix.new_ones(matrix.shape)), density)
    wide = keep.repeat_interleave(rows, 0).repeat_interleave(columns, 1)
    return wide[:height, :width].reshape(score.shape)


def balanced(score: Tensor, density: float, *, parts: int) -> Tensor:
    """Each weight by itself, with the same density in each of `parts` processing elements: row i is element i mod parts's.

    Load-balance-aware pruning (Han et al., ESE, FPGA 2017). Raises ValueError if there are fewer rows than parts.
    """
    matrix = score.flatten(1) if score.dim() > 1 else score[:, None]
    if not 1 <= parts <= len(matrix):
        raise ValueError(f"{len(matrix)} rows can't be dealt out to {parts} processing elements")
    keep = torch.empty(matrix.shape, dtype=torch.bool, device=score.device)
    for part in range(parts):
        keep[part::parts] = keep_top(matrix[part::parts].contiguous(), density)
    return keep.reshape(score.shape)


def n_of_m(score: Tensor, density: float, *, n: int, m: int) -> Tensor:
    """The best `n` of every `m` neighbouring inputs (2:4 is what sparse tensor cores run).

    The density is n/m by construction; asking for another raises ValueError, as does an input width m doesn't divide.
    """
    if score.dim() < 2:
        raise ValueError(f"{n}:{m} sparsity is along the inputs, which a tensor of shape {tuple(score.shape)} has not")
    if abs(density - n / m) > 1e-6:
        raise ValueError(f"{n}:{m} sparsity has density {n / m}, not {density}: set sparsity={1 - n / m}")
    if score.shape[1] % m:
        raise ValueError(
            f"{n}:{m} sparsity needs a multiple of {m} inputs, found {score.shape[1]} in {tuple(score.shape)}"
        )
    last = score.movedim(1, -1)
    groups = last.reshape(-1, m)
    best = groups.sort(dim=1, descending=True, stable=True).indices[:, :n]
    keep = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, best, True)
    return keep.reshape(last.shape).movedim(-1, 1).contiguous()


BY_OUTPUT = (filter, block, balanced, n_of_m)  # these tell the axis of the outputs from that of the inputs


def _pooled(score: Tensor, density: float, *, first: int) -> Tensor:
    if score.dim() <= first:
        return keep_top(score, density)
    keep = keep_top(score.flatten(first).mean(-1), density)
    return keep.reshape(keep.shape + (1,) * (score.dim() - first)).expand(score.shape).contiguous()
