"""Load-balanced against plain pruning by the cost model of ESE (PROTOCOLS 2.2): `python -m experiments.balance [WEIGHTS:NAME ...]`.

The time of a sparse matrix-vector product over N processing elements is that of the one with the most kept weights.
Matrices: an LSTM layer of ESE's size and the bench's LSTM and FC layers, drawn with rows of different scale (nobody publishes the
trained ones; how different decides what plain pruning loses, so the first is drawn with four spreads), and trained matrices given as
FILE:PARAMETER. Published, at 10 % density: 6.2x balanced, 5.5x plain.
With `timed` as the first word the bench's own matrices are split over workers as ESE does, the rows of each multiplied by
this machine alone on one thread, the median of eleven turns, and the slowest worker counts. Writes
experiments/balance/results.json (timed.json), in which what is not measured again stays, report.md and speedup.svg.
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure as Canvas
from torch import Tensor

from dsd.inference import Rows
from dsd.inference.published import LAYERS
from dsd.inference.timing import interleaved
from dsd.results.figures import COLOURS, INK, Figure, style, to_svg
from dsd.results.provenance import hardware, versions
from dsd.results.store import atomic_write
from dsd.sparsity.balance import balance, speedup
from dsd.sparsity.granularity import balanced, element
from dsd.weights import load_weights

HERE = Path(__file__).parent / "balance"
SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
ELEMENTS = (8, 32, 64)
SPREAD, SPREADS = 0.15, (0.0, 0.15, 0.3, 0.5)  # standard deviations of the logarithm of a row's scale
TIMED = ("NeuralTalk LSTM", "AlexNet fc7", "VGG-16 fc8")


def drawn(rows: int, columns: int, spread: float) -> Tensor:
    """Gaussian weights whose rows' scales are log-normal with that deviation: trained layers' rows differ too."""
    g = torch.Generator().manual_seed(0)
    return torch.randn(rows, columns, generator=g) * torch.exp(spread * torch.randn(rows, 1, generator=g))


def measured(weight: Tensor) -> list[dict[str, float]]:
    """Speed-up over dense and balance, of plain and balanced pruning, at every sparsity and number of elements."""
    rows, score = [], weight.flatten(1).abs()
    for parts in ELEMENTS:
        for sparsity in SPARSITIES:
            plain, even = element(score, 1 - sparsity), balanced(score, 1 - sparsity, parts=parts)
            rows.append({
                "elements": parts, "sparsity": sparsity, "plain": speedup(plain, parts), "balanced": speedup(even, parts),
                "load_plain": balance(plain, parts), "load_balanced": balance(even, parts),
            })  # fmt: skip
    return rows


def timed(weight: Tensor, parts: int) -> dict[str, float]:
    """Seconds of the slowest of `parts` workers, rows interleaved, 90 % pruned: dense, plain, balanced. One thread each."""
    score, x = weight.abs(), torch.randn(1, weight.shape[1])
    slowest: dict[str, float] = {"dense": 0.0, "plain": 0.0, "balanced": 0.0}
    kept = {"plain": weight * element(score, 0.1), "balanced": weight * balanced(score, 0.1, parts=parts)}
    for part in range(parts):
        forms = {name: Rows.of(value[part::parts]) for name, value in kept.items()}
        arms = {"dense": partial(torch.nn.functional.linear, x, weight[part::parts].contiguous())}
        took = interleaved(arms | {name: partial(form, x) for name, form in forms.items()}, rounds=11)  # type: ignore[arg-type]
        slowest = {name: max(slowest[name], took[name].median) for name in slowest}
    return slowest


def clock() -> list[dict[str, Any]]:
    """`timed` of the bench's LSTM and FC layers, their rows of different scale."""
    torch.set_num_threads(1)
    found = []
    for name in TIMED:
        width, rows, _ = LAYERS[name]
        for parts in (2, 8):
            weight = drawn(rows, width, SPREAD)
            model = {
                "model plain": speedup(element(weight.abs(), 0.1), parts),
                "model balanced": speedup(balanced(weight.abs(), 0.1, parts=parts), parts),
            }
            found.append({"matrix": name, "workers": parts, **timed(weight, parts), **model})
    return found


def picture(results: dict[str, list[dict[str, float]]]) -> Figure:
    """Speed-up against sparsity, for 32 elements, a panel for each of the first matrix's two ends, fc7 and the trained ones."""
    ends = [of_spread(spread) for spread in (SPREADS[0], SPREADS[-1])]
    results = {name: results[name] for name in results if name in (*ends, "AlexNet fc7, drawn") or "trained" in name}
    with mpl.rc_context(style("balance")):
        canvas = Canvas(figsize=(3.2 * len(results), 3.2), layout="constrained")
        for axes, (name, rows) in zip(canvas.subplots(1, len(results), squeeze=False)[0], results.items(), strict=True):
            chosen = [row for row in rows if row["elements"] == 32]
            x = [100 * row["sparsity"] for row in chosen]
            axes.plot(x, [row["balanced"] for row in chosen], "o-", color=COLOURS[2], label="balanced")
            axes.plot(x, [row["plain"] for row in chosen], "s-", color=COLOURS[1], label="plain")
            axes.plot(x, [1 / (1 - row["sparsity"]) for row in chosen], ":", color=INK, label="ideal")
            axes.set(
                title=name.replace(", ", "\n", 1), xlabel="sparsity, %", ylabel="cycles: dense / sparse", yscale="log"
            )
            axes.set_yticks([2, 5, 10, 20], ["2x", "5x", "10x", "20x"])
            axes.minorticks_off()
        axes.legend()
        svg = to_svg(canvas)
    return Figure("speedup", "Load-balanced and plain pruning, 32 processing elements", svg, "")


