"""Where a result came from is recorded, and recording it never fails."""

import json
import platform
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from dsd.results import provenance
from dsd.results.provenance import git_state, hardware, versions


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init", "--initial-branch", "trunk")
    (tmp_path / "file").write_text("one\n")
    git("add", "file")
    git("commit", "-m", "first")
    return tmp_path


def test_versions_name_the_packages() -> None:
    found = versions()
    assert {"python", "dsd", "torch", "torchvision", "lightning", "numpy", "scipy", "hydra"} <= found.keys()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["numpy"][0].isdigit()


def test_an_absent_package_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_DISTRIBUTIONS", {"x": "no-such-distribution-of-ours"})
    assert versions()["x"] == "not installed"


def test_a_clean_repository(repository: Path) -> None:
    state = git_state(repository)
    assert len(state.pop("commit")) == 40
    assert state == {"branch": "trunk", "dirty": False, "diff_sha256": None}


def test_dirty_states_differ_by_their_hash(repository: Path) -> None:
    (repository / "file").write_text("two\n")
    two = git_state(repository)
    (repository / "file").write_text("three\n")
    three = git_state(repository)
    assert two["dirty"] is True
    assert len({two["diff_sha256"], three["diff_sha256"], None}) == 3


def test_an_untracked_file_is_dirty(repository: Path) -> None:
    (repository / "new").write_text("")
    assert git_state(repository)["dirty"] is True


def test_a_folder_below_the_repository_is_in_it(repository: Path) -> None:
    (repository / "below").mkdir()
    assert git_state(repository / "below")["branch"] == "trunk"


def test_no_repository_gives_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "not a git repository" in git_state(tmp_path)["reason"]


def test_no_commit_or_no_folder_gives_a_reason(tmp_path: Path) -> None:
    subprocess.run(["git", "-C", str(tmp_path), "init"], check=True, capture_output=True)
    assert list(git_state(tmp_path)) == ["reason"]
    assert list(git_state(tmp_path / "absent")) == ["reason"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError(), "git is not installed"),
        (subprocess.TimeoutExpired("git", 5), "5 s"),
        (PermissionError("no"), "could not be run: no"),
        (subprocess.CalledProcessError(3, "git", stderr=b""), "code 3"),
    ],
)
def test_git_that_fails_gives_a_reason(monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert reason in git_state(Path())["reason"]


def test_hardware_is_plain_json() -> None:
    found = hardware()
    assert set(found) == {"cpu", "cores_physical", "cores_logical", "memory_gib", "gpus", "platform"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["cpu"]
    assert re.search(r"\(family \d+, model \d+\)$", found["cpu"]) or platform.machine() != "x86_64"
    assert found["cores_logical"] >= 1
    assert found["memory_gib"] > 0


@pytest.mark.parametrize(("names", "available"), [(["GPU A", "GPU B"], True), ([], False)])
def test_gpus_are_named_when_torch_is_there(monkeypatch: pytest.MonkeyPatch, names: list[str], available: bool) -> None:
    torch = ModuleType("torch")
    cuda = SimpleNamespace(
        is_available=lambda: available, device_count=lambda: len(names), get_device_name=names.__getitem__
    )
    monkeypatch.setattr(torch, "cuda", cuda, raising=False)
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert hardware()["gpus"] == names


def test_a_broken_gpu_driver_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    assert hardware()["gpus"] == []
