"""What `dsd bench` found, as tables for a terminal and for Markdown: ours beside its peers and beside the papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsd.inference.bench import CONVOLUTIONS, picked
from dsd.inference.crossover import KINDS
from dsd.inference.energy import modelled, sentence
from dsd.inference.networks import WHY_NOT, expected
from dsd.inference.peers import ARMS, WITHOUT, WORDS
from dsd.inference.published import LAYERS, MICROSECONDS, speedup
from dsd.inference.timing import ENOUGH

ALLOWED = 0.7  # of what bytes at the measured bandwidth allow


@dataclass(frozen=True)
class Table:
    """A title, what the columns are called, and cells as text."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table in Markdown."""
        lines = [f"| {' | '.join(row)} |" for row in (self.head, ["---"] * len(self.head), *self.rows)]
        return "\n".join([f"**{self.title}**", "", *lines, ""])

    def rich(self) -> Any:
        """The table for a terminal."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table as Rich

        made = Rich(title=self.title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title_justify="left")
        for number, name in enumerate(self.head):
            made.add_column(name, justify="left" if number == 0 else "right", no_wrap=True)
        for row in self.rows:
            made.add_row(*row)
        return made


def tables(result: Mapping[str, Any]) -> list[Table]:
    """All that there is to say of a result; parts that were not measured have no table."""
    found = [_layers(result, batch) for batch in sorted({row["batch"] for row in result.get("layers", ())})]
    if result.get("layers"):
        found += [_bounds(result), _energy(result)]
    if result.get("networks"):
        found += [_networks(result)]
    if result.get("crossover"):
        found += [_map(result, kind) for kind in KINDS]
    return [table for table in found if table.rows]


def sentences(result: Mapping[str, Any]) -> list[str]:
    """On what it was measured, what the words mean, and what is missing."""
    machine, versions = result["machine"], result["versions"]
    lines = [
        f"{machine['cpu']}, {machine['cores_physical']} cores, {result['threads']} {'thread' if result['threads'] == 1 else 'threads'} for all; torch {versions['torch']}, "
        f"scipy {versions['scipy']}, Python {versions['python']}. Times are medians of interleaved turns, +- half of their 95 % interval.",
    ]
    if result["threads"] == 1:
        lines.append(
            "On one thread time is the processor's time of that thread: other processes lengthen it by the caches they take only."
        )
    if "bandwidth" in result:
        lines += [
            f"Measured bandwidth: {result['bandwidth'] / 1e9:.1f} GB/s, read by all threads beyond the caches. A matrix that the last cache "
            "holds in part is read faster: shares may exceed 100 %.",
            "Arms: " + "; ".join(f"{name}: {WORDS[name]}" for name in _arms(result)) + ".",
        ]
    if result.get("layers") and "GraphBLAS" not in _arms(result):
        lines.append(WITHOUT)
    if result["threads"] > 1 and result.get("networks"):
        lines.append(
            "Networks at batch 1: torch multiplies a matrix by one vector on one core, sparse products use all of them, so part of a gain "
            "there is that of the second core; the layers' column over NumPy is without it."
        )
    timings = [t for row in (*result.get("layers", ()), *result.get("networks", ())) for t in row["arms"].values()]
    if unsure := sum(t["quiet"] < min(3, t["turns"]) for t in timings):
        lines.append(
            f"The machine was not quiet: {unsure} of {len(timings)} timings had fewer than three turns without a core being taken "
            "away, and are medians of the faster half (marked ~)."
        )
    if few := sum(_counted(t) < 6 for t in timings):
        lines.append(
            f"{few} of {len(timings)} timings have fewer than six turns: theirs is the whole range, not a 95 % interval."
        )
    if result.get("networks"):
        lines.append(WHY_NOT)
    if by_table := [
        f"{r['network']} at {r['batch']}" for r in result.get("networks", ()) if r.get("chosen") == "table"
    ]:
        lines.append(f"The stored table, not the clock, chose how layers multiply in: {', '.join(by_table)}.")
    if left := result.get("left_out"):
        what = "; ".join(map(expected, left))
        lines.append(
            f"Left out since it takes long, or the time was up: {what}. `dsd bench --networks NAME --batch N` measures it."
        )
    return [*lines, result.get("energy") or sentence()]


def _counted(timing: Mapping[str, Any]) -> int:
    """How many turns are behind a median."""
    quiet, turns = int(timing["quiet"]), int(timing["turns"])
    return quiet if quiet >= ENOUGH or quiet == turns else -(-turns // 2)


def _arms(result: Mapping[str, Any]) -> list[str]:
    """The arms that any layer has."""
    return [arm for arm in ARMS if any(arm in row["arms"] for row in result.get("layers", ()))]


def _layers(result: Mapping[str, Any], batch: int) -> Table:
    rows = []
    for row in (row for row in result["layers"] if row["batch"] == batch):
        arms = row["arms"]
        peer = min(arms[name]["median"] for name in ("dense", "compiled") if name in arms)
        pick = picked(row)
        runtime = arms[pick]["median"]
        times = [_time(arms[name], per=batch) if name in arms else "-" for name in _arms(result)]
        papers = [f"{speedup(machine, batch, row['layer']):.2f}x" if (machine, batch) in MICROSECONDS else "-" for machine in
                  ("Core i7-5930K", "Titan X", "Tegra K1")]  # fmt: skip
        blas = [f"{arms['NumPy']['median'] / runtime:.2f}x"] if "NumPy" in arms else ["-"]
        rows.append(
            [row["layer"], f"{100 * row['density']:.0f} %", *times, pick, f"{peer / runtime:.2f}x", *blas, *papers]
        )
    head = ["layer", "kept", *_arms(result), "picked", "gain", "over NumPy", "i7", "Titan X", "TK1"]
    title = (
        f"Batch {batch}: microseconds an input; gain of the runtime's pick over torch's faster dense one and over NumPy's, and the "
        "papers' gains"
    )
    return Table(title, head, rows)


def _bounds(result: Mapping[str, Any]) -> Table:
    rows = []
    for row in result["layers"]:
        for arm in ("sparse", "codebook"):
            cell = row["arms"][arm]
            if row["batch"] == 1 or arm == "sparse":
                rate = row["kept"] * row["batch"] / cell["median"]
                rows.append([
                    row["layer"], str(row["batch"]), arm, f"{cell['bytes'] / 1e6:.2f} MB", f"{100 * cell['share']:.0f} %",
                    f"{rate / 1e9:.1f} G/s", bound(cell, rate, row["batch"]),
                ])  # fmt: skip
    title = (
        "What bounds the sparse products: bytes moved, their share of the bandwidth, and look-ups (products) a second"
    )
    return Table(title, ["layer", "batch", "form", "moved", "of bandwidth", "products", "bound"], rows)


def bound(cell: Mapping[str, float], rate: float, batch: int) -> str:
    """Why a product is no faster: its bytes, if it has 70 % of the bandwidth, or its look-ups, if it has 70 % of their rate in the cache."""
    if cell["share"] >= ALLOWED:
        return "its bytes"
    if batch > 1:
        return f"products: each weight is used {batch} times"
    if "cached" not in cell:
        return "measured before its rate in the cache was"
    most = f"{cell['cached'] / 1e9:.1f} G/s with its weights in the second cache"
    return f"look-ups: {most}" if rate >= ALLOWED * cell["cached"] else f"not explained; look-ups: {most}"


def _energy(result: Mapping[str, Any]) -> Table:
    rows: list[list[str]] = []
    ways = ("dense", "sparse", "codebook")
    by_gpu = any("gpu_joules" in arm for row in result["layers"] for arm in row["arms"].values())
    meters = {"joules": "measured"} | ({"gpu_joules": "GPU"} if by_gpu else {})
    for row in (row for row in result["layers"] if row["batch"] == 1):
        width, outputs, _ = LAYERS[row["layer"]]
        joules = [
            modelled(weight_bytes=arms["bytes"] - 4 * (width + outputs), products=n, inputs=width, outputs=outputs)
            for arms, n in (
                (row["arms"]["dense"], width * outputs), (row["arms"]["sparse"], row["kept"]), (row["arms"]["codebook"], row["kept"]),
            )
        ]  # fmt: skip
        read = [row["arms"][arm].get(meter) for meter in meters for arm in ways]
        cells = [f"{1e6 * j:.0f}" for j in joules] + [f"{joules[0] / j:.1f}x" for j in joules[1:]]
        rows.append([row["layer"], *cells, *("-" if j is None else f"{1e6 * j:.0f}" for j in read)])
    title = (
        "Energy, microjoules an input at batch 1: MODELLED by the 45 nm table (640 pJ for 4 bytes of DRAM); in the last columns, "
        "where the machine lets it be read, measured through RAPL" + (" and, for the GPUs, NVML" if by_gpu else "")
    )
    head = [
        "layer",
        *ways,
        "sparse saves",
        "codebook saves",
        *(f"{way} {word}" for word in meters.values() for way in ways),
    ]
    return Table(title, head, rows)


def _networks(result: Mapping[str, Any]) -> Table:
    rows = []
    for row in result["networks"]:
        arms, size = row["arms"], row["resident"]
        peer = min(arms[name]["median"] for name in ("dense", "compiled") if name in arms)
        times = [
            _time(arms[name], per=row["batch"], unit=1e3) if name in arms else "-"
            for name in ("dense", "compiled", "sparse", "codebook")
        ]
        gains = [f"{peer / arms[form]['median']:.2f}x" for form in ("sparse", "codebook")]
        reads = [f"{100 * size[form] / arms[form]['median'] / result['bandwidth']:.0f} %" for form in ("dense", "sparse")] if "bandwidth" in result else ["-"] * 2  # fmt: skip
        memory = [f"{size[form] / 1e6:.1f}" for form in ("dense", "sparse", "codebook")]
        ways = "; ".join(f"{n} {way}" for way, n in sorted(row["layers"]["sparse"].items()))
        ways += "; compiled" * ("sparse" in row.get("whole", ()))
        rows.append(
            [row["network"], f"{100 * row['density']:.0f} %", str(row["batch"]), *times, *gains, *memory, *reads, ways]
        )
    head = ["network", "kept", "batch", "dense", "compiled", "sparse", "codebook", "sparse gains", "codebook", "MB dense",
            "sparse", "codebook", "of bandwidth", "sparse", "layers of sparse"]  # fmt: skip
    title = (
        "Whole networks: milliseconds an input, gain over the faster dense one, resident weights, and the share of the bandwidth that "
        "reading them once takes (dense, sparse)"
    )
    return Table(title, head, rows)


def _map(result: Mapping[str, Any], kind: str) -> Table:
    cells = [cell for cell in result["crossover"]["cells"] if cell["kind"] == kind]
    batches = sorted({cell["batch"] for cell in cells})
    what = f"{result['crossover']['size']} x {result['crossover']['size']}"
    if kind in CONVOLUTIONS:
        channels, kernel, side = CONVOLUTIONS[kind]
        what = f"{kernel}x{kernel}, {channels} channels, {side} pixels"
    rows = []
    for density in sorted({cell["density"] for cell in cells}):
        row = {cell["batch"]: cell for cell in cells if cell["density"] == density}
        gains = [f"{row[b]['dense'] / row[b]['sparse']:.2f} / {row[b]['dense'] / row[b]['coded']:.2f}" for b in batches]
        rows.append([f"{100 * density:.0f} %", *gains])
    title = f"Where sparsity pays, {kind} ({what}): dense over sparse / over codebook, by density and batch"
    return Table(title, ["kept", *map(str, batches)], rows)


def _time(timing: Mapping[str, float], *, per: int, unit: float = 1e6) -> str:
    """Time an input, and half of its interval if at least three turns are behind it."""
    median, half = unit * timing["median"] / per, unit * (timing["high"] - timing["low"]) / 2 / per
    digits = 0 if median >= 100 else 1 if median >= 10 else 2
    unsure = "~" if timing["quiet"] < min(3, timing["turns"]) else ""
    return f"{unsure}{median:.{digits}f}" + (f" ±{half:.{digits}f}" if _counted(timing) >= ENOUGH else "")
