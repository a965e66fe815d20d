"""Stochastic weight averaging as an arm: the same updates as the others, and the mean of the last weights.

Izmailov et al., UAI 2018. The average is taken once an epoch from `start` on and is what is validated and kept once it
exists; before that, the weights themselves are.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging


class Swa(WeightAveraging):
    """Average the weights at the end of every epoch whose number is at least `start` (epochs count from 0)."""

    def __init__(self, start: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start = start

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return False  # on_train_batch_end decides: the average must be there when its epoch is validated

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_last_batch and trainer.current_epoch + 1 > self.start:
            assert self._average_model is not None
            self._average_model.update_parameters(pl_module)

    @property
    def averaging(self) -> bool:
        return self._average_model is not None and int(self._average_model.n_averaged) > 0

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.averaging:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.averaging:
            super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.averaging:
            raise ValueError(
                f"weight averaging was to start at epoch {self.start}, and training ended before: lower `start`"
            )
        super().on_train_end(trainer, pl_module)
