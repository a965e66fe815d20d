"""The folder of runs: one folder a run, one `result.json` that appears whole or not at all.

    runs/<run id>/result.json               the result; its existence means that the run is finished
                  config.yaml, run.log      the resolved config and the log
                  checkpoints/last.ckpt     where an interrupted run continues
                  diverged.json             its config and why, if its numbers became infinite and it is not finished since
                  final.safetensors         the final weights, which are the ones measured

Files are written beside their place, flushed to the disk and renamed, so a crash or a full disk leaves the old file.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from dsd.results.schema import SCHEMA, Result, check_json, check_result, read_json


class RunBusy(RuntimeError):
    """Another process on this machine is executing the same run."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. Nothing is created before something is written or the lock is taken."""

    path: Path

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        return self.path / "run.log"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def diverged(self) -> Path:
        return self.path / "diverged.json"

    @property
    def final(self) -> Path:
        return self.path / "final.safetensors"

    @property
    def finished(self) -> bool:
        """True when there is a valid result of this schema, False when there is none.

        Raises ValueError for one that cannot be read: it is never taken for an absent one. So ask `force` first.
        """
        if not self.result.exists():
            return False
        self.read_result()
        return True

    def write_result(self, result: Mapping[str, Any]) -> None:
        """`result.json` holds `result`, whole; `schema` is added when absent. Mutates nothing else.

        Raises ValueError (a missing or unknown key, NaN, infinity, another folder's run id) or TypeError (not JSON),
        naming the key, and OSError naming the file when it cannot be written; the old file is then still there.
        """
        complete = {"schema": SCHEMA, **result}
        check_json(complete, "")
        check_result(complete, str(self.result), self.run_id)
        text = json.dumps(complete, indent=1, ensure_ascii=False, allow_nan=False)
        atomic_write(self.result, text + "\n")
        self.diverged.unlink(missing_ok=True)

    def read_result(self) -> Result:
        """The finished result of this run.

        Raises FileNotFoundError when the run is not finished, and ValueError naming the file and the key when the file
        is truncated, of an unknown schema, or incomplete.
        """
        try:
            data = self.result.read_bytes()
        except FileNotFoundError:
            raise FileNotFoundError(
                errno.ENOENT,
                f"{self.result} does not exist: this run is not finished; give its command again to continue",
            ) from None
        try:
            result = json.loads(data.decode("utf-8"), parse_constant=_reject_constant)
        except ValueError as error:
            raise ValueError(
                f"{self.result} is not valid JSON ({error}), perhaps truncated or edited; restore it from a copy, or "
                "remove it to execute the run again (an intact checkpoint beside it is used)"
            ) from error
        check_result(result, str(self.result), self.run_id)
        return cast(Result, result)

    @contextlib.contextmanager
    def lock(self, *, wait: bool = False, launch: str = "") -> Iterator[None]:
        """This process alone executes the run while the context is open. `wait` until another one has ended.

        The kernel releases the lock when the process dies, however it dies. In distributed training only rank 0 takes
        it, and the other ranks of the same `launch` then `follow`. On several machines the folder's file system must have flock (NFSv4 has). Raises RunBusy naming the other process.
        """
        path = self.path / ".lock"
        self.path.mkdir(parents=True, exist_ok=True)
        with path.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                file.seek(0)
                owner = file.readline().strip() or "another process"
                raise RunBusy(
                    f"run {self.run_id} is being executed by {owner} ({path}); wait for it, or stop it and try again"
                ) from None
            try:
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n{launch}")
                file.flush()
                yield
            finally:
                file.truncate(0)  # nobody follows any more
                # Explicitly, because forked data workers share the lock. The file stays: removing it would be a race.
                fcntl.flock(file, fcntl.LOCK_UN)

    @property
    def busy(self) -> bool:
        """True while a process, here or on another machine, executes the run."""
        try:
            with self.lock():
                return False
        except RunBusy:
            return True

    def follow(self, launch: str, *, fresh: bool = False, seconds: float = 0.5) -> None:
        """Returns once rank 0 of this `launch` executes the run, or, unless it is done `fresh`, the run is finished or diverged.

        Looks every `seconds`. Rank 0 may wait long, for another job that executes the run; when it gives up, the launcher ends the rest.
        """
        while True:
            with contextlib.suppress(FileNotFoundError):
                if (self.path / ".lock").read_text(encoding="utf-8").partition("\n")[1:] == ("\n", launch):
                    return
            if not fresh and (self.finished or self.diverged.exists()):
                return
            time.sleep(seconds)


@dataclass(frozen=True)
class Store:
    """All runs below one folder, which need not exist yet."""

    root: Path

    def run(self, run_id: str) -> RunFolder:
        """The folder of a run, existing or not. Raises ValueError when `run_id` is not a plain folder name."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", run_id):
            raise ValueError(f"run id {run_id!r} is not a folder name of letters, digits, '.', '_' and '-'")
        return RunFolder(Path(self.root) / run_id)

    def results(self) -> Iterator[Result]:
        """Every finished result, by run id; unfinished runs are left out. Raises ValueError at an unreadable one."""
        for folder in self._folders():
            if folder.result.exists():
                yield folder.read_result()

    def diverged(self) -> Iterator[dict[str, Any]]:
        """{run_id, seed, config, reason} of each run that diverged and is not finished since."""
        for folder in self._folders():
            if folder.diverged.exists() and not folder.result.exists():
                yield read_json(folder.diverged, remedy="remove it to execute the run again")

    def find(self, prefix: str) -> RunFolder:
        """The one run, finished or not, whose id begins with `prefix`. Raises ValueError with the candidates."""
        folders = self._folders()
        found = [folder for folder in folders if folder.run_id.startswith(prefix)]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{prefix!r} begins {len(found)} runs in {self.root}: {_names(found)}; give more digits")
        raise ValueError(f"no run in {self.root} begins with {prefix!r}; there are: {_names(folders) or 'none'}")

    def _folders(self) -> list[RunFolder]:
        root = Path(self.root)
        if not root.is_dir():
            return []
        return [RunFolder(path) for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]


def atomic_write(path: Path, data: bytes | str) -> None:
    """`path` holds `data` (text as UTF-8) on the disk, or, after any failure, what it held before.

    Makes the parent folders. Raises OSError (of the original kind and errno) naming the file, the cause and the remedy.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data.encode("utf-8") if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise OSError(
            error.errno,
            f"could not write {path}: {error.strerror or error}; {_remedy(error.errno)}, then give the same command "
            "again: what was written before is intact",
        ) from error
    with contextlib.suppress(OSError):  # the file is in place; some file systems cannot sync a folder
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remedy(code: int | None) -> str:
    if code in (errno.ENOSPC, errno.EDQUOT):
        return "free some space on that disk or choose another folder"
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "make the folder writable or choose another one"
    return "repair the cause or choose another folder"


def _names(folders: list[RunFolder]) -> str:
    return ", ".join(folder.run_id for folder in folders[:20]) + f" and {len(folders) - 20} more" * (len(folders) > 20)


def _reject_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")
