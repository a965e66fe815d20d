"""What a phase of retraining may change besides the mask (Han et al., NIPS 2015, sections 3.1 to 3.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import Parameter

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)


@dataclass(frozen=True)
class Retraining:
    """L1 on `weights`, `resting` parameters that no update moves, and dropout layers with the rates to put back."""

    weights: Sequence[Parameter]
    resting: Sequence[Parameter]
    l1: float
    dropouts: Sequence[tuple[nn.Module, float]]

    @classmethod
    def of(
        cls,
        module: nn.Module,
        weights: Mapping[str, Parameter],
        densities: Mapping[str, float],
        l1: float,
        resting: Sequence[Parameter],
        rescale_dropout: bool,
    ) -> Retraining:
        """In force from now on; `densities` are the weights' kept shares.

        Raises ValueError if dropout is to be rescaled and no dropout has a pruned layer behind it.
        """
        changed = []
        if rescale_dropout:
            kept = {id(weights[name]): density for name, density in densities.items()}
            waiting: list[nn.Module] = []
            for layer in module.modules():
                if isinstance(layer, DROPOUTS):
                    waiting.append(layer)
                weight = getattr(layer, "weight", None)
                if isinstance(weight, Tensor) and weight.dim() > 1:  # the layer behind, be it pruned or not
                    share = kept.get(id(weight), 1.0)
                    changed += [(d, d.p, rescaled(float(d.p), share)) for d in waiting if share < 1]  # type: ignore[arg-type]
                    waiting = []
            if not changed:
                raise ValueError(
                    "rescale_dropout: the network has no dropout in front of a pruned layer; set it to false"
                )
            for dropout, _, rate in changed:
                dropout.p = rate  # type: ignore[assignment]
        return cls(list(weights.values()), resting, l1, [(dropout, float(p)) for dropout, p, _ in changed])  # type: ignore[arg-type]

    @torch.no_grad()
    def change_gradients_(self) -> None:
        """Add the L1 term, and take the gradients of resting parameters away: optimizers pass over those without one."""
        if self.l1:
            for weight in self.weights:
                if weight.grad is not None:
                    weight.grad.add_(weight.sign(), alpha=self.l1)
        for parameter in self.resting:
            parameter.grad = None

    def undo_(self) -> None:
        """Put the dropout rates back."""
        for dropout, rate in self.dropouts:
            dropout.p = rate  # type: ignore[assignment]


def rescaled(rate: float, kept: float) -> float:
    """rate x sqrt(kept): the dropout rate of a layer that lost connections (section 3.2, equation 2); 0.5, 9 % -> 0.15."""
    return rate * math.sqrt(kept)
