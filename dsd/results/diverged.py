"""Runs that diverged are results of their arm: what is said of the survivors alone would flatter it.

experiments/<study>/diverged.json     [{"study", "arm", "seed", "run_id", "reason"}], if there are any
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dsd.results.study import Study, belongs

Lost = dict[str, Any]


def collect(study: Study, runs: Iterable[Mapping[str, Any]]) -> list[Lost]:
    """Those of the store's diverged runs that belong to the study."""
    return [
        {"study": study.name, "arm": arm.name, "seed": run["seed"], "run_id": run["run_id"], "reason": run["reason"]}
        for run in runs
        for arm in study.arms
        if run["seed"] in study.seeds_of(arm) and belongs(run["config"], study.words_of(arm), run["seed"])
    ]


def kept(old: Iterable[Lost], new: Iterable[Lost], records: Iterable[Mapping[str, Any]]) -> list[Lost]:
    """The old and the new ones without those that a record has come of."""
    done = {(r["study"], r["arm"], r["seed"]) for r in records}
    found = {(one["study"], one["arm"], one["seed"]): one for one in (*old, *new)}
    return [found[key] for key in sorted(found) if key not in done]
