"""One checkpoint, always whole, from which a killed run goes on bit for bit.

It is written to a temporary file and renamed, and only where Lightning resumes exactly: after an optimizer step, in the
middle of an epoch, at a batch after which no validation is due. Weights or a loss that are not finite are never saved.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from dsd.callbacks.place import updated


class LastCheckpoint(Checkpoint):
    """Keeps `path` no older than `seconds` of training (0: after every update that can be resumed from)."""

    def __init__(self, path: Path, *, seconds: float) -> None:
        self.path = Path(path)
        self.seconds = seconds
        self._saved = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not updated(trainer, batch_idx) or _validation_due(trainer, batch_idx):
            return
        due = time.monotonic() - self._saved >= self.seconds
        if trainer.strategy.broadcast(due) if trainer.world_size > 1 else due:
            self.save(trainer, outputs)

    def save(self, trainer: pl.Trainer, outputs: Any) -> None:
        """Write the checkpoint now. Raises ValueError if training has diverged, OSError if the disk is full."""
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        assert trainer.model is not None
        if not (torch.isfinite(loss).all() and all(torch.isfinite(p).all() for p in trainer.model.parameters())):
            raise diverged(trainer)
        part = self.path.with_name(self.path.name + ".part")
        try:
            if trainer.is_global_zero:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            trainer.save_checkpoint(part)
            if trainer.is_global_zero:
                with open(part, "rb") as file:
                    os.fsync(file.fileno())
                os.replace(part, self.path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OSError(
                error.errno,
                f"the checkpoint {self.path} could not be written ({error.strerror or error}); the one before it is "
                "whole: make room and give the same command again to go on from there",
            ) from error
        self._saved = time.monotonic()


class Diverged(ValueError):
    """The loss or a weight is NaN or infinite. A result of its run, which studies count."""


def diverged(trainer: pl.Trainer) -> Diverged:
    """The error for a loss or weights that are NaN or infinite."""
    return Diverged(
        f"training diverged: the loss or a weight is not finite at update {trainer.global_step}. Lower the learning rate "
        "of this phase, clip gradients (trainer.gradient_clip_val=1) or use precision 32-true; what was saved before is kept"
    )


def _validation_due(trainer: pl.Trainer, batch_idx: int) -> bool:
    every = trainer.val_check_batch
    counts_all = trainer.check_val_every_n_epoch is None
    at = (trainer.fit_loop.total_batch_idx if counts_all else batch_idx) + 1
    return bool(
        trainer.is_last_batch or trainer.should_stop or (isinstance(every, int) and every > 0 and at % every == 0)
    )
