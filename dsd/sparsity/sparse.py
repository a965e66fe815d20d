"""The constraint of a sparse phase: a mask chosen when the phase begins, held after every update, lifted at its end.

Retraining a pruned network (Han et al., NIPS 2015) is the same with options: L1, dropout that shrinks with the layer,
layers that rest, and a sparsity reached in several phases (`part`).
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from dsd.sparsity.allocation import Allocation, uniform
from dsd.sparsity.criteria import Criterion, magnitude
from dsd.sparsity.granularity import BY_OUTPUT, Granularity, element
from dsd.sparsity.mask import Mask
from dsd.sparsity.product import Product
from dsd.sparsity.retraining import Retraining
from dsd.sparsity.select import derived, matching, plain, prunable, transposed

FIRST_MOMENTS = ("momentum_buffer", "exp_avg", "mu", "ax")


@dataclass(frozen=True)
class Sparse:
    """Prune to `sparsity` (removed fraction, 0 <= sparsity < 1) and hold it (Han et al., ICLR 2017, Algorithm 1).

    `hold=False` prunes once and lets the weights grow back at once: the prune-and-restore control. `part` stops on the
    way: each layer gets density ** part, so part = 1/3, 2/3, 1 are three rounds of iterative pruning. `share` is the part
    of its sparsity that each layer gets, so 0.5 is DSDSD's second round. `l1` is added to
    the gradient times the weight's sign; `frozen` are patterns of parameters that rest in this phase (all FC while CONV
    is retrained, section 3.3); `rescale_dropout` multiplies each dropout rate by sqrt(kept share of the layer behind it)
    (section 3.2, equation 2).
    """

    sparsity: float
    criterion: Criterion = magnitude
    granularity: Granularity = element
    allocation: Allocation = uniform
    include: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    spare_first_conv: bool = True
    hold: bool = True
    part: float = 1.0
    share: float = 1.0
    l1: float = 0.0
    frozen: Sequence[str] = ()
    rescale_dropout: bool = False

    def __post_init__(self) -> None:
        for name in ("part", "share", "l1", "sparsity"):
            if not isinstance(value := getattr(self, name), Real):
                raise ValueError(f"{name} is a number, found {value!r}")
        for name in ("criterion", "granularity", "allocation"):
            if not callable(value := getattr(self, name)):
                raise ValueError(f"{name} is a function, such as those of dsd.sparsity; found {value!r}")
        if not 0 < self.part <= 1:
            raise ValueError(f"part is the share of the way to the sparsity, 0 < part <= 1; found {self.part}")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is the part of the sparsity that is pruned, 0 <= share <= 1; found {self.share}")
        if self.l1 < 0:
            raise ValueError(f"l1 must not be negative, found {self.l1}")
        if not 0 <= self.sparsity < 1:
            raise ValueError(f"sparsity is the removed fraction, 0 <= sparsity < 1; found {self.sparsity}")

    def weights(self, module: nn.Module) -> dict[str, Parameter]:
        """The parameters that this constraint is about."""
        return prunable(module, include=self.include, exclude=self.exclude, spare_first_conv=self.spare_first_conv)

    def alone(self, layer: str, value: float) -> Sparse:
        """The mask of that layer alone, at that sparsity, and nothing else that the constraint changes while retraining."""
        only: dict[str, Any] = {"include": [layer], "exclude": (), "allocation": uniform}
        return replace(self, sparsity=value, **only, l1=0.0, frozen=(), rescale_dropout=False)

    def check(self, module: nn.Module) -> None:
        """Raises ValueError if no weight is selected, or pieces, sparsity and allocation don't fit these weights."""
        weights = self.weights(module)
        if self.include is None and (others := derived(module)):
            warnings.warn(
                f"not pruned: {', '.join(others)}, whose weight is made from other parameters (weight_norm, spectral_norm, prune)",
                stacklevel=2,
            )
        turned = (
            transposed(module) & weights.keys()
            if getattr(self.granularity, "func", self.granularity) in BY_OUTPUT
            else set()
        )
        if turned:
            raise ValueError(
                f"{', '.join(sorted(turned))}: a transposed convolution's weight is (in, out, *kernel), so pieces of outputs would be pieces "
                "of its inputs; exclude it, or use granularity=element, vector or kernel"
            )
        matching({plain(name): p for name, p in module.named_parameters()}, self.frozen)
        replace(self, criterion=magnitude).choose(weights, evidence={}, seed=0)

    def gather(self, weight: Tensor, gradient: Tensor) -> Tensor | None:
        """What the criterion wants to remember of a gradient; None if it needs none."""
        gather = getattr(self.criterion, "gather", None)
        return None if gather is None else gather(weight, gradient)

    @property
    def needs_gradients(self) -> bool:
        return hasattr(self.criterion, "gather")

    @torch.no_grad()
    def choose(
        self,
        weights: Mapping[str, Tensor],
        *,
        evidence: Mapping[str, Tensor],
        seed: int,
        thin: Callable[[float], float] | None = None,
    ) -> Mask:
        """The mask for these weights: scored, allocated, cut. Raises ValueError naming a tensor with NaN or infinity.

        `thin` makes a layer's present density of its final one; without it, `part` and `share` do.
        """
        thin = thin or (
            lambda density: 1 - self.share * (1 - density**self.part) if self.share < 1 else density**self.part
        )
        if (
            getattr(self.allocation, "func", self.allocation) is uniform
        ):  # one layer's score at a time, so memory stays at the largest layer's
            return Mask(
                {
                    n: self._cut(n, self._score(n, w, evidence, seed), thin(1 - self.sparsity))
                    for n, w in weights.items()
                }
            )
        scores = {name: self._score(name, w, evidence, seed) for name, w in weights.items()}
        densities = self.allocation(scores, self.sparsity)
        return Mask({name: self._cut(name, score, thin(densities[name])) for name, score in scores.items()})

    def enter(self, module: nn.Module, *, evidence: Mapping[str, Tensor], seed: int) -> Held:
        """Choose the mask from the weights as they are and set the others to 0. All ranks use rank 0's mask."""
        weights = self.weights(module)
        held = Held(weights, of_rank_zero(self.choose(weights, evidence=evidence, seed=seed)))
        if empty := [name for name, keep in held.mask.items() if not keep.any()]:
            warnings.warn(
                f"nothing is left of {', '.join(empty)}: no signal passes. exclude={empty} spares it", stacklevel=2
            )
        held.project_()
        return self._hold(module, weights, held.mask if self.hold else Mask({}))

    def resume(self, module: nn.Module, state: Mapping[str, Any]) -> Held:
        """Hold the mask that a checkpoint brought back."""
        return self._hold(module, self.weights(module), self.restored(module, state))

    def restored(self, module: nn.Module, state: Mapping[str, Any]) -> Mask:
        """The mask of a checkpoint. Raises ValueError if it is of other layers."""
        mask = Mask.unpack(state["mask"])
        weights = self.weights(module)
        if mask and set(mask) != set(weights):
            raise ValueError(
                f"the checkpoint's mask covers {len(mask)} tensors, this model's sparse phase {len(weights)}; they "
                f"differ in {sorted(set(mask) ^ set(weights))[:5]}: resume with the configuration it was made with"
            )
        return mask

    def retraining(
        self, module: nn.Module, weights: Mapping[str, Parameter], densities: Mapping[str, float]
    ) -> Retraining:
        """L1, resting parameters and dropout rescaled by those kept shares, in force from now on."""
        names = {plain(name): p for name, p in module.named_parameters()}
        resting = [names[name] for name in matching(names, self.frozen)]
        return Retraining.of(module, weights, densities, self.l1, resting, self.rescale_dropout)

    def _hold(self, module: nn.Module, weights: Mapping[str, Parameter], mask: Mask) -> Held:
        if not (self.l1 or self.frozen or self.rescale_dropout):
            return Held(weights, mask)
        return Retrained(weights, mask, self.retraining(module, weights, mask.densities()))

    def _score(self, name: str, weight: Tensor, evidence: Mapping[str, Tensor], seed: int) -> Tensor:
        generator = torch.Generator().manual_seed((zlib.crc32(name.encode()) << 20) ^ seed)
        try:
            return self.criterion(weight.detach(), evidence=evidence.get(name), generator=generator)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

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
        self._product = Product(list(mask.values()))

    def project_(self) -> None:
        """Set the pruned weights to 0 again: momentum and weight decay revive them at every update."""
        self._product(self._weights)

    def leave_(self, optimizers: Iterable[Optimizer]) -> None:
        """Release the weights: they start again from 0, without the momentum that piled up under the mask.

        Second moments stay: they were fed by true gradients and only scale the steps.
        """
        for optimizer in optimizers:
            for weight, keep in zip(self._weights, self.mask.values(), strict=True):
                state = optimizer.state.get(weight, {})
                for key in FIRST_MOMENTS:
                    if isinstance(state.get(key), Tensor):
                        state[key].mul_(keep.to(state[key]))

    def state_dict(self) -> dict[str, Any]:
        return {"mask": self.mask.pack()}


class Retrained(Held):
    """A mask in force, with what else the phase changes while it lasts."""

    def __init__(self, weights: Mapping[str, Parameter], mask: Mask, retraining: Retraining) -> None:
        super().__init__(weights, mask)
        self.retraining = retraining

    def before_step_(self, optimizer: Optimizer) -> None:
        self.retraining.change_gradients_()

    def leave_(self, optimizers: Iterable[Optimizer]) -> None:
        super().leave_(optimizers)
        self.retraining.undo_()


def of_rank_zero(mask: Mask) -> Mask:
    """The mask that rank 0 chose, on every rank."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return mask
    keep = {}
    for name, tensor in mask.items():
        bits = tensor.to(torch.uint8)
        torch.distributed.broadcast(bits, src=0)
        keep[name] = bits.bool()
    return Mask(keep)
