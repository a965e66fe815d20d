"""What the jobs of a sweep leave, the table made of it, and the estimate of the time left."""

import io
from unittest.mock import Mock

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console

from dsd.plan import Plan, flat
from dsd.results.store import Store
from dsd.run.config import composed
from dsd.sweep import Outcome, Sweep, ended, estimate, hours, not_begun, outcomes, sweep_table, time_left, total_epochs
from tests.warm import call

DONE = Outcome(10, ["method=dsd", "seed=10"], "aaa", "done", 3.5)
FAILED = Outcome(2, ["method=dsd", "seed=2"], "bbb", "failed", 0.5, 0.0, "no such data", "runs/bbb/run.log")


@pytest.fixture
def sweep(tmp_path):
    hydra = {"sweep": {"dir": str(tmp_path)}, "sweeper": {"_target_": "somebody.else.Sweeper"}}
    Sweep().on_multirun_start(OmegaConf.create({"runs": str(tmp_path / "runs"), "hydra": hydra}))
    yield tmp_path
    Sweep.folder = None


def result(name, method, seconds, epochs):
    return {
        "name": name,
        "profile": "quick",
        "method": method,
        "seconds": seconds,
        "config": {"method": {"phases": [{"epochs": epochs}]}},
    }


def test_outcomes_are_read_back_in_the_order_of_the_jobs(tmp_path):
    DONE.write(tmp_path)
    FAILED.write(tmp_path)
    assert outcomes(tmp_path) == [FAILED, DONE]
    assert outcomes(tmp_path / "absent") == []


def test_the_table_counts_and_gives_reason_and_log():
    console = Console(file=io.StringIO(), width=100)
    console.print(sweep_table([FAILED, DONE]))
    text = console.file.getvalue()
    assert "2 jobs: 1 done, 0 skipped, 1 failed" in text
    assert "no such data" in text
    assert "runs/bbb/run.log" in text
    assert "seed=10" in text
    assert "method=dsd" not in text, "what all jobs have in common says nothing"


@pytest.mark.parametrize(
    ("jobs", "good"),
    [
        ([DONE], True),
        ([DONE, FAILED], False),
        ([Outcome(1, [], state="busy")], False),
        ([Outcome(1, [])], False),
        ([Outcome(1, [], state="interrupted")], False),
        ([Outcome(1, [], state="missing")], True),
        ([Outcome(1, [], state="skipped")], True),
        ([], False),
    ],
)
def test_what_is_left_undone_counts_for_the_exit_code(sweep, jobs, good):
    for one in jobs:
        one.write(sweep)
    assert Sweep.close() is good


def test_a_lone_run_has_no_table(capsys):
    assert Sweep.close() is True
    assert capsys.readouterr().out == ""


def test_a_job_that_left_nothing_was_killed(tmp_path):
    (one, other) = ended([Outcome(0, ["seed=0"], "aaa"), DONE], Store(tmp_path))
    assert (one.state, other.state) == ("killed", "done")
    assert "continues" in one.reason


def test_a_job_whose_process_goes_on_was_not_killed(tmp_path):
    store = Store(tmp_path)
    with store.run("aaa").lock():
        (one,) = ended([Outcome(0, ["seed=0"], "aaa")], store)
    assert (one.state, "still executes" in one.reason) == ("running", True)


def test_a_job_that_never_began_is_in_the_table(sweep, capsys):
    DONE.write(sweep)
    Sweep.planned = [[f"seed={seed}"] for seed in range(12)]
    assert Sweep.close() is False
    said = capsys.readouterr().out
    assert "12 jobs: 1 done, 0 skipped, 0 failed, 11 not begun" in said
    assert "seed=11" in said
    assert not_begun(Sweep.planned, [DONE])[0] == Outcome(
        0, ["seed=0"], state="not begun", reason="the sweep ended before it; the same command does it"
    )


def test_what_an_interrupted_sweep_left_may_go_on_elsewhere(tmp_path):
    (one, other) = ended([Outcome(0, ["seed=0"]), DONE], Store(tmp_path), interrupted=True)
    assert (one.state, other.state) == ("interrupted", "done")
    assert one.reason == "a cluster may go on with it; the same command continues it"


