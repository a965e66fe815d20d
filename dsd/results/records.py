"""The record of a study: one JSON line a run, small enough to be committed, and enough to make every number of the report.

    experiments/<study>/records.jsonl     {"common": {key: value}}, the config keys that all runs share
                                          {"study", "arm", "seed", "run_id", "config", "phases", "test", "curve", ...}, one a run

`config` holds what a run does not share with the others, as dotted keys. Weights stay in the folder of runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsd.results.identity import IGNORED
from dsd.results.members import belongs
from dsd.results.schema import Result
from dsd.results.store import atomic_write
from dsd.results.study import Arm, Study

Record = dict[str, Any]
OMITTED = (*IGNORED, "profiles")  # says nothing about the numbers, and may name folders of a machine
COUNTED = ("/error1", "/error5")
NEEDED = ("study", "arm", "seed", "run_id", "phases", "test", "curve", "updates", "images", "seconds")
COLUMNS = ("update", "epoch", "rate", "train/loss")  # and the study's metric of the validation set


def collect(study: Study, results: Iterable[Result]) -> list[Record]:
    """The records of the runs that belong to the study. Raises ValueError if two runs claim one arm and seed.

    Two runs of the same arm and seed differ in something the study does not say: its words must, or one must go.
    """
    found: dict[tuple[str, int], Record] = {}
    for result in results:
        for arm in study.arms:
            if result["seed"] not in study.seeds_of(arm) or not belongs(
                result["config"], study.words_of(arm), result["seed"]
            ):
                continue
            key = (arm.name, result["seed"])
            new = record(study, arm, result)
            if key in found:
                differ = _differences(found[key]["config"], new["config"])
                raise ValueError(
                    f"study {study.name}: runs {found[key]['run_id']} and {new['run_id']} are both {arm.name}, seed "
                    f"{key[1]}; they differ in {differ}. Say which in the study's words, or move one out of the folder"
                )
            found[key] = new
    return [found[key] for key in sorted(found)]


def record(study: Study, arm: Arm, result: Result) -> Record:
    """What the report needs of a run."""
    rows = result["history"]
    names = ("name", "epochs", "updates", "rate_first", "rate_last", "sparsity", "metrics")
    return {
        "study": study.name, "arm": arm.name, "seed": result["seed"], "run_id": result["run_id"],
        "config": flat(result["config"]),
        "phases": [_rounded({name: phase[name] for name in names}) for phase in result["metrics"]["phases"]],  # type: ignore[literal-required]
        "test": _rounded(result["metrics"]["test"]),
        "curve": {column: [_rounded(row.get(column)) for row in rows] for column in (*COLUMNS, study.watched.key)},
        "updates": result["updates"], "images": result["images"], "seconds": round(result["seconds"], 1),
        "restarts": result["restarts"], "started": result["started"], "finished": result["finished"],
        "versions": result["versions"], "hardware": result["hardware"], "git": result["git"],
    }  # fmt: skip


def utterances(samples: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """{"words": [...], "errors": [...]} of a run's transcripts (samples.jsonl), in order of their names; else nothing.

    Kept in a speech run's record as `utterances`.
    """
    counted = sorted((s for s in samples if "errors" in s), key=lambda s: str(s["utterance"]))
    return {key: [int(s[key]) for s in counted] for key in ("words", "errors")} if counted else {}


def flat(config: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested mappings as one of dotted keys; lists of mappings by number. Without what cannot change the numbers."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            value = {str(index): item for index, item in enumerate(value)}
        found.update(flat(value, f"{path}{key}.") if isinstance(value, Mapping) and value else {f"{path}{key}": value})
    return {key: value for key, value in found.items() if not any(f"{key}.".startswith(f"{name}.") for name in OMITTED)}


def merge(old: Iterable[Record], new: Iterable[Record]) -> list[Record]:
    """By study, arm and seed; a new record replaces the old one."""
    found = {(r["study"], r["arm"], r["seed"]): r for r in (*old, *new)}
    return [found[key] for key in sorted(found)]


def write(path: Path, records: Sequence[Record]) -> None:
    """One line a run, after one of what they share. Raises OSError naming the file."""
    shared = ("config", "versions", "hardware", "git")
    common = {name: _common([r[name] for r in records]) for name in shared}
    lines = [json.dumps({"common": common}, ensure_ascii=False)]
    for one in records:
        own = {name: {k: v for k, v in one[name].items() if k not in common[name]} for name in shared}
        lines.append(json.dumps(one | own, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
    atomic_write(path, "\n".join(lines) + "\n")


def read(path: Path) -> list[Record]:
    """The records of a file, whole; none if it does not exist. Raises ValueError naming the file and line."""
    if not path.exists():
        return []
    common: dict[str, dict[str, Any]] = {}
    records: list[Record] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n"), 1):
        try:
            one = json.loads(line)
            if "common" in one:
                common = one["common"]
                continue
            records.append(
                {name: one[name] for name in NEEDED}
                | one
                | {name: common.get(name, {}) | one[name] for name in ("config", "versions", "hardware", "git")}
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number} is no record of a run ({error}); restore the file from git"
            ) from None
    return records


def _common(maps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first, *rest = maps or [{}]
    return {k: v for k, v in first.items() if all(k in other and other[k] == v for other in rest)}


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    keys = sorted(key for key in {*a, *b} if a.get(key) != b.get(key))
    return ", ".join(f"{key} ({a.get(key)} and {b.get(key)})" for key in keys[:6]) or "nothing a record keeps"


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _counted(item) if str(key).endswith(COUNTED) else _rounded(item) for key, item in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _counted(value: Any) -> Any:
    """A share of images in %: what float32 added to it goes, so that equal counts are ties to a rank test."""
    return round(value, 4) if isinstance(value, float) else value
