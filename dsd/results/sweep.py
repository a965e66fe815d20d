"""What became of the jobs of a sweep: each leaves one file, wherever it ran, and the sweep ends with their table.

    runs/.sweeps/<when>/0.json, 1.json, ...      {job, overrides, run_id, state, seconds, reason, log}

`state` is done, skipped (it was finished already) or failed. Files, because a launcher may run jobs in other processes
or on other machines; only this folder has to be common to them.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.experimental.callback import Callback
from rich import get_console
from rich.box import SIMPLE_HEAD
from rich.table import Table

from dsd.results.store import atomic_write


@dataclass(frozen=True)
class Outcome:
    """How one job ended. `seconds` is its wall time; `log` is its log's path, and `reason` why it failed."""

    job: int
    overrides: str
    run_id: str
    state: Literal["done", "skipped", "failed"]
    seconds: float = 0.0
    reason: str = ""
    log: str = ""

    def write(self, folder: Path) -> None:
        """Leave it in the sweep's folder. Raises OSError naming the file."""
        atomic_write(folder / f"{self.job}.json", json.dumps(asdict(self), ensure_ascii=False) + "\n")


def outcomes(folder: Path) -> list[Outcome]:
    """What the jobs of a sweep have left so far, by number."""
    found = [Outcome(**json.loads(path.read_text(encoding="utf-8"))) for path in folder.glob("*.json")]
    return sorted(found, key=lambda outcome: outcome.job)


def sweep_table(found: list[Outcome]) -> Table:
    """One row a job; the caption counts the states."""
    count = Counter(outcome.state for outcome in found)
    caption = ", ".join(f"{count[state]} {state}" for state in ("done", "skipped", "failed"))
    table = Table(box=SIMPLE_HEAD, caption=f"{len(found)} jobs: {caption}", caption_justify="left")
    for heading in ("job", "overrides", "run", "state", "why, and its log"):
        table.add_column(heading, overflow="fold")
    for outcome in found:
        why = f"{outcome.reason}\n{outcome.log}" if outcome.reason else ""
        table.add_row(str(outcome.job), outcome.overrides, outcome.run_id, outcome.state, why)
    return table


class SweepTable(Callback):
    """Hydra's callback that prints the table when all jobs of a sweep have ended."""

    def on_multirun_end(self, config: Any, **_: Any) -> None:
        found = outcomes(Path(config.hydra.sweep.dir))
        failed.extend(str(outcome.job) for outcome in found if outcome.state == "failed")
        get_console().print(sweep_table(found))


failed: list[str] = []
"""What failed in this process or its sweep, for the exit code: Hydra gives no result back from a sweep."""
