"""Load-balanced against plain pruning by the cost model of ESE (PROTOCOLS 2.2): `python -m experiments.balance [WEIGHTS:NAME ...]`.

The time of a sparse matrix-vector product over N processing elements is that of the one with the most kept weights.
Matrices: an LSTM layer of ESE's size and AlexNet's fc7, both drawn with rows of different scale (nobody publishes the
trained ones), and trained matrices given as FILE:PARAMETER. Published, at 10 % density: 6.2x balanced, 5.5x plain.
Writes experiments/balance/results.json, report.md and speedup.svg.
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.figure import Figure as Canvas
from torch import Tensor

from dsd.results.figures import COLOURS, INK, Figure, style, to_svg
from dsd.results.store import atomic_write
from dsd.sparsity.balance import balance, speedup
from dsd.sparsity.granularity import balanced, element
from dsd.weights import load_weights

HERE = Path(__file__).parent / "balance"
SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
ELEMENTS = (8, 32, 64)


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


def picture(results: dict[str, list[dict[str, float]]]) -> Figure:
    """Speed-up against sparsity, a panel a matrix, for 32 elements."""
    with mpl.rc_context(style("balance")):
        canvas = Canvas(figsize=(3.2 * len(results), 3.2), layout="constrained")
        for axes, (name, rows) in zip(canvas.subplots(1, len(results), squeeze=False)[0], results.items(), strict=True):
            chosen = [row for row in rows if row["elements"] == 32]
            x = [100 * row["sparsity"] for row in chosen]
            axes.plot(x, [row["balanced"] for row in chosen], "o-", color=COLOURS[2], label="balanced")
            axes.plot(x, [row["plain"] for row in chosen], "s-", color=COLOURS[1], label="plain")
            axes.plot(x, [1 / (1 - row["sparsity"]) for row in chosen], ":", color=INK, label="ideal")
            axes.set(title=name, xlabel="sparsity, %", ylabel="cycles: dense / sparse", yscale="log")
            axes.set_yticks([2, 5, 10, 20], ["2x", "5x", "10x", "20x"])
            axes.minorticks_off()
        axes.legend()
        svg = to_svg(canvas)
    return Figure("speedup", "Load-balanced and plain pruning, 32 processing elements", svg, "")


def report(results: dict[str, list[dict[str, float]]]) -> str:
    """The table at 90 % sparsity in Markdown."""
    lines = [
        "# Load-balanced against plain pruning", "",
        "`python -m experiments.balance`: cycles of the dense matrix over cycles of the pruned one, the processing element with",
        "the most kept weights deciding (cost model of EIE and ESE; no hardware was timed). 90 % of the weights pruned.", "",
        "| matrix | elements | balanced | plain | mean load / largest, plain |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for name, rows in results.items():
        for row in (row for row in rows if row["sparsity"] == 0.9):
            lines.append(
                f"| {name} | {row['elements']} | {row['balanced']:.2f}x | {row['plain']:.2f}x | {row['load_plain']:.2f} |"
            )
    published = "Published (ESE, FPGA 2017, by way of PROTOCOLS 2.2): 6.2x balanced, 5.5x plain, on an FPGA with other overheads."
    return "\n".join([*lines, "", published, "", "![speed-up against sparsity](speedup.svg)", ""])


def main(words: list[str]) -> None:
    matrices = {"LSTM 665 to 4096, drawn": drawn(4096, 665, 0.15), "fc7 4096 to 4096, drawn": drawn(4096, 4096, 0.15)}
    for word in words:
        file, _, name = word.rpartition(":")
        matrices[f"{name}, trained"] = load_weights(Path(file))[name]
    results = {name: measured(weight) for name, weight in matrices.items()}
    HERE.mkdir(exist_ok=True)
    atomic_write(HERE / "results.json", json.dumps(results, indent=1) + "\n")
    atomic_write(HERE / "speedup.svg", picture(results).file)
    atomic_write(HERE / "report.md", report(results))
    print(report(results))


if __name__ == "__main__":
    main(sys.argv[1:])
