"""`dsd bench`: what was asked for is measured, printed, and kept as JSON, in which parts that were not asked for stay."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from dsd.inference import bench, energy, networks
from dsd.inference.kernels import most_threads
from dsd.inference.published import LAYERS
from dsd.results.provenance import hardware, versions
from dsd.results.store import atomic_write

LISTS = {  # parts that are lists, and what names a row
    "layers": ("layer", "batch"),
    "networks": ("network", "batch"),
    "left_out": ("network", "batch"),
}


def measure(
    parts: Iterable[str],
    *,
    path: Path | None,
    threads: int | None,
    rounds: int,
    batches: Sequence[int],
    layers: Sequence[str],
    nets: Sequence[str],
    compiles: bool,
    budget: float,
    patience: float,
    minutes: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """The parts, all with the same number of threads (default: torch's own), kept in `path` as soon as they are known.

    A network at a batch that is expected to be timed for longer than `patience` seconds, or to end when all this has taken
    more than so many `minutes`, is left out, and said to be.
    ValueError for an unknown layer or network, or a file of another machine.
    """
    until = time.perf_counter() + 60 * minutes
    for what, asked, known in (("layer", layers, LAYERS), ("network", nets, networks.NETWORKS)):
        if unknown := [name for name in asked if name not in known]:
            raise ValueError(f"there is no {what} {unknown[0]!r} in the bench; it has {', '.join(known)}")
    if (threads or torch.get_num_threads()) > most_threads():
        raise ValueError(
            f"{threads or torch.get_num_threads()} threads for all arms, but numba has at most {most_threads()}: give --threads"
        )
    if threads is not None:
        torch.set_num_threads(threads)
    about = {
        "threads": torch.get_num_threads(),
        "machine": hardware(),
        "versions": versions(),
        "energy": energy.sentence(),
    }
    whole = merged(about, path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*CSR tensor support is in beta.*")
        if "layers" in parts:
            for found in bench.layers(rounds=rounds, batches=batches, names=layers):
                whole = merged(found | about, path, whole)
                say(", ".join(sorted({row["layer"] for row in found.get("layers", ())})) or "bandwidth")
        if "crossover" in parts:
            say("density x batch")
            whole = merged({"crossover": bench.crossover()} | about, path, whole)
        how = {"rounds": rounds, "budget": budget, "compiles": compiles, "patience": patience, "until": until}
        rows = [networks.network(name, batches, **how) for name in nets if "networks" in parts]  # type: ignore[arg-type]
        for row in (next(each) for _ in batches for each in rows):  # each network at the first batch, then at the next
            done = "arms" in row
            whole = merged({"networks" if done else "left_out": [row]} | about, path, whole)
            say(f"{row['network']}, batch {row['batch']}" if done else f"left out: {networks.expected(row)}")
    return whole


def merged(found: dict[str, Any], path: Path | None, old: dict[str, Any] | None = None) -> dict[str, Any]:
    """`found` over `old`, or over what `path` holds; written there. A row of the same name and batch replaces the old one.

    ValueError if the old parts are of another machine, other versions or another number of threads.
    """
    if old is None:
        old = read(path) if path is not None and path.exists() else {}
    for key in ("machine", "versions", "threads"):
        if old and (not isinstance(old, dict) or key not in old):
            raise ValueError(f"{path} is no result of dsd bench (it has no {key}); give another file")
        if old and old[key] != found[key]:
            raise ValueError(f"{path} was measured with another {key}: {old[key]}, now {found[key]}; give another file")
    whole = old | found
    for part, (name, batch) in LISTS.items():
        rows = {(row[name], row[batch]): row for row in [*old.get(part, ()), *found.get(part, ())]}
        order = list(LAYERS if part == "layers" else networks.NETWORKS)
        if part == "left_out":
            there = {(row["network"], row["batch"]) for row in whole.get("networks", ())}
            rows = {key: row for key, row in rows.items() if key not in there}
        if rows or part in whole:
            whole[part] = [rows[key] for key in sorted(rows, key=lambda key: (order.index(key[0]), key[1]))]
    if path is not None:
        atomic_write(path, json.dumps(whole, indent=1) + "\n")
    return whole


def read(path: Path) -> Any:
    """What `path` holds. ValueError if that is no JSON."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no result of dsd bench ({error}); give another file") from error


def scalars(result: dict[str, Any]) -> dict[str, float]:
    """Every number of a result that a curve can be made of, by a name with slashes: microseconds an input, and the bandwidth."""
    found = {"bandwidth": result["bandwidth"]} if "bandwidth" in result else {}
    for part, name in (("layers", "layer"), ("networks", "network")):
        for row in result.get(part, ()):
            for arm, timing in row["arms"].items():
                found[f"{row[name]}/batch {row['batch']}/{arm}"] = 1e6 * timing["median"] / row["batch"]
    return found


def write_crossover(result: dict[str, Any], path: Path) -> None:
    """`path` holds the table that the runtime decides by, and where it was measured."""
    table = bench.table_of(result["crossover"]["cells"])
    atomic_write(path, json.dumps(table | {"machine": result["machine"], "versions": result["versions"], "threads": result["threads"]}, indent=1) + "\n")  # fmt: skip
