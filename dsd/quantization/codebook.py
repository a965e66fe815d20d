"""A codebook: the few values that the surviving weights of one tensor share (Deep Compression, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dsd.quantization.kmeans import Initial, assign, kmeans, linear


@dataclass(frozen=True)
class Codebook:
    """`centroid_K` float32 and, for the weight at `position_N` of the flattened tensor, its centroid's number `index_N`.

    Weights that are exactly 0 are pruned: they have no position and stay 0. No centroid is 0.
    """

    centroid_K: Tensor
    index_N: Tensor
    position_N: Tensor
    shape: tuple[int, ...]

    @classmethod
    def of(cls, weight: Tensor, bits: int, *, init: Initial = linear, iterations: int = 50, seed: int = 0) -> Codebook:
        """At most 2**bits values for the weights of `weight` that are not 0. Raises ValueError for NaN, or bits outside 1..16."""
        if not 1 <= bits <= 16:
            raise ValueError(f"a codebook has 1 to 16 bits, found {bits}")
        flat = weight.detach().reshape(-1).float().cpu().numpy()
        position = np.flatnonzero(flat != 0)  # of bools: three times faster
        values = flat[position]
        centroid = kmeans(values, 1 << bits, init=init, iterations=iterations, rng=np.random.default_rng(seed))
        return cls.with_values(weight, centroid, values, position)

    @classmethod
    def with_values(cls, weight: Tensor, centroid: np.ndarray, values: np.ndarray, position: np.ndarray) -> Codebook:
        """The codebook of given ascending values; a centroid at 0 moves to the smallest number: it must not look pruned."""
        tiny = np.finfo(np.float32).tiny
        centroid = np.where(np.abs(centroid) < tiny, np.float32(tiny), centroid).astype(np.float32)
        index = assign(values, centroid) if len(centroid) else np.empty(0, np.int64)
        return cls(torch.from_numpy(centroid), torch.from_numpy(index), torch.from_numpy(position), tuple(weight.shape))

    def values(self) -> Tensor:
        """The dense float32 tensor of `shape`."""
        flat = torch.from_numpy(np.zeros(int(np.prod(self.shape, dtype=np.int64)), np.float32))  # of huge pages
        flat.scatter_(0, self.position_N, self.centroid_K.index_select(0, self.index_N))
        return flat.reshape(self.shape)
