"""What each arm of a study costs, from its records: updates, images and seconds, the shared first phase counted in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from dsd.results.study import Study

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Cost:
    """Of one run of an arm, from nothing to its final weights.

    `shared` of the updates are the baseline's that it starts from, trained once for several arms. `images` are with
    repetition (utterances and sentences alike), `seconds` of training the median over the runs, on whatever else the
    machine did then. `work` is the share of weights that were not 0, the mean over all updates, each phase taken as it ended:
    what a machine that skips zeros would have to do.
    """

    label: str
    updates: float
    shared: float
    images: float
    seconds: float
    work: float


def costs(study: Study, records: Records) -> tuple[Cost, ...]:
    """A line for each arm that has runs, in the study's order; a first phase may be among the records of another study."""
    runs = {
        r["run_id"]: r for r in sorted(records, key=lambda r: r["study"] == study.name)
    }  # its own, if there are two
    found = []
    for arm in study.arms:
        own = [record for record in records if (record["study"], record["arm"]) == (study.name, arm.name)]
        whole = [_chain(record, runs) for record in own]
        if whole:
            phases = [[phase for record in chain for phase in record["phases"]] for chain in whole]
            shared = fmean(sum(record["updates"] for record in chain[:-1]) for chain in whole)
            found.append(Cost(
                label=arm.title, shared=shared,
                updates=fmean(sum(record["updates"] for record in chain) for chain in whole),
                images=fmean(sum(record["images"] for record in chain) for chain in whole),
                seconds=median(sum(record["seconds"] for record in chain) for chain in whole),
                work=fmean(_work(one) for one in phases),
            ))  # fmt: skip
    return tuple(found)


def _chain(record: Mapping[str, Any], runs: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The run and those it starts from, the first first; what is not among the records is left out."""
    chain = [record]
    while (before := runs.get(chain[0]["config"].get("init_from"))) is not None and before not in chain:
        chain.insert(0, before)
    return chain


def _work(phases: Sequence[Mapping[str, Any]]) -> float:
    total = sum(phase["updates"] for phase in phases)
    return float(sum(phase["updates"] * (1 - phase["sparsity"]) for phase in phases) / total)
