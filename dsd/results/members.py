"""Which runs are a study's: they are found by the words that make them, and what is missing follows from the same words."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dsd.results.study import Metric, Study, Values, meant


def belongs(config: Mapping[str, Any], words: Iterable[str], seed: int) -> bool:
    """True when every word `key=value` is true of a run's resolved config; a group's word is about its choice."""
    return all(_said(config, *word.partition("=")[::2]) == meant(word.partition("=")[2], seed) for word in words)


def _said(config: Mapping[str, Any], key: str, value: str) -> object:
    if key == "method":
        return config["method"]["name"]
    if key in config.get("choices", {}):
        return config["choices"][key]
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return f"no key {key}"
        node = node[part]
    return node


def declared(study: Study, records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The records without those of the study's own whose arm or seed it no longer declares; those of other studies stay."""
    seeds = {arm.name: set(study.seeds_of(arm)) for arm in study.arms}
    return [r for r in records if r["study"] != study.name or r["seed"] in seeds.get(r["arm"], ())]


def values(study: Study, records: Sequence[Mapping[str, Any]], arm: str, metric: Metric, phase: int = -1) -> Values:
    """The metric of each seed that an arm declares, NaN where it was not measured."""
    seeds = {seed for one in study.arms if one.name == arm for seed in study.seeds_of(one)}
    own = (r for r in records if r["study"] == study.name and r["arm"] == arm and r["seed"] in seeds)
    return {r["seed"]: metric.of(r, phase) for r in own}


def missing(study: Study, records: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """The seeds that are not there yet, by arm; arms that are complete are left out. `records`: also those that diverged."""
    there = {(record["arm"], record["seed"]) for record in records if record["study"] == study.name}
    lacking = {arm.name: [s for s in study.seeds_of(arm) if (arm.name, s) not in there] for arm in study.arms}
    return {name: seeds for name, seeds in lacking.items() if seeds}


def command(study: Study, arm: str, seeds: Sequence[int]) -> str:
    """What trains the missing seeds of an arm."""
    words = shlex.join(study.words_of(study.arm(arm)))
    listed = ",".join(map(str, seeds))
    return f"python run.py {'-m ' if len(seeds) > 1 else ''}{words} seed={listed}"
