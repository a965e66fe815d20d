"""A result appears whole or not at all, and is never taken for something else."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsd.results.schema import SCHEMA, Metrics, PhaseResult, Result
from dsd.results.store import RunBusy, RunFolder, Store, atomic_write

RUN = "0123456789ab"


def sample(run_id: str = RUN, **changes: Any) -> dict[str, Any]:
    phase = {"name": "dense", "epochs": 2, "updates": 32, "first": 0, "end": 32, "rate_first": 0.1, "rate_last": 0.01}
    phase |= {"sparsity": 0.0, "density": {"conv1.weight": 1.0}}
    result = {
        "schema": SCHEMA,
        "run_id": run_id,
        "name": "quick",
        "method": "dsd",
        "profile": "quick",
        "config": {"seed": 0, "data": {"name": "embedded"}},
        "seed": 0,
        "metrics": {"phases": [{**phase, "metrics": {"val/error1": 3.5}}], "test": {"test/error1": 3.2}},
        "published": None,
        "history": [{"update": 1, "train/loss": 2.3}],
        "updates": 32,
        "images": 2048,
        "seconds": 1.5,
        "images_per_second": 1365.3,
        "restarts": 0,
        "started": "2024-01-01T00:00:00+00:00",
        "finished": "2024-01-01T00:00:02+00:00",
        "versions": {"python": "3.11"},
        "git": {"commit": "abc", "dirty": False},
        "hardware": {"cpu": "a CPU", "gpus": []},
    }
    return {**result, **changes}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return Store(tmp_path / "runs").run(RUN)


def files(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.path.iterdir())


def test_the_folder_has_its_fixed_names_and_is_not_made_by_looking(folder: RunFolder, tmp_path: Path) -> None:
    paths = [folder.result, folder.config, folder.log, folder.checkpoint, folder.final]
    names = ["result.json", "config.yaml", "run.log", "checkpoints/last.ckpt", "final.safetensors"]
    assert [str(path.relative_to(tmp_path)) for path in paths] == [f"runs/{RUN}/{name}" for name in names]
    assert not folder.finished
    assert list(tmp_path.iterdir()) == []


def test_a_result_comes_back_as_written(folder: RunFolder) -> None:
    folder.write_result(sample(name="schön → 1"))
    assert folder.read_result() == sample(name="schön → 1")
    assert folder.finished
    assert files(folder) == ["result.json"]


def test_the_schema_is_added(folder: RunFolder) -> None:
    result = sample()
    del result["schema"]
    folder.write_result(result)
    assert folder.read_result()["schema"] == SCHEMA
    assert "schema" not in result


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_json_value_survives(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    folder = Store(tmp_path_factory.getbasetemp() / "any").run(RUN)
    folder.write_result(sample(config={"x": value}))
    assert folder.read_result()["config"] == {"x": value}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
def test_a_number_that_is_not_finite_is_named(folder: RunFolder, value: float) -> None:
    result = sample()
    result["metrics"]["phases"][0]["metrics"]["val/loss"] = value
    with pytest.raises(ValueError, match=r"metrics\.phases\[0\]\.metrics\.val/loss"):
        folder.write_result(result)
    assert not folder.path.exists()


@pytest.mark.parametrize("value", [Path("x"), np.int64(1), {1, 2}, b"x"])
def test_a_value_json_cannot_hold_is_named(folder: RunFolder, value: object) -> None:
    with pytest.raises(TypeError, match=r"history\[0\]\.value"):
        folder.write_result(sample(history=[{"value": value}]))


def test_a_key_that_is_no_string_is_named(folder: RunFolder) -> None:
    with pytest.raises(TypeError, match=r"config\[3\]"):
        folder.write_result(sample(config={3: 1}))


@pytest.mark.parametrize("key", sorted(Result.__required_keys__ - {"schema"}))
def test_a_missing_key_is_named(folder: RunFolder, key: str) -> None:
    folder.path.mkdir(parents=True)
    result = {name: value for name, value in sample().items() if name != key}
    with pytest.raises(ValueError, match=rf"result\.json: key '{key}' is missing"):
        folder.write_result(result)
    folder.result.write_text(json.dumps(result))
    with pytest.raises(ValueError, match=rf"result\.json: key '{key}' is missing"):
        folder.read_result()


@pytest.mark.parametrize("key", sorted(PhaseResult.__required_keys__))
def test_a_missing_key_of_a_phase_is_named(folder: RunFolder, key: str) -> None:
    result = sample()
    del result["metrics"]["phases"][0][key]
    with pytest.raises(ValueError, match=rf"metrics\.phases\[0\]\.{key}"):
        folder.write_result(result)


@pytest.mark.parametrize("key", sorted(Metrics.__required_keys__))
def test_a_missing_metric_is_named(folder: RunFolder, key: str) -> None:
    result = sample()
    del result["metrics"][key]
    with pytest.raises(ValueError, match=rf"metrics\.{key}"):
        folder.write_result(result)


@pytest.mark.parametrize(
    ("metrics", "key"),
    [
        ([], "'metrics' is a list"),
        ({"phases": {}, "test": {}}, "metrics.phases"),
        ({"phases": [1], "test": {}}, r"\[0\]"),
    ],
)
def test_a_key_of_the_wrong_shape_is_named(folder: RunFolder, metrics: object, key: str) -> None:
    with pytest.raises(ValueError, match=key):
        folder.write_result(sample(metrics=metrics))


def test_an_unknown_key_is_named(folder: RunFolder) -> None:
    with pytest.raises(ValueError, match="'best_epoch' is unknown"):
        folder.write_result(sample(best_epoch=3))


@pytest.mark.parametrize("length", [0, 1, 100, -2])
def test_a_truncated_result_is_an_error_and_never_unfinished(folder: RunFolder, length: int) -> None:
    folder.write_result(sample())
    folder.result.write_bytes(folder.result.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"result\.json is not valid JSON .* remove it"):
        folder.read_result()
    with pytest.raises(ValueError, match=r"result\.json is not valid JSON"):
        _ = folder.finished


@pytest.mark.parametrize("data", [b"\xff\xfe", b'{"schema": NaN}', b"[1] 2"])
def test_other_bytes_are_an_error(folder: RunFolder, data: bytes) -> None:
    atomic_write(folder.result, data)
    with pytest.raises(ValueError, match="not valid JSON"):
        folder.read_result()


@pytest.mark.parametrize(
    ("schema", "remedy"),
    [(SCHEMA + 1, "upgrade dsd"), (0, "unknown"), ("1", "unknown"), (None, "unknown"), (True, "unkn")],
)
def test_another_schema_is_an_error(folder: RunFolder, schema: object, remedy: str) -> None:
    atomic_write(folder.result, json.dumps(sample(schema=schema)))
    with pytest.raises(ValueError, match=rf"result\.json.*{remedy}"):
        folder.read_result()


def test_an_object_that_is_no_result_is_an_error(folder: RunFolder) -> None:
    atomic_write(folder.result, "[]")
    with pytest.raises(ValueError, match="'schema' is missing"):
        folder.read_result()


def test_an_unfinished_run_has_no_result(folder: RunFolder) -> None:
    with pytest.raises(FileNotFoundError, match=r"result\.json does not exist.*again to continue"):
        folder.read_result()


def test_a_copied_run_is_not_counted_twice(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.run(RUN).write_result(sample())
    atomic_write(store.run("copy").result, store.run(RUN).result.read_bytes())
    with pytest.raises(ValueError, match="counted twice"):
        list(store.results())


@pytest.mark.parametrize("call", ["os.fsync", "os.replace"])
def test_a_full_disk_leaves_the_old_result_and_no_other_file(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder.write_result(sample(name="old"))
    with monkeypatch.context() as patch:
        patch.setattr(call, full)
        with pytest.raises(OSError, match=r"result\.json: No space left.*free some space") as caught:
            folder.write_result(sample(name="new"))
    assert caught.value.errno == errno.ENOSPC
    assert files(folder) == ["result.json"]
    assert folder.read_result()["name"] == "old"


def test_a_really_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files makes the write itself fail half-way."""
    path = tmp_path / "result.json"
    code = (
        "import resource, signal, sys; from pathlib import Path; from dsd.results.store import atomic_write\n"
        "path = Path(sys.argv[1]); atomic_write(path, 'old')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "atomic_write(path, 'x' * 100_000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"could not write {path}: File too large" in done.stderr
    assert [child.name for child in tmp_path.iterdir()] == ["result.json"]
    assert path.read_text() == "old"


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "a" / "file"
    atomic_write(path, "old")
    monkeypatch.setattr("os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, "new")
    assert path.read_text() == "old"
    assert [child.name for child in path.parent.iterdir()] == ["file"]


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(OSError, match=r"could not write .*runs.*choose another folder"):
        Store(tmp_path / "runs").run(RUN).write_result(sample())


def test_results_are_the_finished_runs_in_order(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert list(Store(tmp_path / "absent").results()) == []
    store.run("b").write_result(sample("b"))
    store.run("a").write_result(sample("a"))
    store.run("c").path.mkdir()
    (tmp_path / ".trash").mkdir()
    (tmp_path / "notes.txt").write_text("")
    assert [result["run_id"] for result in store.results()] == ["a", "b"]
    atomic_write(store.run("c").result, "{")
    with pytest.raises(ValueError, match=r"c/result\.json"):
        list(store.results())


def test_find_takes_a_unique_prefix(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("abc1", "abc2", "d"):
        store.run(name).path.mkdir()
    assert store.find("abc2") == store.run("abc2")
    assert store.find("d") == store.run("d")
    with pytest.raises(ValueError, match="abc1, abc2; give more digits"):
        store.find("ab")
    with pytest.raises(ValueError, match="there are: abc1, abc2, d"):
        store.find("e")
    with pytest.raises(ValueError, match="there are: none"):
        Store(tmp_path / "absent").find("e")


@pytest.mark.parametrize("name", ["", "..", ".lock", "a/b", "/a", "a\n"])
def test_a_run_id_is_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a folder name"):
        Store(tmp_path).run(name)


def test_a_lock_excludes_and_names_its_owner_and_is_given_back(folder: RunFolder) -> None:
    with (
        folder.lock(),
        pytest.raises(RunBusy, match=rf"{RUN} is being executed by process {os.getpid()} on"),
        folder.lock(),
    ):
        raise AssertionError("the lock was given twice")
    with pytest.raises(KeyError), folder.lock():
        raise KeyError
    with folder.lock():
        pass


def test_the_lock_of_a_killed_process_is_free(folder: RunFolder) -> None:
    code = (
        "import sys, time; from pathlib import Path; from dsd.results.store import Store\n"
        f"with Store(Path(sys.argv[1])).run('{RUN}').lock(): print('locked', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(folder.path.parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(RunBusy, match=f"process {process.pid} on"), folder.lock():
            raise AssertionError("the lock was given twice")
        process.send_signal(signal.SIGKILL)
    with folder.lock():
        pass


def test_the_store_needs_no_torch() -> None:
    code = (
        "import sys; import dsd.results.store, dsd.results.identity, dsd.results.provenance as p, dsd.results.table\n"
        "p.hardware(); p.versions(); assert not {'torch', 'pytorch_lightning', 'wandb'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
