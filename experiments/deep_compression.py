"""Deep Compression on the LeNets: `python -m experiments.deep_compression RUNS` reads finished runs, never trains.

The runs: `python run.py -m experiment=dc_lenet300_mnist profile=cpu seed='range(5)'`, and dc_lenet5_mnist. Errors are of the final
weights on the 10,000 test images, sizes those of the files; nothing was chosen by them (validation: 5,000 training images).
The same with smallest_lenet300_mnist and smallest_lenet5_mnist; and for the pruning table, with the dense network's own test
error, `python run.py -m experiment=prune_lenet300_mnist profile=cpu 'baseline_seed=${seed}' seed='range(5)'`, and prune_lenet5_mnist.
Adds to experiments/deep_compression/records.json and writes report.md.
"""

import json
import math
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate

from dsd.compression import read_ledger
from dsd.results.store import atomic_write
from dsd.run.config import composed
from experiments.declared import strays

HERE = Path(__file__).parent / "deep_compression"
NAMES = ("dc_lenet300_mnist", "dc_lenet5_mnist", "smallest_lenet300_mnist", "smallest_lenet5_mnist")
PRUNED = ("prune_lenet300_mnist", "prune_lenet5_mnist")
METHOD = dict.fromkeys(NAMES, "deep_compression") | dict.fromkeys(PRUNED, "prune_gradual")


def as_written(result: dict[str, Any]) -> bool:
    """True for a run of one of these experiments with profile=cpu, without any other value than its file has."""
    name, config = result.get("name"), result.get("config", {})
    if name not in METHOD or (result["profile"], result["method"]) != ("cpu", METHOD[name]):
        return False
    words = (f"experiment={name}", "profile=cpu", f"method={METHOD[name]}")
    shared = ("baseline_seed=${seed}",) if config.get("init_from") else ()
    return not strays(config, (*words, *shared), result["seed"])


