"""What a `result.json` holds, and the checks that nothing else gets in or out."""

import json
import math
from pathlib import Path
from typing import Any, TypedDict

SCHEMA = 1
"""The version of `result.json` this code writes and reads."""


class PhaseResult(TypedDict):
    """One phase of a run, as it was when the phase ended."""

    name: str
    epochs: float  # 1.25 is allowed
    updates: int  # optimizer steps
    first: int  # its first update
    end: int  # the update after its last
    rate_first: float  # learning rate of the first update
    rate_last: float  # learning rate of the last update
    sparsity: float  # removed fraction of all prunable weights, 0 to 1, counted from the weights
    density: dict[str, float]  # kept fraction of each prunable tensor, 0 to 1
    metrics: dict[str, Any]  # "val/error1" and "val/error5" in %, "val/loss", ...; empty without validation


class Metrics(TypedDict):
    """Every measurement of a run."""

    phases: list[PhaseResult]
    test: dict[str, Any]  # of the final weights: "test/error1" in %, ..., "test/n" examples; empty without a test set


class Result(TypedDict):
    """Every key of `result.json`; all of them are required. No number is ever NaN or infinite."""

    schema: int  # SCHEMA
    run_id: str  # the name of the folder
    name: str
    method: str
    profile: str  # "paper", "quick", ...
    config: dict[str, Any]  # the resolved config
    seed: int
    metrics: Metrics
    published: dict[str, Any] | None  # what the paper reports, see `dsd.results.table`
    history: list[dict[str, Any]]  # one row a logged update or epoch
    updates: int  # optimizer steps
    images: int  # training examples seen
    seconds: float  # wall time of training, over all restarts
    images_per_second: float
    restarts: int  # how often the run was interrupted and continued
    started: str  # ISO 8601 with time zone
    finished: str  # ISO 8601 with time zone
    versions: dict[str, str]
    git: dict[str, Any]
    hardware: dict[str, Any]


def read_json(path: Path, *, remedy: str, lines: bool = False) -> Any:
    """What the file holds; a list of its `lines` if each is of its own. Raises ValueError naming it, and the remedy, if it is damaged."""
    try:
        text = path.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.split("\n") if line] if lines else json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}), perhaps truncated or edited; {remedy}") from error


def check_json(value: object, path: str) -> None:
    """Raise at the first value, in depth, that JSON cannot hold, naming its key."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"result key {path} is {value!r}; a result holds finite numbers or null only")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"result key {path}[{key!r}] is a {type(key).__name__}, not a string")
            check_json(item, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            check_json(item, f"{path}[{index}]")
    elif not (value is None or isinstance(value, str | bool | int | float)):
        raise TypeError(f"result key {path} is a {type(value).__name__}, which JSON cannot hold; convert it first")


def check_result(result: object, where: str, run_id: str) -> None:
    """Raise ValueError naming the file and the key when `result` is not a whole result of this schema and folder."""
    if not isinstance(result, dict) or "schema" not in result:
        raise ValueError(f"{where}: key 'schema' is missing; this is not the result of a run")
    schema = result["schema"]
    if isinstance(schema, int) and schema > SCHEMA:
        raise ValueError(
            f"{where}: schema {schema} is newer than {SCHEMA}, the newest this version of dsd reads; upgrade dsd"
        )
    if schema != SCHEMA or isinstance(schema, bool):
        raise ValueError(f"{where}: schema {schema!r} is unknown, expected {SCHEMA}; run it again with force=true")
    _check_keys(result, Result.__required_keys__, where, "")
    _check_keys(result["metrics"], Metrics.__required_keys__, where, "metrics")
    if not isinstance(result["metrics"]["phases"], list | tuple):
        raise ValueError(f"{where}: key 'metrics.phases' is not a list")
    for index, phase in enumerate(result["metrics"]["phases"]):
        _check_keys(phase, PhaseResult.__required_keys__, where, f"metrics.phases[{index}]")
    if result["run_id"] != run_id:
        raise ValueError(
            f"{where}: key 'run_id' is {result['run_id']!r}, not the name of its folder; a copied or renamed run would "
            "be counted twice: give the folder its own name back or move it out"
        )


def _check_keys(value: object, expected: frozenset[str], where: str, path: str) -> None:
    prefix = f"{path}." if path else ""
    if not isinstance(value, dict):
        raise ValueError(f"{where}: key '{path}' is a {type(value).__name__}, not a mapping")
    if missing := sorted(expected - value.keys()):
        raise ValueError(f"{where}: key '{prefix}{missing[0]}' is missing ({len(missing)} missing in all)")
    if unknown := sorted(value.keys() - expected):
        raise ValueError(f"{where}: key '{prefix}{unknown[0]}' is unknown; schema {SCHEMA} has no such key")
