"""The Lightning callback that drives a plan inside one `Trainer.fit`. No arithmetic here: see dsd/phases.py.

When Lightning's hooks run, for the update that takes `trainer.global_step` from u to u + 1:

    on_train_batch_start   phases.start_update(u): leave and enter constraints, before any forward pass of the update
    optimizer.step         rate before, constraint after (hooks of the optimizer itself)
    on_before_optimizer_step  in between, after backward: the constraint may change the gradients (before they are clipped)
    on_train_batch_end     a phase that ends here is validated, with its own final weights
    validation             sees the weights of the phase that has just ended: entering the next one waits for its update
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    Callback,
    GradientAccumulationScheduler,
    StochasticWeightAveraging,
    WeightAveraging,
)
from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from pytorch_lightning.utilities import rank_zero_warn
from torch.optim import Optimizer

from dsd.callbacks.place import lay_out, network, updated
from dsd.phases import Phases, dsd_phases
from dsd.plan import Phase, Plan, flat

SHARDED = (FSDPStrategy, DeepSpeedStrategy, ModelParallelStrategy)


class PlanCallback(Callback):
    """Carries out `phases` on the module that the Trainer fits, and saves its place in every checkpoint.

    The Trainer must not stop before the plan does (ValueError, or a warning where another callback stopped it); it is stopped
    where the plan ends. Masks need whole weights, so strategies that shard them are refused.
    """

    def __init__(self, phases: Sequence[Phase], *, seed: int = 0, observe: int = 100) -> None:
        self.phases = flat(phases)
        self.seed = seed
        self.observe = observe
        self.active: Phases | None = None
        self._restored: Mapping[str, Any] | None = None
        self._usual: tuple[int | float, int | None] | None = None  # when the Trainer validates if no phase ends

    @property
    def plan(self) -> Plan:
        """The plan over updates; known once training has started."""
        if self.active is None:
            raise RuntimeError("the plan is laid out over updates when training starts; ask for it after that")
        return self.active.plan

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        rest = [one for one in trainer.callbacks if one is not self]  # type: ignore[attr-defined]
        last = max((i for i, one in enumerate(rest, 1) if isinstance(one, WeightAveraging)), default=0)
        if last > trainer.callbacks.index(self):  # type: ignore[attr-defined]
            # behind them on_save_checkpoint sees their averages; a new list, since Lightning is walking this one
            trainer.callbacks = [*rest[:last], self, *rest[last:]]  # type: ignore[attr-defined]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if len(trainer.optimizers) != 1:
            raise ValueError(
                f"the plan needs exactly one optimizer, found {len(trainer.optimizers)}: Lightning counts the steps of all "
                "together as updates. With several, use dsd.Phases in your training_step"
            )
        _check_company(trainer)
        plan = lay_out(trainer, self.phases)
        self.active = Phases(
            network(pl_module),
            trainer.optimizers,
            self.phases,
            plan.updates_per_epoch,
            seed=self.seed,
            observe=self.observe,
            closures=True,
        )
        if self._restored is not None:
            self.active.load_state_dict(self._restored)
            self._restored = None
        elif trainer.global_step:
            rank_zero_warn(
                f"the checkpoint knows of no plan: this one goes on at update {trainer.global_step}, in phase "
                f"{plan.phase(trainer.global_step).name!r}, and what comes before in it was not made. To start anew from weights, "
                "load them without ckpt_path"
            )
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            _check_length(trainer, self.active.plan)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert self.active is not None
        self._validate_at(trainer, None)
        self.active.start_update(trainer.global_step)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        assert self.active is not None
        self.active.before_step(optimizer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert self.active is not None
        self.active.settle()
        if trainer.global_step in self.plan.ends and updated(trainer, batch_idx):
            self._validate_at(trainer, batch_idx)
            if trainer.global_step >= self.plan.updates:
                trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        made, counted = trainer.global_step, self.plan.updates_per_epoch
        if pl_module.automatic_optimization or trainer.current_epoch or trainer.should_stop or made == counted:
            return
        raise ValueError(
            f"manual optimization made {made} updates in the first epoch, and the plan counts {counted}, one a batch: drive dsd.Phases "
            f"in your training_step with updates_per_epoch={made}"
        )

    def on_validation_batch_start(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        if self.active is not None and trainer.state.fn == "fit":
            self.active.project_()  # averaged weights are swapped in here; they remember what is pruned now

    @torch.no_grad()
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self.active is None or self.active.held is None or "averaging_state" not in checkpoint:
            return
        averages = checkpoint["state_dict"]  # of WeightAveraging, which came before: its own tensors, not copies
        weights = {name: p for name, p in pl_module.named_parameters() if name in averages}
        own = {name: p.detach().clone() for name, p in weights.items()}
        for name, p in weights.items():
            p.copy_(averages[name])
        self.active.project_()
        for name, p in weights.items():
            averages[name].copy_(p)
            p.copy_(own[name])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        changed = getattr(self.active.held, "changed", None) if self.active is not None else None
        for logger in trainer.loggers if changed else ():  # shares of weights that went to another centroid
            logger.log_metrics({f"changed/{n}": share for n, share in changed.items()}, step=trainer.global_step)  # type: ignore[union-attr]

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self.active is not None
        self._validate_at(trainer, None)
        self.active.project_()
        if trainer.global_step < self.plan.updates and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            said = (
                f"training ended at update {trainer.global_step} of the plan's {self.plan.updates}, in phase "
                f"{self.active.phase.name!r}: the phases after it were not made"
            )
            if not trainer.should_stop:
                raise ValueError(f"{said}. Each epoch must make {self.plan.updates_per_epoch} updates")
            rank_zero_warn(f"{said}, since something stopped the Trainer")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.active is not None:
            self.active.project_()  # after the averages of callbacks behind this one were copied over
            self.active.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._validate_at(trainer, None)
        if self.active is not None:
            self.active.close()

    def state_dict(self) -> dict[str, Any]:
        return {} if self.active is None else self.active.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = state_dict or None

    def _validate_at(self, trainer: pl.Trainer, batch_idx: int | None) -> None:
        """Have Lightning validate after batch `batch_idx` too, where a phase ends; None: as it was."""
        if batch_idx is not None and self._usual is None and isinstance(trainer.val_check_batch, int):
            self._usual = trainer.val_check_batch, trainer.check_val_every_n_epoch
            if trainer.check_val_every_n_epoch is None:  # it counts batches over epochs
                trainer.val_check_batch = trainer.fit_loop.total_batch_idx + 1
            else:
                trainer.val_check_batch, trainer.check_val_every_n_epoch = batch_idx + 1, 1
        elif batch_idx is None and self._usual is not None:
            (trainer.val_check_batch, trainer.check_val_every_n_epoch), self._usual = self._usual, None


class DSD(PlanCallback):
    """Dense-Sparse-Dense for anybody's Trainer: `Trainer(callbacks=[DSD(0.5, (10, 5, 5))], max_epochs=20)`.

    `sparsity` is the removed fraction, `epochs` the three lengths, `rates` multiply your optimizer's own learning rate
    in the three phases. Names of weights (include, exclude) are those of `module.network` if your module has that
    attribute, else its own. See `dsd.phases.dsd_phases` for the rest.
    """

    def __init__(
        self,
        sparsity: float,
        epochs: tuple[float, float, float],
        *,
        rates: tuple[float, float, float] = (1.0, 0.1, 0.01),
        seed: int = 0,
        observe: int = 100,
        **how: Any,
    ) -> None:
        super().__init__(dsd_phases(sparsity, epochs, rates=rates, **how), seed=seed, observe=observe)


def _check_company(trainer: pl.Trainer) -> None:
    if isinstance(trainer.strategy, SHARDED):
        raise ValueError(
            f"masks and codebooks need whole weights, and {type(trainer.strategy).__name__} shards them: use strategy='ddp'"
        )
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, GradientAccumulationScheduler):
            raise ValueError(
                "a plan counts updates, and GradientAccumulationScheduler changes how many an epoch has: "
                "use Trainer(accumulate_grad_batches=N)"
            )
        if isinstance(callback, StochasticWeightAveraging):
            raise ValueError(
                "StochasticWeightAveraging sets the learning rate itself and refreshes BatchNorm in an epoch after the plan's "
                "end, where training stops: use WeightAveraging or EMAWeightAveraging"
            )


def _check_length(trainer: pl.Trainer, plan: Plan) -> None:
    epochs = trainer.max_epochs if trainer.max_epochs not in (None, -1) else None
    updates = trainer.max_steps if trainer.max_steps != -1 else None
    if epochs is not None and epochs < plan.epochs:
        raise ValueError(
            f"the plan takes {plan.epochs} epochs and the Trainer stops after {epochs}: set max_epochs={plan.epochs}"
        )
    if updates is not None and updates < plan.updates:
        raise ValueError(
            f"the plan takes {plan.updates} updates and the Trainer stops after {updates}: set max_steps={plan.updates}"
        )
