"""Masks that change within a phase: gradual pruning, and dynamic network surgery, where weights may come back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dsd.sparsity.mask import Mask
from dsd.sparsity.product import Product
from dsd.sparsity.sparse import Held, Sparse, of_rank_zero


@dataclass(frozen=True, kw_only=True)
class Gradual(Sparse):
    """Sparsity grows from `start` of its final value to all of it over the first `ramp` of the phase, by a cubic law.

    s(t) = sparsity x (1 - (1 - start) (1 - t)^3) (Zhu and Gupta, "To prune, or not to prune", 2017), the mask chosen anew
    every `every` updates. With `regrow`, pruned weights keep learning out of sight and come back when they are large
    again (Guo et al., "Dynamic network surgery", NIPS 2016, here with exact counts in place of their two thresholds).
    After the ramp the mask is fixed.
    """

    every: int
    ramp: float
    start: float = 0.0
    regrow: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.every < 1 or not 0 < self.ramp <= 1 or not 0 <= self.start <= 1:
            raise ValueError(
                f"need every >= 1, 0 < ramp <= 1, 0 <= start <= 1; found {self.every}, {self.ramp}, {self.start}"
            )
        if self.needs_gradients or not self.hold or self.part != 1 or self.share != 1:
            raise ValueError(
                "gradual pruning needs a criterion without gradients, hold=true, part=1 and share=1: it goes all the way itself"
            )

    def check(self, module: nn.Module) -> None:
        """As `Sparse.check`, at the ramp's beginning and middle too: some granularities have one density only."""
        super().check(module)
        for done in (0.0, 0.5):
            self.choose(self.weights(module), evidence={}, seed=0, thin=lambda d, done=done: self.thinned(done, d))  # type: ignore[misc]

    def thinned(self, done: float, density: float) -> float:
        """A layer's density when `done` of the ramp (0..1) is behind it, if its final one is `density`."""
        return 1 - (1 - density) * (1 - (1 - self.start) * (1 - min(1.0, done)) ** 3)

    def choose_at(self, weights: Mapping[str, Tensor], done: float, seed: int) -> Mask:
        """The mask at that point of the ramp; the same on all ranks."""
        return of_rank_zero(self.choose(weights, evidence={}, seed=seed, thin=lambda d: self.thinned(done, d)))

    def enter(self, module: nn.Module, *, evidence: Mapping[str, Tensor], seed: int) -> Moving:
        weights = self.weights(module)
        retrains = self.l1 or self.frozen or self.rescale_dropout
        final = self.choose_at(weights, 1.0, seed).densities() if retrains else None  # dropout goes by the ramp's end
        held = Moving(self, module, self.choose_at(weights, 0.0, seed), seed, final)
        held.project_()
        return held

    def resume(self, module: nn.Module, state: Mapping[str, Any]) -> Moving:
        held = Moving(self, module, self.restored(module, state), state["seed"], state["densities"])
        held.begin_(state["updates"])
        held.steps = state["steps"]
        if self.regrow:
            for mine, saved in zip(held.latent, state["latent"], strict=True):
                mine.copy_(saved)
        return held


class Moving(Held):
    """A mask in force that is chosen anew from time to time; with `densities`, what else retraining changes."""

    def __init__(
        self, constraint: Gradual, module: nn.Module, mask: Mask, seed: int, densities: Mapping[str, float] | None
    ) -> None:
        weights = constraint.weights(module)
        super().__init__(weights, mask)
        self.retraining = None if densities is None else constraint.retraining(module, weights, densities)
        self.constraint, self.seed, self.densities = constraint, seed, densities
        self.steps = self.updates = 0
        self.latent = [w.detach().clone() for w in self._weights] if constraint.regrow else []
        self._names = list(mask)
        self._stepping: Optimizer | None = None
        self._pending = False

    def begin_(self, updates: int) -> None:
        """Know the phase's length in updates."""
        self.updates = updates

    @torch.no_grad()
    def before_step_(self, optimizer: Optimizer) -> None:
        """Count the update; the update is made on the latent weights, with the gradients that the pruned network gave."""
        if self.retraining is not None:
            self.retraining.change_gradients_()
        self._stepping = self._stepping or optimizer
        if optimizer is self._stepping:
            self.steps += 1
            self._pending = True
            for weight, latent in zip(self._weights, self.latent, strict=False):
                weight.copy_(latent)

    @torch.no_grad()
    def project_(self) -> None:
        if self._pending:
            self._pending = False
            for weight, latent in zip(self._weights, self.latent, strict=False):
                latent.copy_(weight)
            if not self.latent:
                super().project_()  # momentum has just moved what is pruned: it has no say in the new mask
            last = max(1, round(self.constraint.ramp * self.updates))
            if (self.steps % self.constraint.every == 0 and self.steps < last) or self.steps == last:
                self._choose(self.steps / last)
        super().project_()

    def _choose(self, done: float) -> None:
        weights = dict(zip(self._names, self._weights, strict=True))
        self.mask = self.constraint.choose_at(weights, done, self.seed)
        self._product = Product(list(self.mask.values()))

    def leave_(self, optimizers: Iterable[Optimizer]) -> None:
        super().leave_(optimizers)
        if self.retraining is not None:
            self.retraining.undo_()

    def state_dict(self) -> dict[str, Any]:
        moving = {"steps": self.steps, "updates": self.updates, "seed": self.seed, "latent": self.latent}
        return super().state_dict() | moving | {"densities": self.densities}
