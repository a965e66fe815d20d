"""Where a result came from: the versions, the state of the code and the hardware. Nothing here ever raises.

No secrets: neither the environment, nor the name of the machine, nor the address of the repository is recorded.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

_DISTRIBUTIONS = {
    "dsd": "dsd",
    "torch": "torch",
    "torchvision": "torchvision",
    "torchaudio": "torchaudio",
    "torchmetrics": "torchmetrics",
    "lightning": "pytorch-lightning",
    "numpy": "numpy",
    "scipy": "scipy",
    "hydra": "hydra-core",
    "safetensors": "safetensors",
    "wandb": "wandb",
}


def versions() -> dict[str, str]:
    """The version of Python and of each package that can change a number; "not installed" where there is none."""
    found = {"python": platform.python_version()}
    for key, distribution in _DISTRIBUTIONS.items():
        try:
            found[key] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            found[key] = "not installed"
    return found


def git_state(path: Path) -> dict[str, Any]:
    """The commit, branch, `dirty` (uncommitted or untracked files) and `diff_sha256` of the repository around `path`.

    `diff_sha256` is None when clean, else a hash of `git status` and of the difference from the commit; it does not see
    into untracked files. Without git, a repository, a commit, or an answer within 5 s a command: {"reason": why not}.
    """
    try:
        commit = _git(path, "rev-parse", "--verify", "HEAD").decode().strip()
        branch = _git(path, "rev-parse", "--abbrev-ref", "HEAD").decode().strip()
        status = _git(path, "status", "--porcelain")
        difference = _git(path, "diff", "--binary", "--no-ext-diff", "HEAD") if status else b""
    except FileNotFoundError:
        return {"reason": "git is not installed"}
    except subprocess.TimeoutExpired:
        return {"reason": "git did not answer within 5 s"}
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        return {"reason": lines[0] if lines else f"git failed with code {error.returncode}"}
    except (OSError, ValueError) as error:
        return {"reason": f"git could not be run: {error}"}
    digest = hashlib.sha256(status + difference).hexdigest() if status else None
    return {"commit": commit, "branch": branch, "dirty": bool(status), "diff_sha256": digest}


def _git(path: Path, *arguments: str) -> bytes:
    done = subprocess.run(
        ["git", "-C", str(path), *arguments],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=5,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},  # take no lock; say it in English
    )
    return done.stdout


def hardware() -> dict[str, Any]:
    """The CPU model, its physical and logical cores, memory in GiB, the GPU names and the platform; None if unknown.

    GPUs are listed only when torch is already imported: asking for them here would import it.
    """
    return {
        "cpu": _cpu_model(),
        "cores_physical": psutil.cpu_count(logical=False),
        "cores_logical": psutil.cpu_count(logical=True),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": _gpus(),
        "platform": f"{platform.system()} {platform.machine()}",  # not the kernel: records are published
    }


def _cpu_model() -> str:
    """Its name, with what tells apart those of one name, which may round differently: "AMD EPYC (family 26, model 2)"."""
    told: dict[str, str] = {}
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0]
        told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    name = told.get("model name") or platform.processor() or platform.machine()
    kind = ", ".join(f"{key.removeprefix('cpu ')} {told[key]}" for key in ("cpu family", "model") if told.get(key))
    return f"{name} ({kind})" if kind else name


def _gpus() -> list[str]:
    torch = sys.modules.get("torch")
    with contextlib.suppress(Exception):  # a broken driver is no reason to lose a result
        if torch is not None and torch.cuda.is_available():
            return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return []
