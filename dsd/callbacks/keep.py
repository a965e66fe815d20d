"""The weights at the end of every phase, for those who want to look at them or go on from there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from dsd.callbacks.place import lay_out, network, updated
from dsd.plan import Phase, flat
from dsd.weights import save_weights


class PhaseWeights(Callback):
    """Writes `folder`/<phase>.safetensors, the weights of the network, when a phase ends."""

    def __init__(self, phases: Sequence[Phase], folder: Path) -> None:
        self._phases = flat(phases)
        self._folder = Path(folder)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        ends = lay_out(trainer, self._phases).ends
        if trainer.global_step in ends and updated(trainer, batch_idx) and trainer.is_global_zero:
            name = self._phases[ends.index(trainer.global_step)].name
            save_weights(network(pl_module), self._folder / f"{name}.safetensors")
