"""`python run.py` without the ten seconds of imports: a child of a process that has them already.

A server, one for each process of pytest, imports what every run does, and forks for each command: the child has its own
folder, environment, output and end, like a process started anew. What is about starting anew (launchers, several processes of
a run, the README's commands) does not come here.
"""

import atexit
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Job:
    """A command at work; its output and its end are files in `folder`."""

    folder: Path

    @property
    def pid(self) -> int:
        return int(_when_there(self.folder / "pid"))

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    def poll(self) -> int | None:
        """The exit code, or None while it runs; -N if signal N ended it."""
        path = self.folder / "code"
        return int(path.read_text()) if path.exists() else None

    def wait(self, seconds: float) -> int:
        """The exit code; TimeoutError, and the job is killed, if there is none in time."""
        try:
            return int(_when_there(self.folder / "code", seconds))
        except TimeoutError:
            os.kill(self.pid, signal.SIGKILL)
            raise


def start(*words: object, cwd: Path = ROOT, **env: str) -> Job:
    """`python run.py` with these words has begun."""
    folder = Path(tempfile.mkdtemp(prefix="job", dir=_place()))
    server = _server()
    argv = [str(ROOT / "run.py"), *map(str, words)]
    request = {"argv": argv, "cwd": str(cwd), "env": {**os.environ, **env}, "folder": str(folder)}
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    return Job(folder)


def call(*words: object, cwd: Path = ROOT, seconds: float = 300, **env: str) -> tuple[int, str]:
    """The exit code and all output of `python run.py` with these words."""
    job = start(*words, cwd=cwd, **env)
    return job.wait(seconds), job.output


@cache
def _place() -> str:
    folder = tempfile.TemporaryDirectory(prefix="warm")
    atexit.register(folder.cleanup)
    return folder.name


@cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, text=True, cwd=ROOT)
    atexit.register(server.kill)
    return server


def _when_there(path: Path, seconds: float = 60) -> str:
    end = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"no {path.name} after {seconds:g} s")
        time.sleep(0.01)
    return path.read_text()


def _leave(path: Path, text: str) -> None:
    """Appears whole."""
    path.with_suffix(".part").write_text(text)
    path.with_suffix(".part").rename(path)


def _watch(request: dict) -> None:
    """Fork the command, wait for it, and leave its exit code."""
    folder = Path(request["folder"])
    pid = os.fork()
    if pid == 0:
        _become(request)
    _leave(folder / "pid", str(pid))
    _, status = os.waitpid(pid, 0)
    _leave(folder / "code", str(os.waitstatus_to_exitcode(status)))


def _become(request: dict) -> None:
    """This process is the command; it does not return."""
    code = 1
    try:
        out = os.open(Path(request["folder"]) / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream, target in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (out, 2)):
            os.dup2(stream, target)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        sys.argv = request["argv"]
        sys.path[0] = str(ROOT)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _serve() -> None:
    sys.path[0] = str(ROOT)

    import dsd.callbacks
    import dsd.compression
    import dsd.data
    import dsd.models
    import dsd.tasks
    import dsd.weights  # noqa: F401

    for line in sys.stdin:
        watcher = os.fork()
        if watcher == 0:
            if os.fork() == 0:  # nobody waits for the second one
                _watch(json.loads(line))
            os._exit(0)
        os.waitpid(watcher, 0)


if __name__ == "__main__":
    _serve()
