"""The constraint of a sparse phase: a mask chosen when the phase begins, held after every update, lifted at its end."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from dsd.sparsity.allocation import Allocation, uniform
from dsd.sparsity.criteria import Criterion, magnitude
from dsd.sparsity.granularity import Granularity, element
from dsd.sparsity.mask import Mask
from dsd.sparsity.select import prunable

FIRST_MOMENTS = ("momentum_buffer", "exp_avg", "mu", "ax")


@dataclass(frozen=True)
class Sparse:
    """Prune to `sparsity` (removed fraction, 0 <= sparsity < 1) and hold it (Han et al., ICLR 2017, Algorithm 1).

    `hold=False` prunes once and lets the weights grow back at once: the prune-and-restore control.
    """

    sparsity: float
    criterion: Criterion = magnitude
    granularity: Granularity = element
    allocation: Allocation = uniform
    include: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    spare_first_conv: bool = True
    hold: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise ValueError(f"sparsity is the removed fraction, 0 <= sparsity < 1; found {self.sparsity}")

    def weights(self, module: nn.Module) -> dict[str, Parameter]:
        """The parameters that this constraint is about."""
        return prunable(module, include=self.include, exclude=self.exclude, spare_first_conv=self.spare_first_conv)

    def check(self, module: nn.Module) -> None:
        """Raises ValueError if no weight is selected, or pieces, sparsity and allocation don't fit these weights."""
        weights = self.weights(module)
        replace(self, criterion=magnitude).choose(weights, evidence={}, seed=0)

    def gather(self, weight: Tensor, gradient: Tensor) -> Tensor | None:
        """What the criterion wants to remember of a gradient; None if it needs none."""
        gather = getattr(self.criterion, "gather", None)
        return None if gather is None else gather(weight, gradient)

    @property
    def needs_gradients(self) -> bool:
        return hasattr(self.criterion, "gather")

    @torch.no_grad()
    def choose(self, weights: Mapping[str, Tensor], *, evidence: Mapping[str, Tensor], seed: int) -> Mask:
        """The mask for these weights: scored, allocated, cut. Raises ValueError naming a tensor with NaN or infinity."""
        if (
            getattr(self.allocation, "func", self.allocation) is uniform
        ):  # one layer's score at a time, so memory stays at the largest layer's
            return Mask(
                {n: self._cut(n, self._score(n, w, evidence, seed), 1 - self.sparsity) for n, w in weights.items()}
            )
        scores = {name: self._score(name, w, evidence, seed) for name, w in weights.items()}
        densities = self.allocation(scores, self.sparsity)
        return Mask({name: self._cut(name, score, densities[name]) for name, score in scores.items()})

    def enter(self, module: nn.Module, *, evidence: Mapping[str, Tensor], seed: int) -> Held:
        """Choose the mask from the weights as they are and set the others to 0. All ranks use rank 0's mask."""
        weights = self.weights(module)
        held = Held(weights, _of_rank_zero(self.choose(weights, evidence=evidence, seed=seed)))
        held.project_()
        return held if self.hold else Held(weights, Mask({}))

    def resume(self, module: nn.Module, state: Mapping[str, Any]) -> Held:
        """Hold the mask that a checkpoint brought back."""
        mask = Mask.unpack(state["mask"])
        weights = self.weights(module)
        if mask and set(mask) != set(weights):
            raise ValueError(
                f"the checkpoint's mask covers {len(mask)} tensors, this model's sparse phase {len(weights)}; they "
                f"differ in {sorted(set(mask) ^ set(weights))[:5]}: resume with the configuration it was made with"
            )
        return Held(weights, mask)

    def _score(self, name: str, weight: Tensor, evidence: Mapping[str, Tensor], seed: int) -> Tensor:
        generator = torch.Generator().manual_seed((zlib.crc32(name.encode()) << 20) ^ seed)
        return self.criterion(weight.detach(), evidence=evidence.get(name), generator=generator)

    def _cut(self, name: str, score: Tensor, density: float) -> Tensor:
        try:
            return self.granularity(score, density)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


class Held:
    """A mask in force on live parameters."""

    def __init__(self, weights: Mapping[str, Parameter], mask: Mask) -> None:
        self.mask = mask
        self._weights: list[Tensor] = [weights[name] for name in mask]
        # of the weights' own type and memory layout: a bool mask, or one laid out otherwise, multiplies six times slower
        self._factors = [
            torch.empty_like(w.detach()).copy_(mask[name]) for name, w in zip(mask, self._weights, strict=True)
        ]

    @torch.no_grad()
    def project_(self) -> None:
        """Set the pruned weights to 0 again: momentum and weight decay revive them at every update."""
        if self._weights:
            torch._foreach_mul_(self._weights, self._factors)

    def leave_(self, optimizers: Iterable[Optimizer]) -> None:
        """Release the weights: they start again from 0, without the momentum that piled up under the mask.

        Second moments stay: they were fed by true gradients and only scale the steps.
        """
        for optimizer in optimizers:
            for weight, factor in zip(self._weights, self._factors, strict=True):
                state = optimizer.state.get(weight, {})
                for key in FIRST_MOMENTS:
                    if isinstance(state.get(key), Tensor):
                        state[key].mul_(factor)

    def state_dict(self) -> dict[str, Any]:
        return {"mask": self.mask.pack()}


def _of_rank_zero(mask: Mask) -> Mask:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return mask
    keep = {}
    for name, tensor in mask.items():
        bits = tensor.to(torch.uint8)
        torch.distributed.broadcast(bits, src=0)
        keep[name] = bits.bool()
    return Mask(keep)
