"""A sweep of eight small jobs on each launcher: killed whole and started again, with a job that raises, and twice at once."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import joblib
import pytest
import torch

from dsd.results.store import Store

ROOT = Path(__file__).parents[1]
JOBS = [
    "-m", "experiment=dsd_lenet300_mnist", "track=none", "progress=false", "threads=1", "data.subset=500",
    "profiles.quick.dense=1", "profiles.quick.sparse=1", "profiles.quick.redense=1", "method=dsd,finetune", "seed=0,1,2,oops", "baseline_seed=5", "hydra.verbose=false",
]  # fmt: skip
LAUNCHERS = {
    "serial": [],
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit": ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"],
    "ray": ["hydra/launcher=ray_cluster"],
}


@pytest.fixture
def cluster(request):
    """A Ray cluster of one machine, already there when the sweep begins."""
    if request.getfixturevalue("launcher") != "ray":
        yield {}
        return
    request.getfixturevalue("ray_alone")
    ray = Path(sys.executable).with_name("ray")
    quiet = {"RAY_DISABLE_USAGE_STATS": "1", "RAY_memory_monitor_refresh_ms": "0"}
    env = os.environ | quiet
    words = ["start", "--head", "--num-cpus=2", "--port=0", "--include-dashboard=false", "--disable-usage-stats"]
    subprocess.run([ray, *words], check=True, capture_output=True, timeout=120, env=env)
    yield quiet
    subprocess.run([ray, "stop", "--force"], check=True, capture_output=True, timeout=120, env=env)


def start(launcher: str, runs: Path, env: dict[str, str], name: str, *words: str) -> subprocess.Popen:
    with (runs.parent / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, ROOT / "run.py", *JOBS, *LAUNCHERS[launcher], f"runs={runs}", *words],
            cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=os.environ | env,
        )  # fmt: skip


def trained(runs: Path) -> list[str]:
    """The run of every job that was trained to its end, once for each time."""
    outcomes = [json.loads(path.read_text()) for path in runs.glob(".sweeps/*/*.json")]
    return [outcome["run_id"] for outcome in outcomes if outcome["state"] == "done"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sweep_survives(launcher, cluster, tmp_path):
    runs = tmp_path / "runs"
    first = start(launcher, runs, cluster, "first")
    deadline = time.monotonic() + 180
    while len(list(runs.glob("*/result.json"))) < 2:
        assert first.poll() is None, (tmp_path / "first.log").read_text()
        assert time.monotonic() < deadline, (tmp_path / "first.log").read_text()
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(first.pid, signal.SIGKILL)
    first.wait()

    both = [start(launcher, runs, cluster, name) for name in ("second", "third")]
    codes = [sweep.wait(timeout=280) for sweep in both]
    said = "\n".join((tmp_path / f"{name}.log").read_text() for name in ("second", "third"))
    assert codes == [1, 1], said  # the job that raises
    last = start(launcher, runs, cluster, "last", "dry_run=true")
    assert last.wait(timeout=280) == 1
    told = (tmp_path / "last.log").read_text()
    assert "8 jobs: 0 done, 6 skipped, 2 failed" in told, said + told
    assert "seedmustbeawholenumber,found'oops'" in "".join(told.split())
    results = [json.loads(path.read_text()) for path in runs.glob("*/result.json")]
    arms = [(method, seed) for method in ("dsd", "finetune") for seed in range(3)]
    assert sorted((r["method"], r["seed"]) for r in results) == [("baseline", 5), *arms]
    assert max(Counter(trained(runs)).values()) == 1, "a job was trained twice"
    (shared,) = (runs / r["run_id"] for r in results if r["method"] == "baseline")
    assert (shared / "run.log").read_text().count("test (final weights)") == 1, "the shared phase was trained twice"


def test_joblib_fits_threads_to_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # the user's own word would count
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(torch.get_num_threads)() for _ in range(2))
    assert found == [max(1, joblib.cpu_count() // 2)] * 2


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit"])
def test_a_killed_job_hides_no_other(launcher, tmp_path):
    """Its launcher gives up then: what is done, what goes on elsewhere and what never began is told all the same."""
    runs = tmp_path / "runs"
    sweep = start(launcher, runs, {}, "killed", "profiles.quick.dense=50")
    deadline = time.monotonic() + 180
    while not (owner := next((lock.read_text() for lock in runs.glob("*/.lock") if "process" in lock.read_text()), "")):
        assert sweep.poll() is None, (tmp_path / "killed.log").read_text()
        assert time.monotonic() < deadline, (tmp_path / "killed.log").read_text()
        time.sleep(0.05)
    os.kill(int(owner.split()[1]), signal.SIGKILL)
    try:
        assert sweep.wait(timeout=180) == 1
    finally:
        for path in runs.glob("*/.lock"):
            while (words := path.read_text().split())[:1] == ["process"] and Store(runs).run(path.parent.name).busy:
                with contextlib.suppress(ProcessLookupError):  # its data workers hold the lock a moment longer
                    os.kill(int(words[1]), signal.SIGKILL)
                time.sleep(0.1)
    told = (tmp_path / "killed.log").read_text()
    assert "the launcher gave up" in told
    assert re.search(r"8 jobs: \d done, 0 skipped, \d failed, .*(killed|running)", told), told
    assert told.count("oops") >= 2, "every job is in the table"
