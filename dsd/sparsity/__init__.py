"""Masks and how they are chosen: criterion (score), granularity (piece), allocation (layers), selection (names)."""

from dsd.sparsity.gradual import Gradual
from dsd.sparsity.mask import Mask, density
from dsd.sparsity.select import prunable
from dsd.sparsity.sparse import Sparse
from dsd.sparsity.top import keep_top

__all__ = ["Gradual", "Mask", "Sparse", "density", "keep_top", "prunable"]
