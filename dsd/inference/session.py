"""`dsd bench`: what was asked for is measured, printed, and kept as JSON, in which parts that were not asked for stay."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from dsd.inference import bench, networks
from dsd.results.provenance import hardware, versions
from dsd.results.store import atomic_write

PARTS = ("layers", "networks", "crossover")


def measure(
    parts: Iterable[str],
    *,
    threads: int | None,
    rounds: int,
    batches: Iterable[int],
    names: Iterable[str],
    compiles: bool,
    budget: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """The parts, all with the same number of threads (default: torch's own). ValueError for an unknown network."""
    if unknown := [name for name in names if name not in networks.NETWORKS]:
        raise ValueError(f"there is no network {unknown[0]!r} in the bench; it has {', '.join(networks.NETWORKS)}")
    if threads is not None:
        torch.set_num_threads(threads)
    found: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*CSR tensor support is in beta.*")
        if "layers" in parts:
            say("EIE's nine layers")
            found |= bench.layers(rounds=rounds, batches=batches)
        if "crossover" in parts:
            say("density x batch")
            found["crossover"] = bench.crossover()
        if "networks" in parts:
            found["networks"] = [
                row
                for name in names
                for row in networks.network(name, batches, rounds=rounds, budget=budget, compiles=compiles, say=say)
            ]
    return found | {"threads": torch.get_num_threads(), "machine": hardware(), "versions": versions()}


def merged(found: dict[str, Any], path: Path | None) -> dict[str, Any]:
    """`found` over what `path` already holds; written there. A row for the same network and batch replaces the old one.

    ValueError if the old parts are of another machine, other versions or another number of threads.
    """
    if path is None:
        return found
    old: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for key in ("machine", "versions", "threads"):
        if old and old[key] != found[key]:
            raise ValueError(f"{path} was measured with another {key}: {old[key]}, now {found[key]}; give another file")
    if "networks" in found and "networks" in old:
        new = {(row["network"], row["batch"]) for row in found["networks"]}
        kept = [row for row in old["networks"] if (row["network"], row["batch"]) not in new]
        order = {name: number for number, name in enumerate(networks.NETWORKS)}
        rows = sorted(kept + found["networks"], key=lambda row: (order[row["network"]], row["batch"]))
        found = found | {"networks": rows}
    whole = old | found
    atomic_write(path, json.dumps(whole, indent=1) + "\n")
    return whole


def write_crossover(result: dict[str, Any], path: Path) -> None:
    """`path` holds the table that the runtime decides by, and where it was measured."""
    table = bench.table_of(result["crossover"]["cells"])
    atomic_write(path, json.dumps(table | {"machine": result["machine"], "versions": result["versions"], "threads": result["threads"]}, indent=1) + "\n")  # fmt: skip