def test_a_shared_run_counts_once_in_the_estimate_and_each_run_at_its_own_pace(tmp_path):
    words = ["experiment=dsd_lenet300_mnist", "method=dsd", "baseline_seed=5", "dry_run=true", f"runs={tmp_path}"]
    code, said = call("-m", *words, "seed=0,1,2")
    assert code == 0, said
    (folder,) = tmp_path.glob(".sweeps/*")
    jobs = outcomes(folder)
    assert {(job.method, job.epochs, job.needs_epochs) for job in jobs} == {("dsd", 12, 12)}
    name = "dsd_lenet300_mnist"
    finished = [result(name, "dsd", 20.0, 10), result(name, "baseline", 10.0, 10), result(name, "dsd", 40.0, 10)]
    assert estimate(jobs, finished) == (3 * 12 * 3.0 + 12 * 1.0, 3)
    code, said = call(*words, "seed=0")
    assert code == 0, said
    assert f"run {jobs[0].needs} (baseline) would be executed: {tmp_path}/{jobs[0].needs}/run.log" in said
    assert "and then dsd, which starts from it" in said


def test_an_estimate_falls_back_on_the_experiment_and_then_on_none():
    job = Outcome(0, [], name="net", profile="quick", method="swa", epochs=2)
    assert estimate([job], [result("net", "dsd", 20.0, 10)]) == (4.0, 1)
    assert estimate([job], [result("other", "swa", 20.0, 10)]) == (None, 0)


@pytest.mark.parametrize(
    ("method", "epochs"), [("dsd", 12), ("dsdsd", 12), ("dsdsd_whole", 18), ("prune_iterative", 12), ("baseline", 6)]
)
def test_epochs_are_those_of_the_plan(method, epochs):
    cfg = composed(f"method={method}")
    assert total_epochs(OmegaConf.to_container(cfg, resolve=True)) == epochs
    assert Plan(flat(instantiate(cfg.method.phases, _convert_="all")), 10).updates == 10 * epochs


@pytest.mark.parametrize(("seconds", "words"), [(42, "42 s"), (720, "12 min"), (12240, "3.4 h")])
def test_time_in_words(seconds, words):
    assert hours(seconds) == words


def test_a_baseline_that_is_a_job_too_and_jobs_that_are_one_run_count_once():
    base = Outcome(0, ["method=baseline"], "aaa", "missing", name="lenet", profile="cpu", method="baseline", epochs=4)
    arm = Outcome(
        1, [], state="missing", name="lenet", profile="cpu", method="dsd", epochs=2, needs="aaa", needs_epochs=4
    )
    twice = Outcome(2, [], "bbb", "missing", name="lenet", profile="cpu", method="dsd", epochs=3)
    results = [{"name": "lenet", "profile": "cpu", "method": m, "seconds": 8, "config": {"method": {"phases": [{"epochs": 4}]}}}
               for m in ("baseline", "dsd")]  # fmt: skip
    missing = [base, arm, twice, Outcome(**{**vars(twice), "job": 3})]
    assert estimate(missing, results) == (2 * (4 + 2 + 3), 2)


def test_a_job_that_was_busy_is_skipped_once_its_run_is_finished(tmp_path):
    store = Store(tmp_path)
    busy = Outcome(0, [], "aaa", "busy", reason="being executed by process 7")
    assert ended([busy], store) == [busy]
    store.run("aaa").path.mkdir()
    store.run("aaa").result.write_text("{}")
    assert [(one.state, one.reason) for one in ended([busy], store)] == [("skipped", "")]


def test_what_a_full_disk_did_not_take_is_in_the_table(sweep, capsys, monkeypatch):
    DONE.write(sweep)
    with monkeypatch.context() as full:
        full.setattr(Outcome, "write", Mock(side_effect=OSError(28, "No space left on device")))
        Sweep.leave(FAILED, sweep)
    assert not Sweep.close()
    said = capsys.readouterr().out
    assert "no such data" in said
    assert "2 jobs: 1 done, 0 skipped, 1 failed" in said


def test_what_another_sweep_left_in_the_folder_goes(sweep):
    DONE.write(sweep)
    hydra = {"sweep": {"dir": str(sweep)}, "sweeper": {"_target_": "somebody.else.Sweeper"}}
    Sweep().on_multirun_start(OmegaConf.create({"runs": str(sweep / "runs"), "hydra": hydra}))
    assert outcomes(sweep) == []


def test_brackets_are_no_markup():
    console = Console(file=io.StringIO(), width=200)
    odd = Outcome(0, ["tags=[mnist]", "seed=1"], state="failed", reason="cannot read [/data/x.npz]", log="l")
    console.print(sweep_table([odd, DONE]))
    assert "tags=[mnist]" in console.file.getvalue()
    assert "cannot read [/data/x.npz]" in console.file.getvalue()


def test_a_foreign_result_costs_the_estimate_only(tmp_path):
    (tmp_path / "aaa").mkdir()
    (tmp_path / "aaa" / "result.json").write_text('{"schema": 0}')
    said = time_left([Outcome(0, [], state="missing")], Store(tmp_path))
    assert said.startswith("unknown: ")
    assert "result.json" in said
