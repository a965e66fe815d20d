"""Where training stands, in updates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn

from dsd.plan import Phase, Plan


def lay_out(trainer: pl.Trainer, phases: Sequence[Phase]) -> Plan:
    """The plan over this Trainer's updates. Raises ValueError if its training data has no length."""
    batches = trainer.num_training_batches
    if batches == float("inf"):
        raise ValueError("the plan counts in epochs, and the training data has no length: set limit_train_batches")
    return Plan(tuple(phases), -(-int(batches) // trainer.accumulate_grad_batches))


def loss_of(trainer: pl.Trainer, module: pl.LightningModule, outputs: Any) -> Tensor:
    """The loss of a batch as the module has it: Lightning hands on its share of an accumulated gradient."""
    loss: Tensor = outputs["loss"].detach()
    automatic = getattr(module, "automatic_optimization", True)
    return loss * trainer.accumulate_grad_batches if automatic else loss


def network(module: pl.LightningModule) -> nn.Module:
    """What is pruned: `module.network` if there is such a thing, else all of `module`; names are relative to it."""
    found = getattr(module, "network", None)
    return found if isinstance(found, nn.Module) else module


def updated(trainer: pl.Trainer, batch_idx: int) -> bool:
    """True if the batch that has just ended was the last of its update, not one whose gradients are still gathered."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
