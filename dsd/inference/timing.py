"""How long something takes on a machine that is never quite quiet: interleaved turns, medians, and intervals of these.

In every round each arm has one turn: a call that doesn't count, then as many as fill a few milliseconds. Arms that are
compared share rounds, so that a slow minute meets all of them.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

TURN = 0.004  # seconds of calls that one turn fills at least
READ = 1 << 28  # bytes, beyond any cache: the array whose reading is the machine's bandwidth


@dataclass(frozen=True)
class Timing:
    """Seconds a call: the median over turns, and an interval of it with a confidence of 95 % or more (see `interval`)."""

    median: float
    low: float
    high: float
    turns: int


def interleaved(arms: Mapping[str, Callable[[], object]], *, rounds: int, budget: float = math.inf) -> dict[str, Timing]:
    """The timing of each arm over `rounds` rounds, or as many (at least two) as begin within `budget` seconds."""
    turns: dict[str, list[float]] = {name: [] for name in arms}
    for run in arms.values():
        run()  # whatever has to be compiled
    began = time.perf_counter()
    for number in range(rounds):
        if number >= 2 and time.perf_counter() - began > budget:
            break
        for name, run in arms.items():
            turns[name].append(_turn(run))
    return {name: Timing(statistics.median(v), *interval(v), len(v)) for name, v in turns.items()}


def _turn(run: Callable[[], object]) -> float:
    first = time.perf_counter()
    run()
    second = time.perf_counter()
    if second - first > 10 * TURN:
        return second - first  # long enough to count by itself: no warming up shows in it
    calls = max(1, math.ceil(TURN / (second - first)))
    second = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - second) / calls


def interval(values: list[float]) -> tuple[float, float]:
    """The narrowest pair of order statistics that holds the median with 95 % confidence; below six values, all there are."""
    ordered, n = sorted(values), len(values)
    outside, rank = 2 * 0.5**n, 0
    while rank + 1 < n / 2 and outside + 2 * math.comb(n, rank + 1) * 0.5**n <= 0.05:
        rank += 1
        outside += 2 * math.comb(n, rank) * 0.5**n
    return ordered[rank], ordered[-1 - rank]


def bandwidth() -> float:
    """Bytes a second at which torch's threads read memory beyond the caches: a sum of 256 MiB, the best of nine."""
    data = torch.ones(READ // 4)
    data.sum()
    return READ / min(_turn(data.sum) for _ in range(9))
