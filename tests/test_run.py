"""`python run.py`, as a user meets it: results, controls, wrong words, broken data, full disks."""

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException

from dsd.console import EXTRAS, Refused, explained, recorded
from dsd.results.origins import digest
from dsd.results.store import RunFolder, Store
from dsd.run.config import CONF, composed, vocabulary
from dsd.run.stages import by_content, own_sources
from experiments import figure
from tests.warm import call, start

ROOT = Path(__file__).parents[1]
QUICK = [
    "experiment=dsd_lenet300_mnist", "track=none", "threads=1", "profiles.quick.dense=1",
    "profiles.quick.sparse=0.5", "profiles.quick.redense=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    runs = tmp_path_factory.mktemp("runs")
    code, said = call(*QUICK, f"runs={runs}", "track=csv")
    assert code == 0, said
    (folder,) = runs.iterdir()
    return folder, said


def test_a_run_tells_what_each_phase_reached(finished):
    _, said = finished
    assert re.search(r"dense +1 +0\.01.* +0\.0 ", said)
    assert re.search(r"sparse +0\.5 +0\.001 +50\.0 ", said)
    assert "is not comparable: this run used the quick profile (embedded data)" in said
    assert re.search(r"test \(final weights\): top-1 error \d+", said)


def test_a_run_leaves_its_record(finished):
    folder, _ = finished
    result = json.loads((folder / "result.json").read_text())
    assert result["run_id"] == folder.name
    dense, sparse, redense = result["metrics"]["phases"]
    assert [p["updates"] for p in (dense, sparse, redense)] == [55, 28, 55]
    assert sparse["sparsity"] == pytest.approx(0.5, abs=1e-4)
    assert set(sparse["density"]) == {"fc1.weight", "fc2.weight", "fc3.weight"}
    assert dense["sparsity"] == 0
    assert all(0 < p["metrics"]["val/error1"] < 60 for p in (dense, sparse, redense))
    assert 0 < result["metrics"]["test"]["test/error1"] < 60
    assert result["metrics"]["test"]["test/n"] == 1000
    assert [row["update"] for row in result["history"]] == [55, 83, 110, 138]
    assert (result["updates"], result["restarts"]) == (138, 0)
    assert result["config"]["choices"]["method"] == "dsd"
    assert {"torch", "dsd"} <= set(result["versions"])
    assert not (folder / "checkpoints" / "last.ckpt").exists()


def test_the_logger_is_told_every_validation_once_at_its_update(finished):
    folder, _ = finished
    (file,) = (folder / "csv").glob("version_*/metrics.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    history = json.loads((folder / "result.json").read_text())["history"]
    told = [(int(row["step"]), float(row["epoch"]), float(row["val/error1"])) for row in rows if row["val/error1"]]
    assert told == [(row["update"], pytest.approx(row["epoch"]), pytest.approx(row["val/error1"])) for row in history]
    assert len([row for row in rows if row["test/error1"]]) == 1


def test_the_distributions_are_the_papers_figure(finished):
    folder, _ = finished
    records = json.loads((folder / "distributions.json").read_text())
    assert [r["where"] for r in records] == [
        f"{edge} of {phase}" for phase in ("dense", "sparse", "redense") for edge in ("start", "end")
    ]
    layers = {r["where"]: r["layers"]["fc1.weight"] for r in records}
    assert layers["end of dense"]["zeros"] == 0
    assert layers["start of sparse"]["zeros"] == layers["end of sparse"]["zeros"] == 117600
    assert layers["start of redense"]["zeros"] == 117600
    assert layers["end of redense"]["zeros"] < 117600
    assert all(sum(h["counts"]) + h["zeros"] == 235200 for h in layers.values())


def test_a_finished_run_is_drawn(finished, tmp_path, capsys):
    folder, copy = finished[0], tmp_path / finished[0].name
    assert figure.main([str(folder), str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").stat().st_size > 10_000
    shutil.copytree(folder, copy)
    result = json.loads((copy / "result.json").read_text())
    spoken = [row | {"val/wer": 50.0} for row in result["history"]]
    for row in spoken:
        row.pop("val/error1", None), row.pop("val/error5", None)
    (copy / "result.json").write_text(json.dumps(result | {"history": spoken}))
    assert figure.main([str(copy), str(tmp_path / "b.png")]) == 0
    (copy / "result.json").write_text(json.dumps(result | {"history": []}))
    assert figure.main([str(copy), str(tmp_path / "c.png")]) == 2
    assert "has no validation to draw" in capsys.readouterr().err
    assert figure.main([str(tmp_path / "none"), "d.png"]) == 2
    assert figure.main([str(folder)]) == 2
    assert "python -m experiments.figure runs/<id> picture.png" in capsys.readouterr().err


def test_a_finished_run_is_not_run_again_unless_forced(finished):
    folder, _ = finished
    before = (folder / "result.json").stat().st_mtime_ns
    code, said = call(
        *QUICK, f"runs={folder.parent}", "track=none", "checkpoint.seconds=7", "trainer.log_every_n_steps=9"
    )
    assert code == 0
    assert "is finished" in said
    assert (folder / "result.json").stat().st_mtime_ns == before
    final, result = ((folder / name).read_bytes() for name in ("final.safetensors", "result.json"))
    code, said = call(*QUICK, f"runs={folder.parent}", "force=true")
    assert code == 0
    assert (folder / "previous.json").read_bytes() == result
    assert (folder / "result.json").stat().st_mtime_ns > before
    assert (folder / "final.safetensors").read_bytes() == final


@pytest.mark.parametrize("sweep", ["seed=range(0,3)", "seed=1,2", "seed=choice(1,2)"])
@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("sed=1", "there is no key sed (did you mean seed?)"),
        ("methdo=dsd,finetune", "there is no key methdo (did you mean method?)"),
        ("method=dsd,fintune", "there is no method=fintune (did you mean finetune?)"),
    ],
)
def test_a_mistake_in_a_sweeps_command_is_told_rather_than_multirun(sweep, word, says):
    code, said = call("-cd", "sweeps", "-cn", "smoke", sweep, word)
    assert (code, says in said, "multirun" in said) == (2, True, False), said


def test_two_values_without_multirun_are_told_so(tmp_path):
    code, said = call("seed=1,2", f"runs={tmp_path}")
    assert code == 2
    assert "add --multirun" in said
    assert not any(tmp_path.iterdir())


def test_init_from_another_run(finished, tmp_path):
    folder, _ = finished
    link = tmp_path / "elsewhere.safetensors"
    link.write_bytes((folder / "final.safetensors").read_bytes())
    words = [*QUICK, "method=baseline", "recipe.dense.rate.rate=1e-9", f"runs={folder.parent}"]
    code, said = call(*words, f"init_from={folder.name[:6]}")
    assert code == 0, said
    assert f"started from {folder.name[:6]}" in said
    code, again = call(*words, f"init_from={link}")
    assert "is finished" in again  # the same weights by another name are the same run
    (error,) = set(
        re.findall(r"top-1 error (\S+) %, n", said.replace("top-5", "x")) or re.findall(r"error (\S+) %", said)[-1:]
    )
    assert float(error) == pytest.approx(
        json.loads((folder / "result.json").read_text())["metrics"]["test"]["test/error1"], abs=0.2
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sed=1"], "there is no key sed (did you mean seed?)"),
        (["experiment=dsd_resnet81"], "there is no experiment=dsd_resnet81 (did you mean dsd_resnet18"),
        (["recipe.sparse.sparsty=0.5"], "did you mean recipe.sparse.sparsity"),
        (["profile=qick"], "there is no profile=qick (did you mean quick?)"),
        (["init_from=nothing"], "there is no run yet"),
        (["recipe.sparse.sparsity=30"], "sparsity is the removed fraction, 0 <= sparsity < 1; found 30"),
        (["sparse.exclude=[fc9.weight]"], "'fc9.weight' matches no parameter; the nearest are fc3.weight"),
        (["granularity=n_of_m", "recipe.sparse.sparsity=0.3"], "set sparsity=0.5"),
        (["method=sparse_scratch", "criterion=taylor"], "put a dense phase of at least one update in front"),
        (["recipe.dense.rate.rate=1e9"], "training diverged"),
        (["profile=cpu", "data.root=/nonexistent"], "data.download=true"),
        (["experiment=dsd_resnet18", "profile=paper", "data.root=/nonexistent"], "profile=quick"),
        (["model=timm"], "model.name has no value: model.name=... sets it"),
        (["seed=one"], "seed must be a whole number, found 'one'"),
        (["seed=-1"], "seed (or baseline_seed) must be 0 or more, found -1"),
        (["threads=-3"], "threads must be 0 or more, found -3"),
        (["threads=two"], "threads must be a whole number, found 'two'"),
        (["histogram_bins=0"], "histogram_bins must be 1 or more, at most 512, found 0"),
        (["tags=abc"], "tags are a list: tags=[abc]"),
        (["force=no"], "force is true or false, found 'no'"),
        (["dry_run=1"], "dry_run is true or false, found 1"),
        (["recipe.sparse.rate.rate=-0.1"], "Constant: rate is a finite number, 0 or more; found -0.1"),
        (["recipe.dense.rate.rate=abc"], "rate is a finite number, 0 or more; found 'abc'"),
        (["recipe.sparse.sparsity=abc"], "sparsity is a number, found 'abc'"),
        (["profiles.quick.dense=abc"], "epochs must be a positive number, found 'abc'"),
        (["data.batch_size=abc"], "must be a whole number, at least 1: batch_size=abc"),
        (["sparse.exclude=fc1.weight"], "a list of patterns, such as ['fc1.weight']; found 'fc1.weight'"),
        (["+trainer.fast_dev_run=true"], "something stopped the Trainer at update 1 "),
        (["+trainer.limit_test_batches=1"], "tested on the whole test set"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said(words, says, tmp_path):
    code, said = call(*QUICK, f"runs={tmp_path}", *words)
    assert code in (1, 2)
    assert says in said
    assert "Traceback" not in said
    lost = list(Store(tmp_path).diverged())
    assert [(one["seed"], one["config"]["method"]["name"]) for one in lost] == [(0, "dsd")] * (
        says == "training diverged"
    )


def test_what_diverged_is_not_tried_again_by_every_arm_that_starts_from_it(tmp_path):
    words = [*QUICK, f"runs={tmp_path}", "recipe.dense.rate.rate=1e9", "baseline_seed=3"]
    code, said = call("-m", *words, "method=dsd,finetune")
    assert code == 1
    assert said.count("baseline, seed 3, in ") == 1, "trained once"
    assert said.count("is not tried again: training diverged") >= 1
    (lost,) = Store(tmp_path).diverged()
    code, said = call("-m", *words, "method=dsd,finetune", "dry_run=true")
    assert code == 1
    assert "2 jobs: 0 done, 0 skipped, 2 failed" in said
    Store(tmp_path).run(lost["run_id"]).diverged.unlink()
    code, said = call(*words, "method=dsd")
    assert (code, said.count("baseline, seed 3, in ")) == (1, 1)
    code, said = call(*words, "method=baseline", "seed=3", "baseline_seed=null", "force=true")
    assert (code, said.count("baseline, seed 3, in ")) == (1, 1), "force tries it again"


@pytest.mark.parametrize("track", ["csv", "tensorboard", "wandb"])
def test_every_tracker_goes_through_a_whole_run(track, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    words = [*QUICK, "profiles.quick.dense=0.3", "profiles.quick.redense=0.3", f"runs={tmp_path}", f"track={track}"]
    code, said = call(*words, "trainer.log_every_n_steps=2")
    assert code == 0, said
    (folder,) = tmp_path.iterdir()
    written = {"csv": "**/metrics.csv", "tensorboard": "**/events.out.tfevents.*", "wandb": "wandb/offline-run-*"}
    assert list(folder.glob(written[track]))


def interrupted_with(checkpoint):
    checkpoint.parent.mkdir()
    checkpoint.write_text("there is something to go on with")
    raise KeyboardInterrupt


def test_a_forced_try_that_fails_at_once_leaves_the_result(tmp_path):
    folder = RunFolder(tmp_path)
    folder.result.write_text("the result")
    with pytest.raises(Refused, match="no"), recorded(folder, first=True, fresh=True):
        raise ValueError("no")
    assert folder.result.read_text() == "the result"
    with pytest.raises(KeyboardInterrupt), recorded(folder, first=True, fresh=True):
        interrupted_with(folder.checkpoint)
    assert not folder.result.exists()
    assert (tmp_path / "previous.json").read_text() == "the result"


@pytest.mark.parametrize("content", [b"hello", b""])
def test_a_damaged_checkpoint_is_named_with_the_remedy(content, tmp_path):
    words = [*QUICK, f"runs={tmp_path}"]
    code, said = call(*words, "dry_run=true")
    folder = Store(tmp_path).run(re.search(r"run (\w+) would", said)[1])
    folder.checkpoint.parent.mkdir(parents=True)
    folder.checkpoint.write_bytes(content)
    code, said = call(*words)
    assert code == 1
    assert re.search(r"last\.ckpt is damaged \(\w+.*\): remove it, and the same command begins the run again", said), (
        said
    )


def test_a_criterion_of_ones_own_counts_by_its_source(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "torch_mine.py"  # of a name that begins as an installed one
    config = {"method": {"phases": [{"constraint": {"criterion": {"_target_": "torch_mine.squared"}}}]}}
    found = []
    for power in (2, 4, 2):
        path.write_text(f"def squared(weight, evidence=None):\n    return weight ** {power}\n")
        found.append(own_sources(config))
    assert list(found[0]) == ["torch_mine"]
    assert found[0] == found[2] != found[1]
    for target in (
        "dsd.sparsity.magnitude",
        "torch.optim.SGD",
        "scipy.stats.norm",
        "json.loads",
        "nowhere.at.all",
        "print",
    ):
        assert own_sources([{"_target_": target}]) == {}


def test_what_diverged_is_not_tried_again_by_who_waited_for_it(tmp_path):
    words = [*QUICK, f"runs={tmp_path}", "baseline_seed=3", "method=dsd"]
    code, said = call(*words, "dry_run=true")
    assert code == 0, said
    folder = Store(tmp_path).run(re.search(r"run (\w+) \(baseline\)", said)[1])
    with folder.lock():
        job, inode = start(*words), (folder.path / ".lock").stat().st_ino
        end = time.monotonic() + 60
        while not re.search(rf"-> FLOCK .*:{inode} ", Path("/proc/locks").read_text()):  # until it waits
            assert time.monotonic() < end, job.output
            time.sleep(0.05)
        folder.diverged.write_text('{"reason": "training diverged elsewhere"}')
    assert job.wait(60) == 1
    assert f"run {folder.run_id} is not tried again: training diverged elsewhere" in job.output
    assert "epoch" not in job.output


def test_force_is_over_once_it_has_begun(tmp_path):
    folder = Store(tmp_path).run("aaa")
    folder.path.mkdir()
    folder.diverged.write_text('{"reason": "NaN"}')
    with pytest.raises(KeyboardInterrupt), recorded(folder, first=True, fresh=True):
        raise KeyboardInterrupt
    assert not folder.diverged.exists(), "the same command without force=true goes on with the new try"


def test_a_run_that_something_stopped_has_no_result_and_goes_on(tmp_path):
    words = [*QUICK, f"runs={tmp_path}", "track=none", "checkpoint.seconds=0"]
    code, said = call(*words, "+trainer.max_time=00:00:00:00")
    assert code == 1
    assert "something stopped the Trainer at update" in said
    (folder,) = tmp_path.iterdir()
    assert not (folder / "result.json").exists()
    code, said = call(*words)
    assert code == 0
    assert [path.name for path in tmp_path.iterdir()] == [folder.name], "the same run"


def test_a_full_disk_keeps_the_last_whole_checkpoint(tmp_path):
    """A file-size limit stands in for the full disk: writing fails in the middle of the second checkpoint."""
    from dsd.callbacks import LastCheckpoint

    class FullTrainer:
        is_global_zero, global_step = True, 7
        model = torch.nn.Linear(2, 2)

        def save_checkpoint(self, path):
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    path = tmp_path / "last.ckpt"
    path.write_bytes(b"whole")
    with pytest.raises(
        OSError, match=r"last\.ckpt could not be written \(No space left on device\); the one before it is whole"
    ):
        LastCheckpoint(path, seconds=0).save(FullTrainer(), torch.tensor(1.0))
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    assert path.read_bytes() == b"whole"


def test_a_batch_of_one_image_is_told_with_the_remedy(tmp_path):
    with (
        pytest.raises(Refused, match=r"^BatchNorm cannot train on a single image, .* data\.batch_size"),
        recorded(RunFolder(tmp_path), first=True, fresh=False),
    ):
        torch.nn.BatchNorm1d(2)(torch.zeros(1, 2))


def test_an_operation_without_a_deterministic_kernel_is_told_with_the_remedy(tmp_path):
    """As torch words it for AlexNet's and VGG-16's pooling on CUDA."""
    error = "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set 'torch.use..."
    with (
        pytest.raises(Refused, match=r"^adaptive_avg_pool2d_backward_cuda has no .* trainer\.deterministic=warn"),
        recorded(RunFolder(tmp_path), first=True, fresh=False),
    ):
        raise RuntimeError(error)


def test_help_is_a_page_to_act_on():
    code, said = call("--help")
    assert code == 0
    assert "python run.py experiment=dsd_resnet20_cifar10 profile=cpu" in said
    assert re.search(r"experiment: .*\bdsd_alexnet, ", said)


def test_two_processes_under_ddp(tmp_path):
    code, said = call(*QUICK, f"runs={tmp_path}", "trainer=ddp", "trainer.accelerator=cpu", "data.batch_size=32")
    assert code == 0, said
    (folder,) = tmp_path.iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert [p["sparsity"] for p in result["metrics"]["phases"]][1] == pytest.approx(0.5, abs=1e-4)
    assert result["images"] == pytest.approx(138 * 64, rel=0.02)


def test_a_sweep_runs_every_combination(tmp_path):
    code, said = call("-m", *QUICK, f"runs={tmp_path}", "method=finetune,swa", "profiles.quick.redense=1.5")
    assert code == 0, said
    results = [json.loads(p.read_text()) for p in tmp_path.glob("*/result.json")]
    assert sorted(r["method"] for r in results) == ["finetune", "swa"]
    assert len({r["updates"] for r in results}) == 1
    assert "2 jobs: 2 done, 0 skipped, 0 failed" in said


def test_a_sweep_tells_what_was_skipped_and_what_failed_and_goes_on(tmp_path):
    first = [*QUICK, f"runs={tmp_path}", "method=baseline"]
    assert call("-m", *first, "seed=1")[0] == 0
    code, said = call("-m", *first, "seed=1,oops,2")
    assert code == 1
    assert "3 jobs: 1 done, 1 skipped, 1 failed" in said
    assert "seed must be a whole number, found 'oops'" in said
    assert len(list(tmp_path.glob("*/result.json"))) == 2
    assert not list(Path.cwd().glob("multirun.yaml")), "Hydra's own record stays in the sweep's folder"


def test_a_sweep_does_a_run_that_is_two_of_its_jobs_once(tmp_path):
    words = [*QUICK, f"runs={tmp_path}", "method=finetune", "recipe.sparse.sparsity=0.25,0.5"]  # which has no mask
    for forced, done in (("force=false", 1), ("force=true", 1)):
        code, said = call("-m", *words, forced)
        assert code == 0, said
        assert f"2 jobs: {done} done, 1 skipped, 0 failed" in said


@pytest.mark.parametrize("content", [None, b"junk"], ids=["missing", "damaged"])
def test_a_baseline_that_nothing_can_start_from_is_told_with_the_remedy(content, tmp_path):
    words = [*QUICK, f"runs={tmp_path}", "data.subset=500", "baseline_seed=3"]
    assert call(*words, "method=dsd")[0] == 0
    (base,) = [p.parent for p in tmp_path.glob("*/result.json") if json.loads(p.read_text())["method"] == "baseline"]
    (base / "final.safetensors").unlink() if content is None else (base / "final.safetensors").write_bytes(content)
    code, said = call(*words, "method=finetune")
    assert code == 1
    assert "others share it: method=baseline force=true seed=3 makes it anew" in said
    assert call(*words, *said.partition("share it: ")[2].split(" makes")[0].split())[0] == 0
    assert call(*words, "method=finetune")[0] == 0


@pytest.mark.parametrize(
    ("number", "there", "done", "stop", "code"),
    [
        (0, ".sweeps/*/0.json", 0, signal.SIGINT, 130),
        (1, "*/checkpoints/last.ckpt", 1, signal.SIGINT, 130),
        (1, "*/checkpoints/last.ckpt", 1, signal.SIGTERM, 143),
    ],
    ids=["when a job begins", "in training", "terminated in training"],
)
def test_an_interrupted_sweep_ends_with_its_table(number, there, done, stop, code, tmp_path):
    words = [
        "experiment=dsd_lenet300_mnist",
        "track=none",
        "threads=1",
        "checkpoint.seconds=0",
        "method=baseline",
        "tags=['${hydra:job.num}']",
    ]
    lengths = f"profiles.quick.dense={'0.1,500,501' if done else '500,501'}"
    job = start("-m", *words, lengths, f"runs={tmp_path}")
    end = time.monotonic() + 120
    while not (list(tmp_path.glob(f".sweeps/*/{number}.json")) and list(tmp_path.glob(there))):
        assert job.poll() is None, job.output
        assert time.monotonic() < end, job.output
        time.sleep(0.01)
    os.kill(job.pid, stop)
    assert job.wait(60) == code, job.output
    assert f"{'interrupted' if stop == signal.SIGINT else 'terminated'}; the same command continues" in job.output
    assert f"{done + 2} jobs: {done} done, 0 skipped, 0 failed, 1 interrupted, 1 not begun" in job.output
    assert "${hydra:" in job.output, "as given: it has no number yet"
    assert "Traceback" not in job.output
    assert len(list(tmp_path.rglob("last.ckpt"))) == done, "from which it continues"


def test_memory_does_not_grow_from_job_to_job(tmp_path):
    code, said = call("-m", *QUICK, f"runs={tmp_path}", "data.subset=500", "seed=range(8)")
    assert code == 0, said
    outcomes = sorted((json.loads(p.read_text()) for p in tmp_path.glob(".sweeps/*/*.json")), key=lambda o: o["job"])
    memory = [outcome["memory"] for outcome in outcomes]
    assert len(memory) == 8
    assert memory[-1] < 1.03 * memory[1], memory


def test_a_shared_dense_phase_is_trained_once(tmp_path):
    words = [*QUICK, f"runs={tmp_path}", "data.subset=500", "baseline_seed=5"]
    code, said = call("-m", *words, "method=dsd,finetune", "seed=1,2")
    assert code == 0, said
    results = [json.loads(p.read_text()) for p in tmp_path.glob("*/result.json")]
    assert sorted((r["method"], r["seed"]) for r in results) == [
        ("baseline", 5), ("dsd", 1), ("dsd", 2), ("finetune", 1), ("finetune", 2),
    ]  # fmt: skip
    (shared,) = [r["run_id"] for r in results if r["method"] == "baseline"]
    assert {r["config"]["init_from"] for r in results} == {None, shared}
    assert {r["config"].get("init_sha256") for r in results} == {None, digest(tmp_path / shared / "final.safetensors")}
    code, said = call(*words, "method=dsd", "seed=1")
    assert code == 0
    assert f"run {shared} is finished" in said, "alone it is reused as well"
    slurm = "hydra/launcher=submitit_slurm"  # there is none here, and a dry run has no use for one
    code, said = call("-m", *words, "method=dsd,finetune", "seed=1,2,3", "dry_run=true", slurm)
    assert code == 0, said
    assert "6 jobs: 2 missing, 4 skipped" in said
    assert "time left: about" in said
    assert len(list(tmp_path.glob("*/result.json"))) == 5, "a dry run trains nothing"
    code, said = call(*words, "method=dsd", "seed=1", "force=true")
    assert code == 0
    assert f"run {shared} is finished" in said, "force is about the arm"


def test_a_missing_launcher_says_what_to_install(tmp_path):
    hidden = "import sys; sys.modules['hydra_plugins.hydra_joblib_launcher'] = None; import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", hidden, ROOT / "run.py", "-m", "hydra/launcher=joblib", f"runs={tmp_path}", "seed=1,2"],
        capture_output=True, text=True, timeout=100, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 2
    assert "pip install 'dsd[joblib]'" in done.stdout + done.stderr


OURS = {"ray_cluster": ("ray", "ray"), "ray_gpus": ("ray", "ray"), "slurm_gpus": ("submitit_slurm", "slurm")}


@pytest.fixture
def no_plugins(monkeypatch):
    """Hydra as it is without any launcher of the extras."""
    vocabulary()  # plugins that are there have come
    store = ConfigStore.instance()
    only = {"launcher": {"basic.yaml": store.repo["hydra"]["launcher"]["basic.yaml"]}}
    monkeypatch.setattr(store, "repo", store.repo | {"hydra": store.repo["hydra"] | only})


def unknown(launcher):
    with pytest.raises(HydraException) as error:
        composed(f"hydra/launcher={launcher}")
    return explained(error.value, *vocabulary())


@pytest.mark.parametrize("launcher", [*EXTRAS, *OURS])
def test_every_launcher_says_what_to_install(launcher, no_plugins):
    said = unknown(launcher)
    base, extra = OURS.get(launcher, (launcher, EXTRAS.get(launcher)))
    assert said.startswith(f"hydra/launcher={base}")
    assert said.endswith(f"is not installed: pip install 'dsd[{extra}]'")


def test_no_launcher_of_ours_is_untested():
    assert {path.stem for path in (CONF / "hydra/launcher").glob("*.yaml")} == set(OURS)


def test_a_launcher_that_is_none_is_told_with_those_there_are(no_plugins):
    said = unknown("jobib")
    assert "there is no hydra/launcher=jobib (did you mean joblib" in said
    listed = said.partition("there are: ")[2].split(", ")
    assert set(listed) == {"basic", *EXTRAS, *OURS}


def test_a_scan_of_a_trained_network_makes_an_allocation_that_the_next_run_uses(finished, tmp_path):
    folder, _ = finished
    words = [*QUICK, f"runs={folder.parent}", "pruning.spare_first_conv=false"]
    code, said = call(*words, "scan=true", "init_from=" + folder.name, "sensitivity.sparsities=[0.5,0.99]")
    assert code == 0, said
    (found,) = folder.parent.glob("scan-*")
    record = json.loads((found / "sensitivity.json").read_text())
    assert set(record["curves"]) == {"fc1.weight", "fc2.weight", "fc3.weight"}
    assert record["curves"]["fc2.weight"][1] > record["dense"]
    assert (found / "sensitivity.svg").read_text().count("fc2.weight") == 1
    code, said = call("-cd", str(found), *words, "allocation=sensitivity", "method=prune", "--cfg", "job", "--resolve")
    assert code == 0, said
    assert f"fc1.weight: {record['table']['fc1.weight']}" in said


def test_a_scan_of_bits_makes_a_table_that_the_next_run_uses(finished, tmp_path):
    folder, _ = finished
    words = [*QUICK, f"runs={tmp_path}", "pruning.spare_first_conv=false"]
    code, said = call(*words, "scan=bits", f"init_from={folder}", "sensitivity.bits=[6,1]", "sensitivity.tolerance=2")
    assert code == 0, said
    (found,) = tmp_path.glob("scan-*")
    record = json.loads((found / "sensitivity.json").read_text())
    assert set(record["table"]) == {"fc1.weight", "fc2.weight", "fc3.weight"}
    assert set(record["table"].values()) <= {1, 6}
    assert record["table"]["fc1.weight"] == 6 - 5 * (max(record["curves"]["fc1.weight"]) <= record["dense"] + 2)
    code, said = call("-cd", str(found), *words, "+bits=sensitivity", "method=quantize", "--cfg", "job", "--resolve")
    assert code == 0, said
    assert f"fc1.weight: {record['table']['fc1.weight']}" in said


def test_a_scan_needs_a_trained_network(tmp_path):
    code, said = call(*QUICK, f"runs={tmp_path}", "scan=true")
    assert code == 1
    assert "init_from=RUN_ID" in said


def test_a_scan_is_of_classifiers(tmp_path):
    words = [
        "experiment=prune_neuraltalk",
        "track=none",
        "progress=false",
        f"runs={tmp_path}",
        "method=baseline",
        "profiles.quick.dense=0.1",
    ]
    code, said = call(*words)
    assert code == 0, said
    (folder,) = tmp_path.glob("*/result.json")
    code, said = call(*words, "scan=true", f"init_from={folder.parent.name}")
    assert code == 1
    assert "scan=true measures a classifier's error, which prune_neuraltalk has not" in said


def test_a_new_entry_of_a_table_is_told_from_an_unknown_key(tmp_path):
    code, said = call(*QUICK, f"runs={tmp_path}", "codebook.table={conv1:8}")
    assert code == 2
    assert "codebook.table is a table that has no such entry yet: +codebook.table=... adds it" in said


def test_a_scan_is_no_job_of_a_sweep(tmp_path):
    code, said = call("-m", *QUICK, f"runs={tmp_path}", "scan=true", "seed=0,1")
    assert code == 1
    assert "leave -m out" in said
    code, said = call(*QUICK, f"runs={tmp_path}", "scan=true", "trainer=ddp")
    assert code == 1
    assert "scan=true measures in one process: trainer.devices=1" in said


def test_a_config_that_is_no_yaml_is_named(tmp_path):
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "mine.yaml").write_text("lr: 0.1: 2\n")
    code, said = call("-cd", str(tmp_path), "optimizer=mine")
    assert code == 2
    assert "mine.yaml" in said
    assert "line 1" in said
    assert "Traceback" not in said


def test_images_of_ones_own_count_by_their_content_and_say_how_many_classes_there_are(tmp_path):
    draw = np.random.default_rng(0)

    def write(n):
        np.savez(tmp_path / "a.npz", x=draw.integers(0, 256, (n, 28, 28), np.uint8), y=np.arange(n) % 4)

    words = [
        "experiment=dsd_lenet300_mnist", "track=none", "progress=false", f"runs={tmp_path}/runs", "data=arrays", "method=baseline",
        f"data.root={tmp_path}", "data.source.path=a.npz", "data.source.test_fraction=0.2", "profiles.quick.dense=1", "data.batch_size=32",
    ]  # fmt: skip
    write(200)
    code, said = call(*words)
    assert code == 0, said
    assert "n = 40 images" in said
    write(300)
    code, said = call(*words)
    assert code == 0, said
    assert "n = 60 images" in said, "other images are another run"
    assert len(list((tmp_path / "runs").glob("*/result.json"))) == 2


def test_files_of_ones_own_count_by_content_here_and_below_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "root").mkdir()
    config = {
        "data": {"root": "root", "source": {"path": None}, "extractor": {"path": "features.npy"}},
        "task": {"decoder": {"lm": "words.arpa", "lexicon": None}},
        "model": {"path": "features.npy"},
    }  # fmt: skip
    assert by_content(config) == config, "what is not there keeps its name, for the error that follows"
    (tmp_path / "root" / "features.npy").write_bytes(b"1")
    (tmp_path / "words.arpa").write_text("1")
    one = by_content(config)
    assert one["data"]["extractor"]["path"] == hashlib.sha256(b"1").hexdigest() == one["task"]["decoder"]["lm"]
    assert one["model"] == config["model"], "not a file of data"
    (tmp_path / "words.arpa").write_text("2")
    assert by_content(config)["task"] != one["task"]
    assert by_content({"data": {"root": None}, "task": {}}) == {"data": {"root": None}, "task": {}}