def of_spread(spread: float) -> str:
    return f"LSTM 665 to 4096, drawn, spread {spread:g}"


def report(results: dict[str, list[dict[str, float]]], times: list[dict[str, Any]]) -> str:
    """The tables at 90 % sparsity in Markdown."""
    lines = [
        "# Load-balanced against plain pruning", "",
        "`python -m experiments.balance`: cycles of the dense matrix over cycles of the pruned one, the processing element with",
        "the most kept weights deciding (cost model of EIE and ESE; no accelerator was timed). 90 % of the weights pruned.", "",
        "| matrix | elements | balanced | plain | mean load / largest, plain |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for name, rows in results.items():
        for row in (row for row in rows if row["sparsity"] == 0.9):
            lines.append(
                f"| {name} | {row['elements']} | {row['balanced']:.2f}x | {row['plain']:.2f}x | {row['load_plain']:.2f} |"
            )
    published = "Published (ESE, FPGA 2017, by way of PROTOCOLS 2.2): 6.2x balanced, 5.5x plain, on an FPGA with other overheads."
    drawing = (
        f"Drawn: Gaussian, each row times exp(spread x Gaussian), {SPREAD:g} where no spread is named: an assumption. Plain pruning loses by the "
        "rows' differences, so what balance gains on a trained matrix follows from that matrix, not from this table."
    )
    lines += ["", drawing, "", published, "", "![speed-up against sparsity](speedup.svg)", ""]
    if times:
        lines += [
            "The bench's layers, drawn, split over workers and timed (`python -m experiments.balance timed`): the time of the dense matrix",
            "split alike over that of the pruned one, the slowest worker's each, alone on one thread of a CPU, the median of eleven turns; by the",
            "model beside.", "",
            "| layer | workers | balanced | plain | balanced, model | plain, model |", "|---|---|---|---|---|---|",
        ]  # fmt: skip
    for row in times:
        lines.append(
            f"| {row['matrix']} | {row['workers']} | {row['dense'] / row['balanced']:.2f}x | {row['dense'] / row['plain']:.2f}x | "
            f"{row['model balanced']:.2f}x | {row['model plain']:.2f}x |"
        )
    return "\n".join([*lines, ""] if times else lines)


def trained(word: str) -> dict[str, Tensor]:
    """The matrix that FILE:PARAMETER names, by both. Ends the command where there is none."""
    file, _, name = word.rpartition(":")
    if not file:
        sys.exit(f"{word} names no parameter: give FILE:PARAMETER")
    try:
        state = load_weights(Path(file))
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    if name not in state or state[name].dim() < 2:
        sys.exit(f"{file} has no matrix {name!r}; it has {', '.join(n for n, w in state.items() if w.dim() > 1)}")
    if len(state[name]) < max(ELEMENTS):
        sys.exit(
            f"{word} has {len(state[name])} rows, which cannot be dealt out to {max(ELEMENTS)} processing elements"
        )
    return {f"{Path(file).stem}: {name}, trained": state[name]}


def main(words: list[str]) -> None:
    HERE.mkdir(exist_ok=True)
    path = HERE / "timed.json"
    if words[:1] == ["timed"]:
        atomic_write(
            path, json.dumps({"rows": clock(), "machine": hardware(), "versions": versions()}, indent=1) + "\n"
        )
        results = json.loads((HERE / "results.json").read_text())
        times = json.loads(path.read_text())["rows"]
        atomic_write(HERE / "report.md", report(results, times))
        print(report(results, times))
        return
    times = json.loads(path.read_text())["rows"] if path.exists() else []
    matrices = {of_spread(spread): drawn(4096, 665, spread) for spread in SPREADS}
    matrices |= {f"{name}, drawn": drawn(LAYERS[name][1], LAYERS[name][0], SPREAD) for name in TIMED}
    for word in words:
        matrices |= trained(word)
    path = HERE / "results.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    kept = {name: rows for name, rows in before.items() if "trained" in name}
    results = {name: measured(weight) for name, weight in matrices.items()} | kept
    atomic_write(HERE / "results.json", json.dumps(results, indent=1) + "\n")
    atomic_write(HERE / "speedup.svg", picture(results).file)
    atomic_write(HERE / "report.md", report(results, times))
    print(report(results, times))


if __name__ == "__main__":
    main(sys.argv[1:])
