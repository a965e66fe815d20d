"""Low rank: the comparison of the papers' trade-off curves (Deep Compression, Figure 6 and Table 7: SVD)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer


def rank_for(shape: tuple[int, ...], share: float) -> int:
    """The largest rank whose two factors have at most `share` of the entries of a matrix (first axis x others); at least 1."""
    rows, columns = shape[0], int(torch.Size(shape[1:]).numel())
    return max(1, int(share * rows * columns / (rows + columns)))


def low_rank_bytes(shape: tuple[int, ...], rank: int) -> int:
    """float32 bytes of the two factors, or of the matrix where that is less."""
    rows, columns = shape[0], int(torch.Size(shape[1:]).numel())
    return 4 * min(rank * (rows + columns), rows * columns)


@dataclass(frozen=True)
class LowRank:
    """Weights of the rank whose factors have `share` of a layer's entries, in the column space they have at the start.

    The best approximation (truncated SVD) when the phase begins; W <- U U^T W after every update keeps it within U's span.
    Matrices that are smaller than their factors would be are left alone.
    """

    share: float
    select: Callable[[nn.Module], dict[str, Parameter]]

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(
                f"share is the part of the entries that the factors have, 0 < share <= 1; found {self.share}"
            )

    def weights(self, module: nn.Module) -> dict[str, Parameter]:
        """The parameters that this constraint is about."""
        return self.select(module)

    def check(self, module: nn.Module) -> None:
        """Raises ValueError if no weight is selected."""
        self.weights(module)

    @torch.no_grad()
    def enter(self, module: nn.Module, *, evidence: Mapping[str, Tensor], seed: int) -> Held:
        """Cut every matrix to its rank."""
        bases = {}
        for name, weight in self.weights(module).items():
            rank = rank_for(tuple(weight.shape), self.share)
            if rank * (weight.shape[0] + weight[0].numel()) > weight.numel():
                continue
            left, _, _ = torch.linalg.svd(weight.detach().flatten(1).double(), full_matrices=False)
            bases[name] = left[:, :rank].to(weight.dtype).contiguous()
        held = Held(self.weights(module), bases)
        held.project_()
        return held

    def resume(self, module: nn.Module, state: Mapping[str, Any]) -> Held:
        """Go on in the column spaces of a checkpoint."""
        return Held(self.weights(module), state["bases"])


class Held:
    """Column spaces in force."""

    def __init__(self, weights: Mapping[str, Parameter], bases: Mapping[str, Tensor]) -> None:
        self.weights, self.bases = dict(weights), dict(bases)

    @torch.no_grad()
    def project_(self) -> None:
        """Take away what left the column space."""
        for name, basis in self.bases.items():
            weight = self.weights[name]
            if basis.shape[1] < len(basis):
                weight.copy_((basis @ (basis.T @ weight.flatten(1))).reshape(weight.shape))

    def leave_(self, optimizers: Iterable[Optimizer]) -> None:
        """Let the weights leave it."""

    def state_dict(self) -> dict[str, Any]:
        return {"bases": self.bases}
