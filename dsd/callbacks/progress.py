"""A live line that names the phase on a terminal; one plain line a validation elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich import get_console
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from dsd.callbacks.place import lay_out, loss_of
from dsd.plan import Phase, Plan, flat

log = logging.getLogger("dsd")


class PhaseProgress(Callback):
    """Shows phase, epoch, loss, images/s, time left, and what the module calls `shown`, (metric, words), as it comes."""

    def __init__(self, phases: Sequence[Phase], *, console: Console | None = None) -> None:
        self._phases = flat(phases)
        self._console = console or get_console()
        self._plan: Plan | None = None
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._drawn = 0.0
        self._images = 0
        self._clock = 0.0
        self._loss = ""
        self._unit = "images"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._plan = lay_out(trainer, self._phases)
        self._clock, self._images = time.monotonic(), 0
        self._unit = getattr(pl_module, "unit", self._unit)
        if not trainer.is_global_zero:
            return
        if trainer.global_step:
            log.info(f"going on at update {trainer.global_step} of {self._plan.updates}")
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TimeRemainingColumn(), console=self._console, transient=True,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task("", total=self._plan.updates, completed=trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += len(batch[0]) * trainer.world_size
        now = time.monotonic()
        if now - self._drawn < 0.25:
            return
        self._drawn = now
        self._loss = f"loss {float(loss_of(trainer, pl_module, outputs)):.3f}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=trainer.global_step, description=self._place(trainer))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clock -= time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clock += time.monotonic()
        if self._plan is None or trainer.sanity_checking or not trainer.is_global_zero:
            return
        key, words = getattr(pl_module, "shown", ("val/error1", "validation error {:.2f} %"))
        value = trainer.callback_metrics.get(key)
        found = "" if value is None else f" · {words.format(float(value))}"
        log.info(self._place(trainer) + found)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _place(self, trainer: pl.Trainer) -> str:
        assert self._plan is not None
        last = max(0, trainer.global_step - 1)
        index = self._plan.index(last)
        first, end = self._plan.spans[index]
        per_epoch = self._plan.updates_per_epoch
        speed = self._images / max(1e-9, time.monotonic() - self._clock)
        return (
            f"{self._phases[index].name:<8} {index + 1}/{len(self._phases)} · epoch {(trainer.global_step - first) / per_epoch:.1f}"
            f"/{(end - first) / per_epoch:.4g} · {self._loss} · {speed:,.0f} {self._unit}/s"
        )
