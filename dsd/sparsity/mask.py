"""Mask: which weights survive. One immutable type, one polarity, everywhere: True = kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor


class Mask(Mapping[str, Tensor]):
    """Parameter name -> bool tensor of its shape, True = kept."""

    def __init__(self, keep: Mapping[str, Tensor]) -> None:
        """Raises TypeError if a tensor isn't bool (a 0/1 float of unknown polarity is never guessed at)."""
        for name, tensor in keep.items():
            if tensor.dtype != torch.bool:
                raise TypeError(f"mask of {name!r} must be bool, True = kept; found {tensor.dtype}")
        self._keep = dict(keep)

    def __getitem__(self, name: str) -> Tensor:
        return self._keep[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keep)

    def __len__(self) -> int:
        return len(self._keep)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        return list(self) == list(other) and all(torch.equal(self[name], other[name]) for name in self)

    __hash__ = None  # type: ignore[assignment]

    def __le__(self, other: Mask) -> bool:
        """Nested: everything kept here is kept there."""
        return set(self) == set(other) and all(bool((~self[name] | other[name]).all()) for name in self)

    @property
    def density(self) -> float:
        """Kept fraction of all weights under the mask, 0..1."""
        return sum(int(k.sum()) for k in self.values()) / max(1, sum(k.numel() for k in self.values()))

    def densities(self) -> dict[str, float]:
        """Kept fraction of each tensor, 0..1."""
        return {name: int(k.sum()) / max(1, k.numel()) for name, k in self.items()}

    def pack(self) -> dict[str, tuple[Tensor, list[int]]]:
        """Eight weights to the byte, for checkpoints."""
        return {
            name: (torch.from_numpy(np.packbits(k.cpu().numpy().reshape(-1))), list(k.shape))
            for name, k in self.items()
        }

    @classmethod
    def unpack(cls, packed: Mapping[str, tuple[Tensor, list[int]]]) -> Mask:
        """The mask that `pack` packed."""
        keep = {}
        for name, (bits, shape) in packed.items():
            n = int(np.prod(shape, dtype=np.int64))
            flat = np.unpackbits(bits.cpu().numpy(), count=n).astype(bool)
            keep[name] = torch.from_numpy(flat).reshape(shape)
        return cls(keep)


def density(weights: Mapping[str, Tensor]) -> tuple[float, dict[str, float]]:
    """Share of weights that are not exactly zero, counted from the weights: in all, and of each tensor (0..1)."""
    kept = {name: int(torch.count_nonzero(w)) for name, w in weights.items()}
    total = sum(w.numel() for w in weights.values())
    return sum(kept.values()) / max(1, total), {name: kept[name] / max(1, w.numel()) for name, w in weights.items()}
