"""What became of the jobs of a sweep: each leaves one file, wherever it ran, and the sweep ends with their table.

    runs/.sweeps/<when>/0.json, 1.json, ...      {job, overrides, run_id, state, seconds, reason, log, ...}

Files, because a launcher may run jobs in other processes or on other machines; only this folder has to be common to
them. A job writes `running` when it begins; if that is still there when the sweep is over and nobody holds the lock of its
run, its process was killed.
The states:

    done          trained now
    skipped       was finished already
    busy          another process is executing it: another sweep on the same runs. This one went on with the next job
    failed        with the reason; the other jobs went on
    killed        began and left nothing: out of memory, time limit, kill. Its checkpoint is there
    interrupted   by Ctrl-C, which ends the sweep. Its checkpoint is there
    running       the launcher gave up (another job was killed), but a process still executes this one's run, on a cluster
    not begun     the launcher gave up, or was interrupted, before it
    missing       only with dry_run=true: would be trained
"""

import contextlib
import json
import logging
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict, read_write
from rich import get_console
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from dsd.results.schema import Result
from dsd.results.store import RunFolder, Store, atomic_write

log = logging.getLogger("dsd")

HERE = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"  # one job after another in this process
State = Literal["running", "done", "skipped", "busy", "failed", "killed", "interrupted", "not begun", "missing"]
INCOMPLETE = ("busy", "failed", "killed", "interrupted", "running", "not begun")


@dataclass(frozen=True)
class Outcome:
    """How one job ended. `seconds` is its wall time; `log` is its log's path, and `reason` why it is not done."""

    job: int
    overrides: list[str]
    run_id: str = ""
    state: State = "running"
    seconds: float = 0.0
    memory: float = 0.0  # MiB that its process holds afterwards: a sweep in one process must not grow
    reason: str = ""
    log: str = ""
    name: str = ""
    profile: str = ""
    method: str = ""
    epochs: float = 0.0  # what is missing of its plan
    needs: str = ""  # the missing run it starts from, and the epochs of that
    needs_epochs: float = 0.0

    def write(self, folder: Path) -> None:
        """Leave it in the sweep's folder. Raises OSError naming the file."""
        atomic_write(folder / f"{self.job}.json", json.dumps(asdict(self), ensure_ascii=False) + "\n")


def outcomes(folder: Path) -> list[Outcome]:
    """What the jobs of a sweep have left so far, by number."""
    found = [Outcome(**json.loads(path.read_text(encoding="utf-8"))) for path in folder.glob("*.json")]
    return sorted(found, key=lambda outcome: outcome.job)


def done_by(hydra: Any, folder: RunFolder) -> bool:
    """Whether the run was finished by this sweep already, by another of its jobs."""
    begun = Path(hydra.sweep.dir) / "multirun.yaml"
    there = hydra.mode == RunMode.MULTIRUN and begun.exists() and folder.result.exists()
    return there and folder.result.stat().st_mtime > begun.stat().st_mtime


def ended(found: Iterable[Outcome], store: Store, *, interrupted: bool = False) -> list[Outcome]:
    """The same when nobody waits for the jobs any more: because they ended, or the launcher gave up or was `interrupted`."""
    state: State = "interrupted" if interrupted else "killed"
    why = "a cluster may go on with it" if interrupted else "its process ended without a word"
    gone = {"state": state, "reason": f"{why}; the same command continues it"}
    on = {"reason": "a process still executes its run; once it has ended, the same command skips or continues it"}

    def told(one: Outcome) -> Outcome:
        if one.state == "busy" and one.run_id and store.run(one.run_id).result.exists():
            return replace(
                one, state="skipped", reason=""
            )  # another sweep, or another job of this one, has finished it
        if one.state != "running":
            return one
        return replace(one, **(on if one.run_id and not interrupted and store.run(one.run_id).busy else gone))  # type: ignore[arg-type]

    return [told(one) for one in found]


def not_begun(planned: list[list[str]], found: list[Outcome]) -> list[Outcome]:
    """Jobs that left nothing, not even that they began; `planned` has the overrides of all jobs, by number."""
    begun = {outcome.job for outcome in found}
    why = "the sweep ended before it; the same command does it"
    return [Outcome(n, words, state="not begun", reason=why) for n, words in enumerate(planned) if n not in begun]


def jobs_of(hydra: Any) -> list[list[str]]:
    """The overrides of each job that Hydra's own sweeper makes, by number; of other sweepers nothing is known before."""
    if hydra.sweeper.get("_target_", "").rpartition(".")[2] != BasicSweeper.__name__:
        return []
    given: Any = OmegaConf.to_container(hydra, resolve=False)  # "${seed}" is each job's own
    words = [f"{key}={value}" for key, value in (given["sweeper"]["params"] or {}).items()] + given["overrides"]["task"]
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())  # which knows what glob(*) means
    batches = BasicSweeper.split_arguments(parser.parse_overrides(words), max_batch_size=None)
    return [list(job) for batch in batches for job in batch]


