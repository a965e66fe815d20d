"""Shared by all tests: where the real data is, and runs that leave nothing behind."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # tests run side by side, and so do the runs that they start: a thread each
    os.environ["OMP_NUM_THREADS"] = "1"

import torch

HOW = "real data sets are not here: lay them out as torchvision does and set DSD_DATA=DIR (README, Data)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that take minutes come first, so that no process waits for one of them in the end."""
    items.sort(key=lambda item: "slow" not in item.keywords)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder that DSD_DATA names; skips without one."""
    root = os.environ.get("DSD_DATA")
    if not root:
        pytest.skip(HOW)
    return Path(root)


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


@pytest.fixture(autouse=True)
def _quiet_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.fixture
def ray_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No other process of pytest uses Ray meanwhile: it joins any cluster of the machine, and `ray stop` ends them all."""
    with (tmp_path_factory.getbasetemp().parent / "ray.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
