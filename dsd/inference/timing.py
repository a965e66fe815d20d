"""How long something takes on a machine that is never quite quiet: interleaved turns, medians, and intervals of these.

In every round each arm has one turn: a call that doesn't count, then as many as fill a few milliseconds. Arms that are
compared share rounds, so that a slow minute meets all of them. A turn in which the system took a core away from this process
(its involuntary context switches say so) is disturbed and does not count, as long as there are undisturbed ones. With one
thread the clock is that thread's own processor time, which stands still while others run: then no turn is disturbed.
"""

from __future__ import annotations

import math
import resource
import statistics
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

import torch

TURN = 0.004  # seconds of calls that one turn fills at least
READ = 1 << 28  # bytes, beyond any cache: the array whose reading is the machine's bandwidth
SETTLE = 0.005  # seconds in which threads that wait by spinning, as OpenBLAS's do after each call, go to sleep (dsd/verbs.py)
ENOUGH = 3  # undisturbed turns that are worth more than all of them together


@dataclass(frozen=True)
class Timing:
    """Seconds a call: the median over turns, and an interval of it with a confidence of 95 % (below six turns: the range).

    quiet: the undisturbed ones among all `turns`. If these are fewer than three, the faster half of all turns counts, which
    is too kind, and the interval means little.
    """

    median: float
    low: float
    high: float
    turns: int
    quiet: int

    @classmethod
    def of(cls, turns: list[tuple[float, bool]]) -> Timing:
        """From turns of (seconds, disturbed)."""
        quiet = [seconds for seconds, disturbed in turns if not disturbed]
        fast = sorted(seconds for seconds, _ in turns)[: -(-len(turns) // 2)]
        counted = quiet if len(quiet) >= ENOUGH or len(quiet) == len(turns) else fast
        return cls(statistics.median(counted), *interval(counted), len(turns), len(quiet))


def interleaved(
    arms: Mapping[str, Callable[[], object]], *, rounds: int, budget: float = math.inf, spinning: Container[str] = ()
) -> dict[str, Timing]:
    """The timing of each arm, from rounds until each has had `rounds` undisturbed turns, or `budget` seconds are over.

    At least two rounds are made; without a budget at most `rounds`. Before and after a turn of the `spinning` arms all threads
    have time to go to sleep, which neither turn counts.
    """
    turns: dict[str, list[tuple[float, bool]]] = {name: [] for name in arms}
    for run in arms.values():
        run()  # whatever has to be compiled
    began, number = time.perf_counter(), 0
    most = rounds if budget == math.inf else 20 * rounds
    while number < 2 or (number < most and time.perf_counter() - began < budget and _lacking(turns, rounds)):
        number += 1
        for name, run in arms.items():
            time.sleep(SETTLE * (name in spinning))
            turns[name].append(_turn(run))
            time.sleep(SETTLE * (name in spinning))
    return {name: Timing.of(each) for name, each in turns.items()}


def _lacking(turns: Mapping[str, list[tuple[float, bool]]], rounds: int) -> bool:
    return any(sum(not disturbed for _, disturbed in each) < rounds for each in turns.values())


def _turn(run: Callable[[], object]) -> tuple[float, bool]:
    alone = torch.get_num_threads() == 1
    clock = time.thread_time if alone else time.perf_counter
    taken, first = _taken(), clock()
    run()
    once = clock() - first
    if once > 5 * TURN:
        return once, not alone and _taken() > taken  # long enough to count by itself: no warming up shows in it
    calls = max(1, math.ceil(TURN / max(once, 1e-9)))
    taken, first = _taken(), clock()
    for _ in range(calls):
        run()
    return (clock() - first) / calls, not alone and _taken() > taken


def _taken() -> int:
    """How often a core was taken away from any thread of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def interval(values: list[float]) -> tuple[float, float]:
    """The narrowest pair of order statistics that holds the median with 95 % confidence; below six values, all there are."""
    ordered, n = sorted(values), len(values)
    outside, rank = 2 * 0.5**n, 0
    while rank + 1 < n / 2 and outside + 2 * math.comb(n, rank + 1) * 0.5**n <= 0.05:
        rank += 1
        outside += 2 * math.comb(n, rank) * 0.5**n
    return ordered[rank], ordered[-1 - rank]


def bandwidth() -> float:
    """Bytes a second at which torch's threads read memory beyond the caches: a sum of 256 MiB, the median of 25 turns.

    Steady within a process, but not always the same in the next: one virtual machine had 86 GB/s in some and 53 in others.
    """
    data = torch.ones(READ // 4)
    data.sum()
    return READ / statistics.median(_turn(data.sum)[0] for _ in range(25))
