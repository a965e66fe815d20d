"""Random numbers as a pure function of the place in training, so that a resumed run draws what an undisturbed one would."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback


class Seeds(Callback):
    """Seeds the device's generator before every batch from (seed, rank, epoch, batch): dropout needs no saved state."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        place = crc32(b"%d %d %d %d" % (self.seed, trainer.global_rank, trainer.current_epoch, batch_idx))
        torch.default_generator.manual_seed(place)  # 1 us; torch.manual_seed, which visits every backend, takes 110
        if pl_module.device.type == "cuda":
            torch.cuda.manual_seed(place)
