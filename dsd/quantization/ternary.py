"""Trained ternary quantization (Zhu et al., ICLR 2017): each weight is +Wp, 0 or -Wn, both learned, one pair a layer.

As published and in the official ternarynet code: delta = threshold x max|w| of the latent full-precision weights w; +Wp
where w > delta, -Wn where w < -delta. Gradients: of Wp the sum of g over the positive, of Wn minus the sum over the
negative ones; the latent weights get g x Wp, g and g x Wn. Where paper and code differ is the caller's choice: the code
puts L2 on Wp and Wn (`decay_scales`), ternarises the last layer of the CIFAR network (which layers is `select`'s), and has
a second way to find delta, a constant sparsity.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer


@dataclass(frozen=True)
class Ternary:
    """Ternary weights in the layers that `select` names; the optimizer's updates are made on latent weights.

    `threshold` is t in delta = t max|w| (0.05 as published); with `sparsity` delta is what prunes that share instead.
    """

    select: Callable[[nn.Module], dict[str, Parameter]]
    threshold: float = 0.05
    sparsity: float | None = None
    initial: float = 1.0
    decay_scales: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is a share of the largest weight, 0 < threshold < 1; found {self.threshold}")
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise ValueError(f"sparsity is the removed fraction, 0 <= sparsity < 1; found {self.sparsity}")
        if self.initial <= 0:
            raise ValueError(f"the scales start from a positive number, found {self.initial}")

    def weights(self, module: nn.Module) -> dict[str, Parameter]:
        """The parameters that this constraint is about."""
        return self.select(module)

    def check(self, module: nn.Module) -> None:
        """Raises ValueError if no weight is selected."""
        self.weights(module)

    def enter(self, module: nn.Module, *, evidence: Mapping[str, Tensor], seed: int) -> Held:
        """Ternary from now on, the weights as they are becoming the latent ones."""
        return Held(self, self.weights(module))

    def resume(self, module: nn.Module, state: Mapping[str, Any]) -> Held:
        """Go on with the latent weights and scales of a checkpoint."""
        held = Held(self, self.weights(module))
        if set(held.latent) != set(state["latent"]):
            raise ValueError(
                "the checkpoint's ternary layers are others: resume with the configuration it was made with"
            )
        with torch.no_grad():
            for name in held.latent:
                held.latent[name].copy_(state["latent"][name])
                held.scales[name].copy_(state["scales"][name])
        held.saved = state["optimizer"]
        held.write_()
        return held

    def kept(self, latent: Tensor) -> Tensor:
        """Which weights of a layer are not 0; by `sparsity` exactly so many, of equal ones the first."""
        size = latent.abs()
        if self.sparsity is None:
            return size > self.threshold * size.max()
        k = round(self.sparsity * size.numel())
        if k == 0:
            return size > 0
        largest = size.reshape(-1).kthvalue(k).values  # that is pruned, on the weights' own device
        kept, equal = size > largest, size == largest
        number = equal.reshape(-1).cumsum(0).reshape(size.shape)
        return kept | (equal & (number <= size.numel() - k - kept.sum()))


class Held:
    """Ternary weights in force: the module has them outside of the optimizer's step, the latent ones during it.

    The scales have an optimizer of their own, of the same kind, rate and settings; its gradients are not clipped.
    """

    def __init__(self, constraint: Ternary, weights: Mapping[str, Parameter]) -> None:
        self.constraint = constraint
        self.weights = dict(weights)
        self.latent = {n: w.detach().clone() for n, w in weights.items()}
        self.scales = {
            n: Parameter(torch.full((2,), float(constraint.initial), device=w.device)) for n, w in weights.items()
        }
        self.saved: dict[str, Any] | None = None
        self._sibling: Optimizer | None = None
        self._pending = False
        self._sides: dict[str, tuple[Tensor, Tensor]] = {}
        self.write_()

    @torch.no_grad()
    def before_step_(self, optimizer: Optimizer) -> None:
        """Put the latent weights in, with their gradients; give the scales theirs."""
        self._pending = True
        for name, weight in self.weights.items():
            weight.copy_(self.latent[name])
            if weight.grad is None:  # it has no step, and its scales have none
                self.scales[name].grad = None
                continue
            up, down = self._sides[name]
            g, scale = weight.grad, self.scales[name]
            scale.grad = torch.stack([g[up].sum(), -g[down].sum()]).to(scale.dtype)
            factor = torch.ones_like(g).masked_fill_(up, float(scale[0])).masked_fill_(down, float(scale[1]))
            weight.grad = g * factor

    @torch.no_grad()
    def after_step_(self, optimizer: Optimizer) -> None:
        """The scales make their step too, now that `optimizer` has made its own: a gradient scaler skips some."""
        sibling = self._optimizer_like(optimizer)
        sibling.param_groups[0]["lr"] = self._group(optimizer)["lr"]
        sibling.step()

    @torch.no_grad()
    def project_(self) -> None:
        """Take the latent weights out and put the ternary ones in."""
        if self._pending:
            self._pending = False
            for name, weight in self.weights.items():
                self.latent[name].copy_(weight)
        self.write_()

    @torch.no_grad()
    def write_(self) -> None:
        """The module's weights become +Wp, 0, -Wn."""
        for name, weight in self.weights.items():
            latent = self.latent[name]
            kept = self.constraint.kept(latent)
            up, down = kept & (latent > 0), kept & (latent < 0)
            self._sides[name] = up, down
            positive, negative = self.scales[name].detach().to(weight.dtype)
            weight.copy_(torch.where(up, positive, torch.where(down, -negative, torch.zeros_like(positive))))

    def leave_(self, optimizers: Iterable[Optimizer]) -> None:
        """Leave the ternary weights as they are."""

    def state_dict(self) -> dict[str, Any]:
        scales = {n: s.detach().clone() for n, s in self.scales.items()}
        optimizer = self.saved if self._sibling is None else self._sibling.state_dict()
        return {"latent": self.latent, "scales": scales, "optimizer": optimizer}

    def _optimizer_like(self, optimizer: Optimizer) -> Optimizer:
        if self._sibling is None:
            kind: Any = type(optimizer)
            taken = inspect.signature(kind).parameters.keys() & optimizer.defaults.keys()
            group = {key: value for key, value in self._group(optimizer).items() if key in taken}
            if "weight_decay" in group and not self.constraint.decay_scales:
                group["weight_decay"] = 0.0
            self._sibling = kind(list(self.scales.values()), **group)
            if self.saved is not None:
                self._sibling.load_state_dict(self.saved)
        return self._sibling

    def _group(self, optimizer: Optimizer) -> dict[str, Any]:
        """The optimizer's group that the ternary weights are in, the first one's."""
        first = next(iter(self.weights.values()))
        groups = optimizer.param_groups
        return next((group for group in groups if any(p is first for p in group["params"])), groups[0])
