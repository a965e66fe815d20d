"""What a run has been through: one row a validation, one summary a phase. Saved in every checkpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn
from torch.nn import Parameter

from dsd.callbacks.checkpoint import diverged
from dsd.callbacks.place import lay_out, loss_of, network, updated
from dsd.plan import Phase, Plan, flat
from dsd.sparsity import density, prunable


class History(Callback):
    """Collects `rows` (learning curves), `phases` (what each reached), `seconds` of training and `images` seen.

    Logs rate, phase number and density (counted from the weights) as it goes, and stops a run whose loss is not finite.
    """

    def __init__(self, phases: Sequence[Phase]) -> None:
        self._phases = flat(phases)
        self.plan: Plan | None = None
        self.rows: list[dict[str, Any]] = []
        self.phases: list[dict[str, Any]] = []
        self.seconds = 0.0
        self.images = 0
        self.restarts = 0
        self._loss: torch.Tensor | None = None
        self._losses = 0
        self._since = 0.0
        self._weights: dict[str, Parameter] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.plan = lay_out(trainer, self._phases)
        self._weights = watched(network(pl_module), self._phases)
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = loss_of(trainer, pl_module, outputs)
        self._loss = loss.clone() if self._loss is None else self._loss.add_(loss)
        self._losses += 1
        self.images += len(batch[0]) * trainer.world_size
        if not updated(trainer, batch_idx):
            return
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._check(trainer)
            _log(trainer, self._now(trainer) | {"train/loss": float(loss)})
        assert self.plan is not None
        if trainer.global_step in self.plan.ends:
            self._check(trainer)
            self._end_phase(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.plan is not None and not trainer.sanity_checking:
            self._pause()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.plan is None or trainer.sanity_checking:
            return
        self._check(trainer)
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        row = (
            self._now(trainer)
            | {"train/loss": None if self._loss is None else float(self._loss) / self._losses}
            | metrics
        )
        self._loss, self._losses = None, 0
        self.rows.append(row)
        if self.phases and self.phases[-1]["end"] == trainer.global_step:
            self.phases[-1]["metrics"] = metrics
        _log(trainer, row)
        self._since = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._pause()

    def state_dict(self) -> dict[str, Any]:
        self._pause()
        return {
            "rows": self.rows, "phases": self.phases, "seconds": self.seconds, "images": self.images,
            "restarts": self.restarts, "loss": self._loss, "losses": self._losses,
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.phases = list(state_dict["rows"]), list(state_dict["phases"])
        self.seconds, self.images = state_dict["seconds"], state_dict["images"]
        self.restarts = state_dict["restarts"] + 1
        self._loss, self._losses = state_dict["loss"], state_dict["losses"]

    def _pause(self) -> None:
        now = time.perf_counter()
        self.seconds += now - self._since
        self._since = now

    def _check(self, trainer: pl.Trainer) -> None:
        if self._loss is not None and not torch.isfinite(self._loss):
            raise diverged(trainer)

    def _now(self, trainer: pl.Trainer) -> dict[str, Any]:
        assert self.plan is not None
        made = trainer.global_step
        index = self.plan.index(made - 1) if made else 0
        share, _ = density(self._weights)
        return {
            "update": made,
            "epoch": made / self.plan.updates_per_epoch,
            "phase": self.plan.phases[index].name,
            "phase_number": index + 1,
            "rate": _rate(trainer, self.plan, max(0, made - 1)),
            "density": share,
        }

    def _end_phase(self, trainer: pl.Trainer) -> None:
        assert self.plan is not None
        index = self.plan.ends.index(trainer.global_step)
        first, end = self.plan.spans[index]
        share, layers = density(self._weights)
        self.phases.append(
            {
                "name": self.plan.phases[index].name,
                "epochs": self.plan.phases[index].epochs,
                "updates": end - first,
                "first": first,
                "end": end,
                "rate_first": _rate(trainer, self.plan, first),
                "rate_last": _rate(trainer, self.plan, end - 1),
                "sparsity": 1 - share,
                "density": layers,
                "metrics": {},
            }
        )
        _log(trainer, {f"density/{name}": d for name, d in layers.items()})


def _log(trainer: pl.Trainer, row: Mapping[str, Any]) -> None:
    """The numbers among these to all loggers, at the update made last; TensorBoard refuses words."""
    numbers = {name: value for name, value in row.items() if isinstance(value, (int, float))}
    for logger in trainer.loggers:
        logger.log_metrics(numbers, step=trainer.global_step)


def own_logging(trainer: pl.Trainer) -> bool | None:
    """`logger=` of a task's `self.log`: False in a fit with a History, which gives the loggers every validation at the update
    after which it was made; Lightning's own step is one less, and would be a second point of the curve. Else None, its choice.
    """
    there = any(isinstance(one, History) for one in trainer.callbacks)  # type: ignore[attr-defined]
    return False if there and trainer.state.fn == TrainerFn.FITTING else None


def watched(module: torch.nn.Module, phases: Sequence[Phase]) -> dict[str, Parameter]:
    """The weights whose density is reported: what the first constraint prunes, or what one would by default."""
    constraint = next((p.constraint for p in phases if p.constraint is not None), None)
    return dict(prunable(module) if constraint is None else constraint.weights(module))


def _rate(trainer: pl.Trainer, plan: Plan, update: int) -> float:
    rate = plan.rate(update)
    own: Mapping[str, Any] = trainer.optimizers[0].param_groups[0]
    return rate * float(own["lr"]) if plan.phase(update).rate.relative else rate
