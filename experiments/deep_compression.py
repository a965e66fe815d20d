"""Deep Compression on the LeNets: `python -m experiments.deep_compression RUNS` reads finished runs, never trains.

The runs: `python run.py -m experiment=dc_lenet300_mnist profile=cpu seed='range(5)'`, and dc_lenet5_mnist. Errors are of the final
weights on the 10,000 test images, sizes those of the files; nothing was chosen by them (validation: 5,000 training images).
Writes experiments/deep_compression/records.json and report.md.
"""

import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

from dsd.compression import read_ledger
from dsd.results.store import atomic_write

HERE = Path(__file__).parent / "deep_compression"
NAMES = ("dc_lenet300_mnist", "dc_lenet5_mnist")


def records(runs: Path) -> list[dict[str, Any]]:
    """One of each finished run of these experiments with profile=cpu: seed, errors, file and layers."""
    found = []
    for path in sorted(runs.glob("*/model.dsd")):
        result = json.loads((path.parent / "result.json").read_text()) if (path.parent / "result.json").exists() else {}
        if (result.get("name"), result.get("profile"), result.get("method")) not in [
            (n, "cpu", "deep_compression") for n in NAMES
        ]:
            continue
        ledger = read_ledger(path)
        layers = {
            row.name: {
                "kept %": 100 * row.kept / row.n, "weight bits": row.weight_bits, "coded": row.weight_bits_coded,
                "index bits coded": row.index_bits_coded, "percent": 100 * row.total / row.fp32_bytes,
            }
            for row in ledger.rows if row.n >= 500
        }  # fmt: skip
        found.append({
            "name": result["name"], "seed": result["seed"], "run": result["run_id"], "error": result["metrics"]["test"]["test/error1"],
            "validation": {p["name"]: p["metrics"].get("val/error1") for p in result["metrics"]["phases"]},
            "bytes": ledger.size, "ratio": ledger.ratio, "layers": layers, "published": result["published"], "seconds": result["seconds"],
        })  # fmt: skip
    return sorted(found, key=lambda r: (r["name"], r["seed"]))


def spread(values: list[float], digits: int = 2) -> str:
    """Mean and standard deviation."""
    mean = f"{math.fsum(values) / len(values):,.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def report(found: list[dict[str, Any]]) -> str:
    """The paper's tables with ours beside them."""
    lines = ["# Deep Compression on MNIST", "", *(__doc__ or "").strip().splitlines()[2:4], ""]
    for name in NAMES:
        rows = [r for r in found if r["name"] == name]
        if not rows:
            continue
        published = rows[0]["published"]
        dense, shared = published["rows"][0], published["rows"][-1]
        lines += [
            f"## {name}", "", f"{published['source']}; n = {len(rows)} seeds ({', '.join(str(r['seed']) for r in rows)}).", "",
            "| | ours, mean ± sd | published |", "|---|---|---|",
            f"| test error of the file, % | {spread([r['error'] for r in rows])} | {shared['top1']} (dense {dense['top1']}) |",
            f"| file, bytes | {spread([float(r['bytes']) for r in rows], 0)} | {shared['bytes']:,} |",
            f"| compression ratio | {spread([r['ratio'] for r in rows])} | {dense['bytes'] / shared['bytes']:.0f} |",
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
            theirs = published["ledger"].get(layer, {})
            lines.append(
                f"| {layer} | {mean['kept %']:.1f} | {mean['weight bits']:.0f} → {mean['coded']:.2f} | {mean['index bits coded']:.2f} | "
                f"{mean['percent']:.2f} | {theirs.get('kept', '')}, {theirs.get('percent', '')} |"
            )
        lines.append("")
    return "\n".join(lines)


def main(words: list[str]) -> None:
    found = records(Path(words[0] if words else "runs"))
    if not found:
        raise SystemExit(
            "no finished run of dc_lenet300_mnist or dc_lenet5_mnist with profile=cpu is there; name the folder of runs"
        )
    HERE.mkdir(exist_ok=True)
    atomic_write(HERE / "records.json", json.dumps(found, indent=1) + "\n")
    atomic_write(HERE / "report.md", report(found))
    print(report(found))


if __name__ == "__main__":
    main(sys.argv[1:])
