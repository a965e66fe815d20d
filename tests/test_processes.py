"""Runs of two processes, started by Lightning, in a sweep, in a worker of Ray, and by a SLURM that is an imitation."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dsd.console import recorded
from dsd.processes import JOB, RANKS, RESTARTS, begun_before, foremost, share, started_by
from dsd.results.store import RunFolder
from tests import fake_slurm

ROOT = Path(__file__).parents[1]
TWO = [
    "-m", "experiment=dsd_lenet300_mnist", "track=none", "progress=false", "threads=1", "data.subset=1000", "trainer.accelerator=cpu",
    "trainer.devices=2", "profiles.quick.dense=1", "profiles.quick.sparse=1", "profiles.quick.redense=1",
]  # fmt: skip
PLAIN = ["trainer=gpus", "trainer.precision=32-true", "task.compile=false"]


def call(*words: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "run.py", *TWO, *words],
        cwd=ROOT, capture_output=True, text=True, timeout=900, env=os.environ | env,
    )  # fmt: skip
    return done.stdout + done.stderr


def results(runs: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in runs.glob("*/result.json")]


def test_a_batch_is_shared_evenly_or_not_at_all():
    assert [share(256, 8, 1), share(256, 8, 4), share(32, [0, 1, 3, 4], 2), share(64, 1, 1)] == [32, 8, 4, 64]
    with pytest.raises(ValueError, match=r"batch of 32 can't be shared evenly among 12 processes.*data\.batch_size=N"):
        share(32, 6, 2)
    for devices in ("auto", -1, 0):
        with pytest.raises(ValueError, match=f"trainer.devices={devices!r} is no number"):
            share(32, devices, 1)


@pytest.mark.parametrize(
    ("env", "is_first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"RANK": "8", "LOCAL_RANK": "0"}, False),
        ({"SLURM_PROCID": "3"}, False),
        ({"SLURM_PROCID": "0"}, True),
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),
    ],
)
def test_one_process_records(env, is_first, monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert foremost() is is_first


def test_the_command_is_another_one_inside_only():
    argv, spec = sys.argv, sys.modules["__main__"].__spec__
    with started_by(["run.py", "seed=1"]):
        assert (sys.argv, sys.modules["__main__"].__spec__) == (["run.py", "seed=1"], None)
    assert (sys.argv, sys.modules["__main__"].__spec__) == (argv, spec)


def test_each_job_of_a_sweep_starts_its_own_and_outlives_one_that_fails(tmp_path):
    said = call("trainer=ddp", "recipe.dense.rate.rate=1e9,0.01", f"runs={tmp_path}")
    assert "2 jobs: 1 done, 0 skipped, 1 failed" in said
    assert "training diverged" in said
    (result,) = results(tmp_path)
    assert (result["config"]["data"]["batch_size"], result["images"]) == (32, 1000 * 3)


@pytest.mark.usefixtures("ray_alone")
def test_a_worker_of_ray_starts_them_too(tmp_path):
    here = [
        "hydra.launcher.ray.init.address=null",
        "+hydra.launcher.ray.init.num_cpus=1",
        "+hydra.launcher.ray.init.include_dashboard=false",
    ]
    said = call(
        "hydra/launcher=ray_gpus", *PLAIN, *here, "hydra.launcher.ray.remote.num_gpus=0", "hydra.launcher.ray.remote.num_cpus=1",
        f"runs={tmp_path}", RAY_DISABLE_USAGE_STATS="1", RAY_memory_monitor_refresh_ms="0",
    )  # fmt: skip
    assert "1 jobs: 1 done, 0 skipped, 0 failed" in said
    (result,) = results(tmp_path)
    assert (result["config"]["trainer"]["devices"], result["images"]) == (2, 1000 * 3)


@pytest.mark.parametrize("force", [False, True])
def test_two_tasks_of_slurm_are_one_run_that_goes_on_when_requeued(force, tmp_path):
    commands = fake_slurm.install(tmp_path / "bin")
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    said = call(
        "hydra/launcher=slurm_gpus", *PLAIN, f"runs={tmp_path / 'runs'}", "checkpoint.seconds=0", "profiles.quick.dense=4",
        "baseline_seed=0", *(["method=baseline", "force=true"] if force else []), PATH=path, FAKE_SLURM_END=str(tmp_path / "runs" / "*" / "checkpoints" / "last.ckpt"),
    )  # fmt: skip
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", (commands / "asked").read_text(), re.MULTILINE))
    assert {asked[name] for name in ("ntasks-per-node", "gpus-per-node")} == {"2"}
    assert (asked["nodes"], asked["time"], asked["signal"]) == ("1", "1440", "USR2@120")
    assert "1 jobs: 1 done, 0 skipped, 0 failed" in said, said + (commands / "0-0.log").read_text()
    assert "Requeued job 4242" in (commands / "0-0.log").read_text()
    found = {result["method"]: result for result in results(tmp_path / "runs")}
    assert {name: (one["restarts"], one["images"]) for name, one in found.items()} == {
        "baseline": (1, 4000),
        **({} if force else {"dsd": (0, 2000)}),
    }
    assert {one["metrics"]["test"]["test/n"] for one in found.values()} == {1000}


def test_a_job_that_is_started_again_knows_what_it_has_begun(tmp_path, monkeypatch):
    for name in (*RANKS, *JOB, *RESTARTS, "NODE_RANK", "GROUP_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    one, two = tmp_path / "one" / "forced", tmp_path / "two" / "forced"
    assert not begun_before(one)
    assert not one.exists()  # outside of a cluster nobody starts it again
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert not begun_before(one)
    assert not begun_before(one)  # the same run twice in a job's first start
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert begun_before(one)
    assert not begun_before(two)  # which had not begun
    with monkeypatch.context() as rank:
        rank.setenv("SLURM_PROCID", "1")
        assert not begun_before(two)  # after rank 0 noted it
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert begun_before(one)
    assert begun_before(two)
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    assert not begun_before(one)
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with pytest.raises(ValueError, match="torchrun on several nodes would begin anew"):
        begun_before(one)


@pytest.mark.parametrize("ends", ["finished", "left"])
def test_the_others_of_a_run_wait_for_what_rank_0_decides_while_another_job_executes_it(ends, tmp_path, monkeypatch):
    """A baseline that another job is training: skipped by all ranks once it is there, trained by all if that job dies."""
    folder, did = RunFolder(tmp_path / "run"), []

    def rank(number: int) -> None:
        with recorded(folder, first=number == 0, fresh=False, wait=True):
            did.append((number, "skips" if folder.finished else "trains"))
            both.wait(60)  # training takes all ranks; nobody ends before the last one came

    both = threading.Barrier(2)
    monkeypatch.setattr(RunFolder, "finished", property(lambda self: self.result.exists()))
    monkeypatch.setenv("SLURM_JOB_ID", "2")
    ranks = [threading.Thread(target=rank, args=(number,), daemon=True) for number in (0, 1)]
    with folder.lock(launch="SLURM_JOB_ID=1"):
        for thread in ranks:
            thread.start()
        time.sleep(1.2)
        assert did == []
        if ends == "finished":
            folder.result.touch()
    for thread in ranks:
        thread.join(60)
    expected = {"finished": "skips", "left": "trains"}[ends]
    assert sorted(did) == [(0, expected), (1, expected)]
