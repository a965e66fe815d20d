"""Energy of a product by the 45 nm table of the papers: a model, never a measurement. And what this machine measures itself.

Each weight that is fetched from DRAM costs 640 pJ for 32 bits, inputs and outputs 5 pJ from SRAM, an addition 0.9 pJ and a
multiplication 3.7 pJ (Learning both Weights and Connections, NIPS 2015, Figure 1).
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

from dsd.inference.published import PICOJOULE

WORD = 4  # bytes that an access counts for
RAPL = Path("/sys/class/powercap")


def modelled(*, weight_bytes: float, products: float, inputs: float, outputs: float) -> float:
    """Joules by the 45 nm model: weights once from DRAM, an input read for each product and outputs written in SRAM."""
    arithmetic = products * (PICOJOULE["float add"] + PICOJOULE["float multiply"])
    memory = weight_bytes / WORD * PICOJOULE["DRAM"] + (products + inputs + outputs) * PICOJOULE["SRAM"]
    return 1e-12 * (arithmetic + memory)


def counters(root: Path = RAPL) -> list[Path]:
    """Intel's and AMD's energy counters of whole packages that this process may read; none on most virtual machines."""
    found = []
    for file in sorted(root.glob("*rapl:*/energy_uj")):
        try:
            int(file.read_text())
        except (OSError, ValueError):
            continue
        if (file.parent / "name").read_text().startswith("package"):
            found.append(file)
    return found


def measured(before: dict[Path, int], after: dict[Path, int]) -> float:
    """Joules between two readings of the counters, which wrap around."""
    total = 0
    for file, start in before.items():
        passed = after[file] - start
        if passed < 0:
            passed += int((file.parent / "max_energy_range_uj").read_text())
        total += passed
    return total / 1e6


def reading(root: Path = RAPL) -> dict[Path, int]:
    """The counters now, in microjoules."""
    return {file: int(file.read_text()) for file in counters(root)}


def per_call(run: Callable[[], object], *, seconds: float = 0.5, root: Path = RAPL) -> float | None:
    """Joules of one call, by the counters over `seconds` of calls; None where nothing can be read."""
    before = reading(root)
    if not before:
        return None
    calls, began = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - began < seconds:
        run()
        calls += 1
    return measured(before, reading(root)) / calls


def sentence(root: Path = RAPL) -> str:
    """Which energy is measured here, in words."""
    if found := counters(root):
        return f"Energy is measured through RAPL, {len(found)} package{'s' * (len(found) > 1)}, everything on them included."
    gpu = "" if importlib.util.find_spec("pynvml") is None else " NVML counts GPUs only, and nothing here runs on one."
    return "This machine lets no energy be read (no RAPL counter): all joules are modelled, none measured." + gpu
