"""Carries a plan out on a module and its optimizers. Plain PyTorch; the Lightning callback is a thin coat over it.

When what happens, for update u:

    start_update(u)      if u is the first of a phase: leave the old constraint (released weights are exactly 0, their
                         momentum is cleared), empty the optimizer's state if the phase says so, enter the new constraint
    forward, backward    yours, as often as you accumulate gradients
    optimizer.step()       before it: the update's learning rate is set (a relative one multiplies what is set), and the
                                      constraint may change the gradients (shared weights get the sum of their cluster)
                           after it:  the constraint is restored (pruned weights are exactly 0 again), a relative rate is
                                      taken back, and the next phase's criterion looks at the gradients

The two things around `optimizer.step()` are hooks of the optimizer itself, so they hold for every kind of optimizer,
loop, precision and gradient accumulation, and a step that a gradient scaler skips changes nothing. Where the backward
pass is run inside of `optimizer.step(closure)`, as Lightning does, call `before_step(optimizer)` in the closure and say
`closures=True`: the hook would be too early.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dsd.plan import Phase, Plan, Times
from dsd.sparsity import Sparse


def dsd_phases(
    sparsity: float,
    epochs: tuple[float, float, float],
    *,
    rates: tuple[float, float, float] = (1.0, 0.1, 0.01),
    **how: Any,
) -> tuple[Phase, Phase, Phase]:
    """Dense, sparse, re-dense (Han et al., ICLR 2017), for `epochs` epochs each.

    `rates` multiply the rate that the optimizer (or a scheduler of yours) has; the default is the paper's decade a phase.
    `how` goes to `Sparse`: criterion, granularity, allocation, include, exclude, spare_first_conv.
    """
    for name, three in (("epochs", epochs), ("rates", rates)):
        if not (isinstance(three, Sequence) and len(three) == 3 and not isinstance(three, str)):
            raise ValueError(
                f"{name} are three numbers, of the dense, the sparse and the re-dense phase; found {three!r}"
            )
    dense, sparse, redense = epochs
    return (
        Phase("dense", dense, Times(rates[0])),
        Phase("sparse", sparse, Times(rates[1]), Sparse(sparsity, **how)),
        Phase("redense", redense, Times(rates[2])),
    )


class Phases:
    """A plan at work on `module`, trained by `optimizer` (one or several)."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: Optimizer | Iterable[Optimizer],
        phases: Sequence[Phase],
        updates_per_epoch: int,
        *,
        seed: int = 0,
        observe: int = 100,
        closures: bool = False,
    ) -> None:
        """`seed` draws random masks; gradient criteria see the last `observe` updates before their phase."""
        self.module = module
        self.optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)
        self.plan = Plan(tuple(phases), updates_per_epoch)
        self.seed = seed
        self.observe = observe
        self.closures = closures
        self.update = 0
        self.index = -1
        self._at = 0  # the update that the optimizers are in: the first one's step counts it, the others follow
        self.held: Any = None
        self.evidence: dict[str, Tensor] = {}
        self._until = 0
        self._between = False  # the constraint has been told of a step that hasn't been made yet
        self._own: dict[int, list[float]] = {}  # of each optimizer in a step: the rates that are its own
        trained = {id(p) for one in self.optimizers for group in one.param_groups for p in group["params"]}
        for phase in self.plan.phases:  # what can't be done must fail now, not after the dense phase
            if phase.constraint is not None:
                phase.constraint.check(module)
                if trained.isdisjoint(map(id, phase.constraint.weights(module).values())):
                    raise ValueError(
                        f"the optimizer trains none of the weights that phase {phase.name!r} is about: make it of this module's "
                        "parameters (Lightning: in configure_optimizers)"
                    )
        self._hooks = [h for o in self.optimizers for h in self._hook(o)]

    @property
    def phase(self) -> Phase:
        """The phase of the update that was started last."""
        return self.plan.phases[max(0, self.index)]

    @property
    def finished(self) -> bool:
        """True when every update of the plan has been made."""
        return self.update >= self.plan.updates

    def start_update(self, update: int | None = None) -> bool:
        """Be in the right phase for the next update, or for `update`. True if a phase begins with it."""
        self.settle()
        if update is not None:
            self.update = update
        self._at = self.update
        if self.update < self._until:
            return False
        index = self.plan.index(self.update)
        begins = index != self.index
        if begins:
            self._leave()
            self._enter(index)
        self._until = self.plan.ends[index] if index + 1 < len(self.plan.phases) else 1 << 62
        return begins

    def before_step(self, optimizer: Optimizer) -> None:
        """Let the constraint see the gradients of the update that `optimizer` is about to make, and change them."""
        if hasattr(self.held, "before_step_"):
            self.held.before_step_(optimizer)
            self._between = True

    def project_(self) -> None:
        """Restore the constraint now, for weights that something else than an optimizer has changed (averaging)."""
        self._between = False
        if self.held is not None:
            self.held.project_()

    def settle(self) -> None:
        """Restore what was changed for a step that was not made: a gradient scaler skips some, or it raised."""
        if self._between:
            self.project_()
        for optimizer in self.optimizers:
            self._give_back_(optimizer)

    def close(self) -> None:
        """Take the hooks off the optimizers, which have their own learning rates again."""
        for optimizer in self.optimizers:
            self._give_back_(optimizer)
        for hook in self._hooks:
            hook.remove()

    def state_dict(self) -> dict[str, Any]:
        """Update, phase, mask and gathered evidence; tensors and plain values only."""
        held = None if self.held is None else self.held.state_dict()
        return {
            "update": self.update, "index": self.index, "held": held, "evidence": dict(self.evidence),
            "plan": self.plan.words, "rates": self.plan.rates,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken, under the same plan. Raises ValueError if it was another one."""
        index, said = state["index"], state.get("plan")
        if index >= len(self.plan.phases):
            raise ValueError(
                f"the checkpoint is in phase {index + 1} of a plan that has {len(self.plan.phases)} phases"
            )
        if said is not None and said != self.plan.words:
            raise ValueError(f"the checkpoint is of another plan: {said}, and this one is {self.plan.words}")
        if (rates := state.get("rates", self.plan.rates)) != self.plan.rates:
            raise ValueError(f"the checkpoint is of another plan: its rates are {rates}, and here {self.plan.rates}")
        self.update, self.index, self._until = state["update"], index, 0
        self.evidence = dict(state["evidence"])
        constraint: Any = self.plan.phases[index].constraint
        if (present := getattr(self.held, "retraining", None)) is not None:
            present.undo_()  # what the state brings counts from the network's own dropout rates
        self.held = None if state["held"] is None else constraint.resume(self.module, state["held"])

    def _leave(self) -> None:
        if self.held is not None:
            self.held.leave_(self.optimizers)
            self.held = None

    def _enter(self, index: int) -> None:
        phase = self.plan.phases[index]
        if phase.reset_optimizer and self.index >= 0:
            for optimizer in self.optimizers:
                optimizer.state.clear()
        if phase.constraint is not None:
            self.held = phase.constraint.enter(self.module, evidence=self.evidence, seed=self.seed)
            if hasattr(self.held, "begin_"):
                self.held.begin_(self.plan.spans[index][1] - self.plan.spans[index][0])
        self.evidence = {}
        self.index = index

    def _hook(self, optimizer: Optimizer) -> tuple[Any, Any]:
        first = optimizer is self.optimizers[0]

        def before(*_: object) -> None:
            if first:
                self._at = self.update
            if self._at >= self._until:
                raise RuntimeError(
                    f"update {self._at} begins phase {self.plan.phase(self._at).name!r}, but start_update() was not "
                    "called before it: call phases.start_update() at the top of every update"
                )
            self._give_back_(optimizer)  # the last step may have raised
            rate, groups = self.plan.rate(self._at), optimizer.param_groups
            if self.phase.rate.relative:
                own = self._own[id(optimizer)] = [float(group["lr"]) for group in groups]
                _set_rates_(groups, [rate * lr for lr in own])
            else:
                _set_rates_(groups, [rate * group.get("lr_scale", 1.0) for group in groups])
            if not self.closures:
                self.before_step(optimizer)

        def after(*_: object) -> None:
            if self._between and hasattr(self.held, "after_step_"):
                self.held.after_step_(optimizer)
            self.project_()
            self._give_back_(optimizer)
            if first:
                self._observe()
                self.update += 1

        return optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)

    def _give_back_(self, optimizer: Optimizer) -> None:
        if own := self._own.pop(id(optimizer), None):
            _set_rates_(optimizer.param_groups, own)

    @torch.no_grad()
    def _observe(self) -> None:
        """Sum up what the next phase's criterion wants to know of the gradients, in the last updates before it."""
        if self.index + 1 >= len(self.plan.phases) or self.update < self.plan.ends[self.index] - self.observe:
            return
        constraint = self.plan.phases[self.index + 1].constraint
        if not getattr(constraint, "needs_gradients", False):
            return
        for name, weight in constraint.weights(self.module).items():
            if weight.grad is not None:
                seen = constraint.gather(weight.detach(), weight.grad)
                self.evidence[name] = (
                    seen if name not in self.evidence else self.evidence[name].to(seen.device).add_(seen)
                )


def _set_rates_(groups: list[dict[str, Any]], rates: list[float]) -> None:
    for group, rate in zip(groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
