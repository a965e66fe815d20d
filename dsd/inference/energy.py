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


def gpus() -> list[int]:
    """Millijoules of each GPU whose counter NVML reads now; none without a GPU, its driver, or the package nvidia-ml-py."""
    if importlib.util.find_spec("pynvml") is None:
        return []
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    found = []
    for number in range(pynvml.nvmlDeviceGetCount()):
        try:
            found.append(int(pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByIndex(number))))
        except pynvml.NVMLError:  # GPUs before Volta have no such counter
            continue
    return found


def per_call(run: Callable[[], object], *, seconds: float = 0.5, root: Path = RAPL) -> dict[str, float]:
    """Joules of one call, by the counters over `seconds` of calls: `joules` by RAPL, `gpu_joules` by NVML, what can be read."""
    before, gpus_before = reading(root), gpus()
    if not before and not gpus_before:
        return {}
    calls, began = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - began < seconds:
        run()
        calls += 1
    found = {"joules": measured(before, reading(root)) / calls} if before else {}
    if gpus_before:
        found["gpu_joules"] = 1e-3 * (sum(gpus()) - sum(gpus_before)) / calls
    return found


def sentence(root: Path = RAPL) -> str:
    """Which energy is measured here, in words."""
    packages, cards, said = len(counters(root)), len(gpus()), []
    if packages:
        said.append(f"Energy is measured through RAPL, {_several(packages, 'package')}, everything on them included.")
    if cards:
        said.append(
            f"{_several(cards, 'GPU')} measured through NVML: what they take while these products run on the CPU, so their rest."
        )
    if said:
        return " ".join(said)
    nvml = (
        "no package nvidia-ml-py (pip install 'dsd[nvml]')"
        if importlib.util.find_spec("pynvml") is None
        else "no GPU that NVML can ask"
    )
    return f"This machine lets no energy be read (no RAPL counter, {nvml}): all joules are modelled, none measured."


def _several(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count > 1)}"
