"""Several processes of one run: how they share a batch, which of them records, and how Lightning starts the others.

On one machine Lightning starts them, by the command of this process (`trainer=ddp`); under srun or torchrun they are there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # torchrun's, Lightning's, srun's: Lightning looks in this order too
LAUNCH = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT", "TORCHELASTIC_RUN_ID")
JOB, RESTARTS = ("SLURM_JOB_ID", "TORCHELASTIC_RUN_ID"), ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")
SET = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # by Lightning, for those it starts
GRACE = {"done": 60.0, "failed": 5.0}  # seconds that the others have to end by themselves


def share(batch: int, devices: Any, nodes: int) -> int:
    """Of a batch, what each of devices x nodes processes takes. ValueError if that is no number, or doesn't divide it."""
    each = devices if isinstance(devices, int) else 0 if isinstance(devices, str) else len(devices)
    if each < 1:
        raise ValueError(
            f"the batch is shared among all processes, so say how many: trainer.devices={devices!r} is no number"
        )
    if batch % (each * nodes):
        raise ValueError(
            f"the batch of {batch} can't be shared evenly among {each * nodes} processes (trainer.devices x trainer.num_nodes): take "
            "a number that divides it, or say data.batch_size=N, that of one process, and accept another batch"
        )
    return batch // (each * nodes)


def foremost() -> bool:
    """Whether this process is the only one of its run, or the one of rank 0, which locks, speaks and records."""
    rank = next((os.environ[name] for name in RANKS if name in os.environ), "0")
    return rank == "0" and os.environ.get("NODE_RANK", "0") == "0"


def launch() -> str:
    """What the processes of one run have in common, and those of another try of it, or of another job, have not."""
    return " ".join(f"{name}={os.environ[name]}" for name in LAUNCH if name in os.environ)


def begun_before(note: Path) -> bool:
    """Whether SLURM or torchrun started this job again after it had been here; `note` says so from the first time on.

    ValueError under torchrun on several nodes that may start again: each of them counts its own restarts.
    """
    if int(os.environ.get("GROUP_WORLD_SIZE", "1")) > 1 and os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
        raise ValueError(
            "force=true under torchrun on several nodes would begin anew at every restart: leave --max-restarts out, or remove the "
            f"result instead, {note.with_name('result.json')}"
        )
    job = " ".join(f"{name}={os.environ[name]}" for name in JOB if name in os.environ)
    starts = sum(int(os.environ.get(name, "0")) for name in RESTARTS)
    noted, _, before = (note.read_text() if note.is_file() else "").rpartition(" start ")
    if job and noted == job and int(before) < starts:
        return True
    if job and foremost():
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(f"{job} start {starts}")
    return False


@contextmanager
def started_by(command: Sequence[str]) -> Iterator[None]:
    """Inside, Lightning starts the other processes of a run by `command`; afterwards they are over.

    Lightning repeats sys.argv, which in a sweep is the whole sweep, and in a worker of Ray, joblib or submitit the worker's own.
    Its observer kills this process when one of the others fails, and it starts them once: here they are those of one job.
    """
    module = sys.modules["__main__"]
    argv, spec = sys.argv, module.__spec__
    before = {name: os.environ.get(name) for name in SET}
    sys.argv, module.__spec__ = list(command), None  # with a spec it would repeat `python -m` of the worker
    end = "failed"
    try:
        yield
        end = "done"
    finally:
        sys.argv, module.__spec__ = argv, spec
        if others := _unobserved():
            _end(others, GRACE[end])
            for name, value in before.items():
                os.environ.pop(name, None)
                os.environ.update({} if value is None else {name: value})


def _unobserved() -> list[subprocess.Popen[bytes]]:
    """The processes that Lightning's observers watch, which now watch none."""
    found: list[subprocess.Popen[bytes]] = []
    for thread in threading.enumerate():
        watched = getattr(thread, "_child_processes", [])
        found += watched
        watched.clear()
    return found


def _end(others: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    import torch.distributed as group

    for process in others:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if group.is_initialized():
        group.destroy_process_group()
