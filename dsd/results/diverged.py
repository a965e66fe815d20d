"""Runs that diverged are results of their arm: what is said of the survivors alone would flatter it.

experiments/<study>/diverged.json     [{"study", "arm", "seed", "run_id", "reason"}], if there are any
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dsd.results.members import belongs
from dsd.results.study import Study

Lost = dict[str, Any]


def collect(study: Study, runs: Iterable[Mapping[str, Any]]) -> list[Lost]:
    """Those of the store's diverged runs that belong to the study, and the runs that would have started from them."""
    found = []
    for run in runs:
        where, seed = run["config"], run["seed"]
        lost = [
            (a.name, seed) for a in study.arms if seed in study.seeds_of(a) and belongs(where, study.words_of(a), seed)
        ]
        if lost and where["method"]["name"] == "baseline":
            lost += [(a.name, s) for a in study.arms for s in study.seeds_of(a) if study.first_seed(a, s) == seed]
        about = {"study": study.name, "run_id": run["run_id"], "reason": run["reason"]}
        found += [about | {"arm": arm, "seed": seed} for arm, seed in lost]
    return found


def kept(old: Iterable[Lost], new: Iterable[Lost], records: Iterable[Mapping[str, Any]]) -> list[Lost]:
    """The old and the new ones without those that a record has come of, of the run itself or of the one it would start from."""
    records = list(records)
    done, finished = {(r["study"], r["arm"], r["seed"]) for r in records}, {r["run_id"] for r in records}
    found = {(one["study"], one["arm"], one["seed"]): one for one in (*old, *new)}
    return [found[key] for key in sorted(found) if key not in done and found[key]["run_id"] not in finished]
