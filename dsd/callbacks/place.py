"""Where training stands, in updates."""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as pl
from torch import nn

from dsd.plan import Phase, Plan


def lay_out(trainer: pl.Trainer, phases: Sequence[Phase]) -> Plan:
    """The plan over this Trainer's updates. Raises ValueError if its training data has no length."""
    batches = trainer.num_training_batches
    if batches == float("inf"):
        raise ValueError("the plan counts in epochs, and the training data has no length: set limit_train_batches")
    return Plan(tuple(phases), -(-int(batches) // trainer.accumulate_grad_batches))


def network(module: pl.LightningModule) -> nn.Module:
    """What is pruned: `module.network` if there is such a thing, else all of `module`; names are relative to it."""
    found = getattr(module, "network", None)
    return found if isinstance(found, nn.Module) else module


def updated(trainer: pl.Trainer, batch_idx: int) -> bool:
    """True if the batch that has just ended was the last of its update, not one whose gradients are still gathered."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
