"""The name of a run: a hash of everything that can change its numbers, and of nothing else.

Two runs with the same id are the same computation, wherever they ran and whatever they were called. What is dropped
is listed in `IGNORED`; everything else counts, so a key nobody thought of gives a new id, never a wrong cached result.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

IGNORED: tuple[str, ...] = (
    # what the run is called and who reads about it
    "name",
    "experiment",
    "profile",
    "study",
    "tags",
    "published",
    "track",
    # where it is stored, and whether it is run at all
    "runs",
    "force",
    "dry_run",
    "checkpoint",
    "save",
    "hydra",
    "progress",
    # where the data lie and how fast they are read
    "data.root",
    "data.download",
    "data.cache",
    "data.num_workers",
    "data.workers",
    "data.eval_batch_size",
    "data.pin_memory",
    # which machine does it and how much it says
    "trainer.accelerator",
    "trainer.threads",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "trainer.max_time",  # a run that it stops is not finished
    "trainer.num_workers",
)
"""Dotted paths, from the top of the resolved config, of the keys that cannot change a run's numbers.

A path drops the key and all below it. It is matched whole: `data.root` does not touch `model.root` or `data.x.root`.
"""

SHARES = ("trainer.limit_", "trainer.overfit_batches")  # a whole number is one of batches, a fraction a share of them

_IGNORED_PATHS = frozenset(tuple(path.split(".")) for path in IGNORED)


def run_id(config: Mapping[str, Any]) -> str:
    """The first 12 hex digits of the SHA-256 of what can change the numbers of a run.

    `config` is fully resolved: dicts, lists, strings, numbers, booleans and None. The order of keys does not matter,
    and numbers count by value (1, 1.0 and 1e0 are the same, but for Lightning's limits, where 1 is a batch and 1.0 all);
    a key set to None is not the same as an absent key.

    Raises TypeError naming the key when a value is anything else (a path, a tensor, an unresolved config node).
    """
    text = json.dumps(_canonical(config, ()), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:12]


def _canonical(value: object, path: tuple[str, ...]) -> object:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        whole = value.is_integer() and not _dotted(path).startswith(SHARES)
        return int(value) if whole else float(value)
    if isinstance(value, list | tuple):
        return [_canonical(item, (*path, str(index))) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str | int):
                raise TypeError(f"config key {key!r} in {_dotted(path)} is a {type(key).__name__}, not a string")
        return {
            str(key): _canonical(item, (*path, str(key)))
            for key, item in value.items()
            if (*path, str(key)) not in _IGNORED_PATHS
        }
    raise TypeError(
        f"config value {_dotted(path)} is a {type(value).__name__}; the run id needs a resolved config of "
        "dicts, lists, strings, numbers, booleans and None"
    )


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(path) or "the top level"