def record(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a finished run: seed, errors, file and layers."""
    ledger = read_ledger(path)
    layers = {
        row.name: {
            "kept %": 100 * row.kept / row.n, "weight bits": row.weight_bits, "coded": row.weight_bits_coded,
            "index bits coded": row.index_bits_coded, "percent": 100 * row.total / row.fp32_bytes,
        }
        for row in ledger.rows if row.n >= 500
    }  # fmt: skip
    kept = {
        "name": result["name"], "seed": result["seed"], "run": result["run_id"], "error": result["metrics"]["test"]["test/error1"],
        "validation": {p["name"]: p["metrics"].get("val/error1") for p in result["metrics"]["phases"]},
        "bytes": ledger.size, "ratio": ledger.ratio, "layers": layers, "published": result["published"], "seconds": result["seconds"],
    }  # fmt: skip
    if result["name"] in PRUNED:
        start = json.loads((path.parents[1] / str(result["config"]["init_from"]) / "result.json").read_text())
        weights = [row for row in ledger.rows if len(row.shape) > 1]
        kept["kept"] = sum(row.kept for row in weights) / sum(row.n for row in weights)
        kept["dense error"] = start["metrics"]["test"]["test/error1"]
    return kept


def records(runs: Path) -> list[dict[str, Any]]:
    """One of each finished run of these experiments. A run of the pruning table has to start from a dense run that is there."""
    found = []
    for path in sorted(runs.glob("*/model.dsd")):
        result = json.loads((path.parent / "result.json").read_text()) if (path.parent / "result.json").exists() else {}
        if as_written(result) and (result["name"] not in PRUNED or result["config"].get("init_from")):
            found.append(record(path, result))
    return found


def merged(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All records, a newer one in place of an older one of the same experiment and seed."""
    by = {(r["name"], r["seed"]): r for r in [*old, *new]}
    return [by[key] for key in sorted(by)]


def sizes(name: str) -> dict[str, int]:
    """How many weights each layer of an experiment's network has."""
    with torch.device("meta"):
        net = instantiate(composed(f"experiment={name}").model)
    return {key: weight.numel() for key, weight in net.named_parameters() if weight.dim() > 1}


def ratio(percent: Mapping[str, float], n: Mapping[str, int]) -> float:
    """Compression ratio of the weights alone, from the percentage that each layer is left with."""
    return 100 * sum(n.values()) / math.fsum(percent[layer] * n[layer] for layer in n)


def spread(values: list[float], digits: int = 2) -> str:
    """Mean and standard deviation."""
    mean = f"{math.fsum(values) / len(values):,.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def report(found: list[dict[str, Any]]) -> str:
    """The paper's tables with ours beside them."""
    lines = ["# Deep Compression on MNIST", "", *(__doc__ or "").strip().splitlines()[2:4], ""]
    lines += [
        "Weight bits of 32: the coder keeps a tensor as float32 where its codebook and labels would take more bytes (LeNet-5's first layer keeps",
        "330 weights, and 8 bits mean 256 centroids).", "",
    ]  # fmt: skip
    pruned = [r for r in found if r["name"] in PRUNED]
    lines += pruning_table(pruned) if pruned else []
    for name in NAMES:
        rows = [r for r in found if r["name"] == name]
        if not rows:
            continue
        published = rows[0]["published"]
        dense, shared, n = published["rows"][0], published["rows"][-1], sizes(name)
        ours = [ratio({layer: r["layers"][layer]["percent"] for layer in n}, n) for r in rows]
        theirs = ratio({layer: published["ledger"][layer]["percent"] for layer in n}, n)
        lines += [
            f"## {name}", "", f"{published['source']}; n = {len(rows)} seeds ({', '.join(str(r['seed']) for r in rows)}).", "",
            "| | ours, mean ± sd | published |", "|---|---|---|",
            f"| test error of the file, % | {spread([r['error'] for r in rows])} | {shared['top1']} (dense {dense['top1']}) |",
            f"| file, bytes | {spread([float(r['bytes']) for r in rows], 0)} | {shared['bytes']:,} |",
            f"| compression ratio, everything counted | {spread([r['ratio'] for r in rows])} | {dense['bytes'] / shared['bytes']:.0f} |",
            f"| of the weights alone: the rows below added up | {spread(ours)} | {theirs:.1f} |",
        ]  # fmt: skip
        for phase in rows[0]["validation"]:
            lines.append(f"| validation error after {phase}, % | {spread([r['validation'][phase] for r in rows])} | |")
        lines += [
            "",
            "| layer | kept % | weight bits → coded | index bits, coded | size % | published kept %, size % |",
            "|---|---|---|---|---|---|",
        ]
        for layer in rows[0]["layers"]:
            of = [r["layers"][layer] for r in rows]
            mean = {key: math.fsum(o[key] for o in of) / len(of) for key in of[0]}
            paper = published["ledger"].get(layer, {})
            lines.append(
                f"| {layer} | {mean['kept %']:.1f} | {mean['weight bits']:.0f} → {mean['coded']:.2f} | {mean['index bits coded']:.2f} | "
                f"{mean['percent']:.2f} | {paper.get('kept', '')}, {paper.get('percent', '')} |"
            )
        lines.append("")
    return "\n".join(lines)


def pruning_table(found: list[dict[str, Any]]) -> list[str]:
    """Test errors before and after pruning, beside NIPS 2015, Table 1."""
    lines = [
        "## Pruning alone", "", "Dense and pruned networks of the same seeds (`'baseline_seed=${seed}'`); weights are counted, biases kept.", "",
        "| | seeds | dense error, % | pruned error, % | difference, points | weights | published errors, weights |", "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name in sorted({r["name"] for r in found}):
        rows = [r for r in found if r["name"] == name]
        dense, sparse = rows[0]["published"]["rows"][0], rows[0]["published"]["rows"][-1]
        off = spread([r["error"] - r["dense error"] for r in rows])
        fewer = math.fsum(1 / r["kept"] for r in rows) / len(rows)
        lines.append(
            f"| {name} | {len(rows)} | {spread([r['dense error'] for r in rows])} | {spread([r['error'] for r in rows])} | {off} | {fewer:.1f}x fewer | "
            f"{dense['top1']} → {sparse['top1']}, {1 / (1 - sparse['sparsity']):.0f}x |"
        )
    return [*lines, ""]


def main(words: list[str]) -> None:
    path = HERE / "records.json"
    old = json.loads(path.read_text()) if path.exists() else []
    found = merged(old, records(Path(words[0] if words else "runs")))
    if not found:
        raise SystemExit("no finished run of these experiments with profile=cpu is there; name the folder of runs")
    HERE.mkdir(exist_ok=True)
    atomic_write(path, json.dumps(found, indent=1) + "\n")
    atomic_write(HERE / "report.md", report(found))
    print(report(found))


if __name__ == "__main__":
    main(sys.argv[1:])
