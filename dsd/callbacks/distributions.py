"""The paper's distribution figure (Han et al., ICLR 2017, Figure 2): weight histograms wherever a phase begins or ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from dsd.callbacks.history import watched
from dsd.callbacks.place import lay_out, network, updated
from dsd.plan import Phase, Plan, flat
from dsd.results.tracking import log_histogram


class Distributions(Callback):
    """Keeps `records`: where, update, and per layer the range, counts in `bins` bins, zeros, mean and deviation.

    `where` is "start of sparse", "end of sparse", ... The start of a phase is seen after its constraint has been
    entered, so "end of dense" and "start of sparse" are the weights before and after pruning.
    """

    def __init__(self, phases: Sequence[Phase], *, bins: int) -> None:
        self._phases = flat(phases)
        self.bins = bins
        self.records: list[dict[str, Any]] = []
        self._plan: Plan | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._plan = lay_out(trainer, self._phases)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert self._plan is not None
        starts = [first for first, _ in self._plan.spans]
        if trainer.global_step in starts and batch_idx % trainer.accumulate_grad_batches == 0:
            self._record(trainer, pl_module, "start", starts.index(trainer.global_step))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert self._plan is not None
        if trainer.global_step in self._plan.ends and updated(trainer, batch_idx):
            self._record(trainer, pl_module, "end", self._plan.ends.index(trainer.global_step))

    def as_json(self) -> str:
        """The records as JSON: [{where, update, layers: {name: {edges, counts, zeros, mean, std}}}]."""
        return json.dumps(self.records) + "\n"

    def state_dict(self) -> dict[str, Any]:
        return {"records": self.records}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.records = list(state_dict["records"])

    def _record(self, trainer: pl.Trainer, module: pl.LightningModule, edge: str, index: int) -> None:
        if not trainer.is_global_zero:
            return
        where = f"{edge} of {self._phases[index].name}"
        if self.records and (self.records[-1]["where"], self.records[-1]["update"]) == (where, trainer.global_step):
            return
        layers = {name: histogram(p.detach(), self.bins) for name, p in watched(network(module), self._phases).items()}
        self.records.append({"where": where, "update": trainer.global_step, "layers": layers})
        for logger in trainer.loggers:
            for name, h in layers.items():
                log_histogram(logger, f"weights/{name}", h["edges"], h["counts"], trainer.global_step)


def histogram(weight: Tensor, bins: int) -> dict[str, Any]:
    """Counts of the weights that are not exactly 0 in `bins` equal bins symmetric about 0, and how many are 0."""
    flat = weight.reshape(-1).float().cpu()
    top = float(flat.abs().max()) or 1.0
    kept = flat[flat != 0]
    return {
        "edges": torch.linspace(-top, top, bins + 1).tolist(),
        "counts": torch.histc(kept, bins, -top, top).long().tolist(),
        "zeros": flat.numel() - kept.numel(),
        "mean": float(flat.mean()),
        "std": float(flat.std(correction=0)),
    }
