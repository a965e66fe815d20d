"""How a command talks: to the terminal, to the run's log, and about what the user got wrong."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from typing import Any

from rich import get_console

from dsd.processes import foremost, launch
from dsd.results.store import RunFolder

log = logging.getLogger("dsd")
EXTRAS = {"joblib": "joblib", "submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray", "ray_aws": "ray"}
"""What to install for a launcher; those of conf/hydra/launcher are built on these."""


class Refused(Exception):
    """A run that can't go on; the message is for the user and says what to do."""


class Bare(logging.Handler):
    """Prints messages as they are, above a live progress line if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        get_console().print(self.format(record), soft_wrap=True, markup=False, highlight=False)


def speak() -> None:
    """Messages of `dsd` appear on the terminal, bare; of several processes of a run only the first one's, and errors."""
    log.setLevel(logging.INFO if foremost() else logging.ERROR)
    log.propagate = False
    if not log.handlers:
        log.addHandler(Bare())


def hush() -> None:
    """Of Lightning's messages only warnings are shown. Call it after Lightning is imported: it sets its own level then."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def recorded(folder: RunFolder, *, first: bool, fresh: bool, wait: bool = False) -> Iterator[None]:
    """The run's folder is locked and its messages and errors go to `run.log`. Any error but RunBusy leaves as `Refused`.

    `first`: this is rank 0; the others wait until it has the lock, or the run is finished, and only run. `fresh`: what an earlier try left is removed, but for
    a result, which is kept as `previous.json`, and comes back if nothing is left of the new try.
    `wait` for another process that executes the run; else RunBusy.
    """
    if not first:
        folder.follow(launch(), fresh=fresh)
        yield
        return
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        said = f"the run's folder {folder.path} cannot be made: {error.strerror}; choose another one: runs=DIR"
        raise Refused(said) from error
    with folder.lock(wait=wait, launch=launch()):
        previous, aside = folder.path / "previous.json", fresh and folder.result.exists()
        if aside:
            folder.result.replace(previous)
        if fresh:
            folder.checkpoint.unlink(missing_ok=True)
            folder.diverged.unlink(missing_ok=True)
        try:
            with _into(folder):
                yield
        except BaseException:
            if aside and not (folder.checkpoint.exists() or folder.result.exists() or folder.diverged.exists()):
                previous.replace(folder.result)  # it failed before there was anything to go on with
            raise


class Log(logging.FileHandler):
    """A run's log. What cannot be written to it is not: the run's own files say what went wrong."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass

    def close(self) -> None:
        with suppress(OSError):  # what is still in its buffer
            super().close()


@contextmanager
def _into(folder: RunFolder) -> Iterator[None]:
    handler = Log(folder.log, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    loggers = [log, logging.getLogger("pytorch_lightning"), logging.getLogger("py.warnings")]
    logging.captureWarnings(True)
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    except Refused:
        raise
    except Exception as error:
        handler.emit(log.makeRecord(log.name, logging.ERROR, "", 0, traceback.format_exc(), (), None))
        raise Refused(f"{_said(error)}\n(the whole story: {folder.log})") from error
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        logging.captureWarnings(False)
        handler.close()


def _said(error: BaseException) -> str:
    """The message; where a library only wraps an error of ours, ours."""
    while error.__cause__ is not None and "Error in call to target" in str(error):
        error = error.__cause__
    said = f"{error}" if isinstance(error, (ValueError, OSError, TypeError)) else f"{type(error).__name__}: {error}"
    if "does not have a deterministic implementation" in said:  # CUDA's pooling of AlexNet and VGG-16, and its CTC
        operation = said.partition(" does not")[0].rpartition(" ")[2]
        return f"{operation} has no deterministic kernel on this device: trainer.deterministic=warn runs without (or trainer=gpus)"
    if "more than 1 value per channel when training" in said:
        return (
            "BatchNorm cannot train on a single image, and a batch has no more for one process (the last one of an epoch?): "
            "choose another data.batch_size or data.validation, so that more are left"
        )
    return said


def explained(error: Exception, names: Iterable[str], groups: Mapping[str, list[str]]) -> str:
    """What is wrong with the command line, with the nearest right name among keys, groups and a group's choices."""
    text = str(error)
    missing = re.search(r"(?:In '([^']+)': )?Could not (?:find|load) '([^']+)'", text)
    if missing:
        group, _, choice = missing.group(2).rpartition("/")
        choices = groups.get(group, [])
        if group == "hydra/launcher":
            if extra := EXTRAS.get(choice):
                above, _, built = (missing.group(1) or "").rpartition("/")
                what = f"{choice}, which {built} is built on," if above == group else choice
                return f"hydra/launcher={what} is not installed: pip install 'dsd[{extra}]'"
            choices = sorted({*choices, *EXTRAS})
        return f"there is no {group}={choice}{_near(choice, choices)}; there are: {', '.join(choices)}"
    key = re.search(r"Could not (?:override|append to config|delete from config)[^']*'([^']+)'", text)
    if key is None:
        key = re.search(r"full_key: (\S+)", text)
    if key:
        wrong = key.group(1)
        if wrong in (names := list(names)):
            return f"{wrong} is a table that has no such entry yet: +{wrong}=... adds it"
        return f"there is no key {wrong}{_near(wrong, [*groups, *names])}. `python run.py --cfg job` shows all keys; +{wrong}=... adds one"
    cause: Any = error.__cause__
    return text if cause is None or str(cause) in text else f"{text}: {cause}"


def _near(wrong: str, right: Iterable[str]) -> str:
    right = list(right)
    last = wrong.rsplit(".", 1)[-1]
    near = get_close_matches(wrong, right, n=3, cutoff=0.6)
    near += [name for name in right if name.rsplit(".", 1)[-1] == last]
    if not near:
        ends = get_close_matches(last, [name.rsplit(".", 1)[-1] for name in right], n=1, cutoff=0.7)
        near = [name for name in right if ends and name.rsplit(".", 1)[-1] == ends[0]]
    return f" (did you mean {' or '.join(list(dict.fromkeys(near))[:3])}?)" if near else ""
