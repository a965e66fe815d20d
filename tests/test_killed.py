"""Killed with SIGKILL at any moment and started again by the same command, a run ends bit for bit where it would have."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.warm import Job, start

KILLS = 21
WORDS = [
    "experiment=dsd_lenet300_mnist", "track=none", "checkpoint.seconds=0", "threads=1", "profiles.quick.dense=4",
    "profiles.quick.sparse=3.5", "profiles.quick.redense=4", "data.batch_size=32", "save.phases=true",
]  # fmt: skip
"""LeNet-300-100 on the embedded digits: 438 + 383 + 437 updates, a checkpoint after each."""


def begun(runs: Path) -> Job:
    return start(*WORDS, f"runs={runs}", OMP_NUM_THREADS="1")


def killed(job: Job) -> int:
    os.kill(job.pid, signal.SIGKILL)
    return job.wait(60)


def finish(runs: Path) -> tuple[Path, dict]:
    job = begun(runs)
    assert job.wait(600) == 0, job.output
    (folder,) = runs.iterdir()
    return folder, json.loads((folder / "result.json").read_text())


def update_of(checkpoint: Path) -> int:
    import torch

    return torch.load(checkpoint, weights_only=True)["global_step"]


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_bit_identical(tmp_path):
    whole, undisturbed = finish(tmp_path / "whole")
    total = undisturbed["updates"]

    chance = random.Random(20)
    killed_at = []
    # one kill aimed at each of KILLS stretches of the plan, so that all three phases and both boundaries are hit
    for goal in range(KILLS):
        job = begun(tmp_path / "killed")
        target = int(total * (goal + chance.random() * 0.8) / KILLS)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and job.poll() is None:
            (checkpoint,) = list((tmp_path / "killed").glob("*/checkpoints/last.ckpt")) or [None]
            if checkpoint and update_of(checkpoint) >= target:
                break
            time.sleep(0.02)
        time.sleep(chance.random() * 0.05)
        assert killed(job) == -signal.SIGKILL
        killed_at.append(update_of(checkpoint))
    again, result = finish(tmp_path / "killed")

    first, second, third = (phase["end"] for phase in undisturbed["metrics"]["phases"])
    assert len(killed_at) == KILLS
    assert killed_at == sorted(killed_at)
    assert sum(u < first for u in killed_at) >= 5
    assert sum(first <= u < second for u in killed_at) >= 5
    assert sum(second <= u < third for u in killed_at) >= 5
    assert result["restarts"] == KILLS
    for name in ("dense", "sparse", "redense", "final"):
        assert (again / f"{name}.safetensors").read_bytes() == (whole / f"{name}.safetensors").read_bytes(), name
    kept = ("metrics", "history", "updates", "images", "run_id")
    assert {k: result[k] for k in kept} == {k: undisturbed[k] for k in kept}
    assert (again / "distributions.json").read_bytes() == (whole / "distributions.json").read_bytes()


def test_killed_before_the_first_checkpoint_starts_over(tmp_path):
    job = begun(tmp_path)
    while not list(tmp_path.glob("*/config.yaml")):
        time.sleep(0.01)
    killed(job)
    (folder,) = tmp_path.iterdir()
    assert not (folder / "result.json").exists()
    assert not (folder / "final.safetensors").exists()
