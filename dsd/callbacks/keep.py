"""The weights at the end of every phase, for those who want to look at them or go on from there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from dsd.plan import Phase, Plan, flat
from dsd.weights import save_weights


class PhaseWeights(Callback):
    """Writes `folder`/<phase>.safetensors, the weights of `module.net`, when a phase ends."""

    def __init__(self, phases: Sequence[Phase], folder: Path) -> None:
        self._phases = flat(phases)
        self._folder = Path(folder)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        per_epoch = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
        ends = Plan(self._phases, per_epoch).ends
        if trainer.global_step in ends and trainer.is_global_zero:
            name = self._phases[ends.index(trainer.global_step)].name
            save_weights(pl_module.net, self._folder / f"{name}.safetensors")  # type: ignore[arg-type]