def sweep_table(found: list[Outcome]) -> Table:
    """One row a job, with what it has not in common with all others; the caption counts the states."""
    count = Counter(outcome.state for outcome in found)
    always = ("missing", "skipped") if count["missing"] else ("done", "skipped", "failed")
    states = [
        *always,
        *(state for state in ("busy", "killed", "interrupted", "running", "not begun", "failed") if count[state]),
    ]
    caption = ", ".join(f"{count[state]} {state}" for state in dict.fromkeys(states))
    table = Table(box=SIMPLE_HEAD, caption=f"{len(found)} jobs: {caption}", caption_justify="left")
    for heading in ("job", "overrides", "run", "state", "why, and its log"):
        table.add_column(heading, overflow="fold")
    alike = set.intersection(*(set(outcome.overrides) for outcome in found)) if len(found) > 1 else set()
    for outcome in found:
        varied = ", ".join(word for word in outcome.overrides if word not in alike)
        why = "\n".join(part for part in (outcome.reason, outcome.log) if part) if outcome.reason else ""
        table.add_row(
            str(outcome.job), Text(varied), outcome.run_id, outcome.state, Text(why)
        )  # not markup: "tags=[a]"
    return table


def total_epochs(config: Mapping[str, Any]) -> float:
    """Epochs of the plan in a resolved config; a group of phases counts once, or with `whole` as often as it is repeated."""

    def length(phases: Iterable[Mapping[str, Any]]) -> float:
        return sum(
            float(phase["epochs"])
            if "epochs" in phase
            else length([phase["phase"]] if "phase" in phase else phase.get("phases", ()))
            * (phase["times"] if phase.get("whole") else 1)
            for phase in phases
        )

    return length(config["method"]["phases"])


def estimate(missing: Iterable[Outcome], results: Iterable[Result]) -> tuple[float | None, int]:
    """Seconds of training left, one job after another, and from how many finished runs that is known.

    A missing job takes its epochs times the median seconds per epoch of finished runs of its experiment, profile and
    method, or else of its experiment and profile; a run that several jobs start from, or are, counts once. None without any.
    """
    pace: dict[tuple[str, str, str], list[float]] = {}
    for result in results:
        epochs = total_epochs(result["config"])
        for kind in (result["method"], ""):
            pace.setdefault((result["name"], result["profile"], kind), []).append(result["seconds"] / epochs)
    seconds, used = 0.0, set()
    missing = list(missing)
    each = {one.run_id or one.job: one for one in missing}  # what starts from a missing run has no id yet
    shared = {one.needs: replace(one, method="baseline", epochs=one.needs_epochs) for one in missing if one.needs}
    for one in (each | shared).values():
        key = next((key for kind in (one.method, "") if (key := (one.name, one.profile, kind)) in pace), None)
        if key is None:
            return None, 0
        used.add(key)
        seconds += one.epochs * statistics.median(pace[key])
    return seconds, sum(len(pace[key]) for key in used)


def hours(seconds: float) -> str:
    """In words: 42 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def time_left(missing: Iterable[Outcome], store: Store) -> str:
    """The estimate in words, or why there is none."""
    try:
        seconds, n = estimate(missing, store.results())
    except ValueError as error:  # some other run's result
        return f"unknown: {error}"
    if seconds is None:
        return "unknown: no run of the same experiment is finished"
    return f"about {hours(seconds)} of training one job after another, from {n} finished {'run' if n == 1 else 'runs'}"


class Sweep(Callback):
    """Hydra's callback: it knows where a sweep's jobs leave their outcomes; `close` prints the table.

    A dry run asks no launcher: a cluster would queue a job for each answer.
    """

    folder: Path | None = None
    runs: Path = Path()
    planned: ClassVar[list[list[str]]] = []
    unwritten: ClassVar[dict[int, Outcome]] = {}

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        Sweep.folder, Sweep.runs = Path(config.hydra.sweep.dir), Path(config.runs)
        if config.get("dry_run"):
            with read_write(config), open_dict(config):
                config.hydra.launcher = {"_target_": HERE}
        Sweep.planned, Sweep.unwritten = [], {}
        for left in Sweep.folder.glob("[0-9]*.json"):
            left.unlink()  # of a sweep that was given the same folder
        with contextlib.suppress(Exception):  # rather a table without what has not begun than a sweep without a table
            Sweep.planned = jobs_of(config.hydra)

    @classmethod
    def leave(cls, outcome: Outcome, folder: Path) -> None:
        """The outcome is in the sweep's folder; or, if that is full, `close` knows it, if the job was in its process."""
        try:
            outcome.write(folder)
        except OSError as error:
            log.error("job %s, %s: what became of it cannot be written: %s", outcome.job, outcome.state, error)
            cls.unwritten[outcome.job] = outcome

    @classmethod
    def close(cls, *, interrupted: bool = False) -> bool:
        """Print the table of the sweep, if there was one; True when none of its jobs is left to do by a failure."""
        if cls.folder is None:
            return True
        left = {one.job: one for one in outcomes(cls.folder)} | cls.unwritten
        found, console = ended(left.values(), Store(cls.runs), interrupted=interrupted), get_console()
        found = sorted([*found, *not_begun(cls.planned, found)], key=lambda outcome: outcome.job)
        console.print(sweep_table(found))
        if any(outcome.state == "busy" for outcome in found):
            console.print("busy: the same command skips them once they are finished, or takes them over if they die.")
        missing = [outcome for outcome in found if outcome.state == "missing"]
        if missing:
            console.print(f"time left: {time_left(missing, Store(cls.runs))}", markup=False)
        return bool(found) and not any(outcome.state in INCOMPLETE for outcome in found)
