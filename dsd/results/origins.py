"""Whether runs that say they start from the same run did so: trained twice, on two machines, it has two sets of weights.

A run's config keeps the SHA-256 of the file it started from (`init_sha256`), a record of a run that others start from that of its own
last weights (`final_sha256`). Records made before that was kept have neither, and are only told beside others that have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsd.results.study import Study


@dataclass(frozen=True)
class Mixed:
    """Arms whose runs do not, or may not, start from the weights of the run they name; `sentence` says which."""

    arms: frozenset[str]
    certain: bool
    sentence: str


def mixed(study: Study, records: Sequence[Mapping[str, Any]]) -> list[Mixed]:
    """One for every run from which others of the study start, if their weights are not known to be the same."""
    finals = {r["run_id"]: r["final_sha256"] for r in records if r["study"] == study.name and r.get("final_sha256")}
    starts: dict[str, dict[str | None, list[Mapping[str, Any]]]] = {}
    for one in (r for r in records if r["study"] == study.name and r["config"].get("init_from")):
        weights = one["config"].get("init_sha256")
        starts.setdefault(one["config"]["init_from"], {}).setdefault(weights, []).append(one)
    found = []
    for start, by_weights in starts.items():
        known = {*by_weights, finals.get(start)} - {None}
        if len(by_weights) < 2 and len(known) < 2:
            continue
        arms = frozenset(r["arm"] for runs in by_weights.values() for r in runs)
        each = "; ".join(f"{_named(runs)} from {_short(weights)}" for weights, runs in by_weights.items())
        own = f"; its own record has {_short(finals[start])}" if start in finals else ""
        do = "do not" if len(known) > 1 else "may not"
        found.append(
            Mixed(
                arms,
                len(known) > 1,
                f"the runs that start from {start} {do} all start from the same weights ({each}{own})",
            )
        )
    return found


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _named(runs: Sequence[Mapping[str, Any]]) -> str:
    seeds: dict[str, list[int]] = {}
    for one in runs:
        seeds.setdefault(one["arm"], []).append(one["seed"])
    return ", ".join(f"{arm} with seed {', '.join(map(str, sorted(own)))}" for arm, own in seeds.items())


def _short(weights: str | None) -> str:
    return f"weights {weights[:12]}" if weights else "weights that were not noted"
