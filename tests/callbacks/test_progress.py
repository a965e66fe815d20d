"""The live line names the phase; elsewhere there is one plain line a validation."""

import io
import logging
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from dsd.callbacks import PhaseProgress
from dsd.plan import Constant, Phase


def trainer(step=0, **metrics):
    return SimpleNamespace(
        num_training_batches=10, accumulate_grad_batches=1, is_global_zero=True, global_step=step, world_size=1,
        sanity_checking=False, callback_metrics={k.replace("_", "/"): torch.tensor(v) for k, v in metrics.items()},
    )  # fmt: skip


PHASES = [Phase("dense", 2, Constant(0.1)), Phase("sparse", 1.5, Constant(0.01))]
BATCH = torch.zeros(32, 1), torch.zeros(32)


@pytest.mark.parametrize("terminal", [True, False])
def test_it_names_the_phase(terminal, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("dsd"), "propagate", True)
    shown = io.StringIO()
    progress = PhaseProgress(PHASES, console=Console(file=shown, force_terminal=terminal, width=160))
    with caplog.at_level(logging.INFO, "dsd"):
        progress.on_train_start(trainer(), None)
        progress.on_train_batch_end(trainer(25), None, {"loss": torch.tensor(0.5)}, BATCH, 4)
        progress.on_validation_start(trainer(25), None)
        progress.on_validation_end(trainer(25, val_error1=12.5), None)
        progress.on_train_end(trainer(25), None)
    assert "sparse   2/2 · epoch 0.5/1.5 · loss 0.500" in caplog.text
    assert "validation error 12.50 %" in caplog.text
    assert ("sparse   2/2" in shown.getvalue()) == terminal


def test_a_resumed_run_says_where_it_goes_on(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("dsd"), "propagate", True)
    with caplog.at_level(logging.INFO, "dsd"):
        PhaseProgress(PHASES, console=Console(file=io.StringIO())).on_train_start(trainer(7), None)
    assert "going on at update 7 of 35" in caplog.text
