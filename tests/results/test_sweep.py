"""What the jobs of a sweep leave, and the table made of it."""

import io

from omegaconf import OmegaConf
from rich.console import Console

from dsd.results import sweep
from dsd.results.sweep import Outcome, SweepTable, outcomes, sweep_table

DONE = Outcome(10, "seed=10", "aaa", "done", 3.5)
FAILED = Outcome(2, "seed=2", "bbb", "failed", 0.5, "no such data", "runs/bbb/run.log")


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


def test_a_failed_job_counts_for_the_exit_code(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "failed", [])
    DONE.write(tmp_path)
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    SweepTable().on_multirun_end(config)
    assert sweep.failed == []
    FAILED.write(tmp_path)
    SweepTable().on_multirun_end(config)
    assert sweep.failed == ["2"]
