"""Shared by all tests: where the real data is, and runs that leave nothing behind."""

import os
from pathlib import Path

import pytest
import torch

HOW = "real data sets are not here: lay them out as torchvision does and set DSD_DATA=DIR (README, Data)"


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder that DSD_DATA names; skips without one."""
    root = os.environ.get("DSD_DATA")
    if not root:
        pytest.skip(HOW)
    return Path(root)


@pytest.fixture(autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def _quiet_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
