"""The SqueezeNet that the authors of Deep Compression published, in our archive: bytes, and accuracy at fewer bits.

    python -m experiments.squeezenet             evaluates what is not in the results yet, writes results.json and report.md
    python -m experiments.squeezenet --no-eval   bytes only, and the report from the results that are there

DSD_DATA must name a folder with pretrained/ (the authors' file) and imagenet/ (val/ and val.txt; any part of the official
validation images). Views: 227x227, BGR minus 104, 117, 123; torchvision's squeezenet1_0 with padding 1 in its last
convolution, as in Caffe. An evaluation belongs to the SHA-256 of its weights, so it is done once.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dsd.compression import compress, decompress, sizes_beside
from dsd.data.module import where
from dsd.oneshot import shared
from dsd.published import PUBLISHED_BYTES, Layer, read_squeezenet, state
from dsd.results.store import atomic_write
from experiments.evaluation import NETWORKS, SQUEEZENET, Evaluation, digest, won

FOLDER = Path(__file__).parent / "squeezenet"
BITS = (8, 7, 6, 5, 4, 3, 2)
PUBLISHED = {
    "top1": 57.5,
    "top5": 80.3,
}  # on all 50,000 validation images (SqueezeNet, table 2; the same at 8 and 6 bits)
PUBLISHED_MB = {8: 0.66, 6: 0.47}  # SqueezeNet, table 2: 33 % density, without an entropy coder


def bytes_of(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Sizes of archives of the same weights: the smallest, and with the paper's 4-bit gaps with and without Huffman coding."""
    return {
        "best": len(compress(weights).data),
        "huffman": len(compress(weights, coder="huffman", index_bits=4).data),
        "fixed": len(compress(weights, coder="fixed", index_bits=4).data),
    }


def authors(layers: tuple[Layer, ...]) -> dict[str, int]:
    """Where the bytes of the authors' file are, in the words of our ledger."""
    entries = [layer.entries for layer in layers]
    return {
        "values": sum(entries), "index": sum((n + 1) // 2 for n in entries), "codebook": 1024 * len(layers),
        "other": 4 * sum(layer.bias.numel() for layer in layers), "header": 4 * len(layers),
    }  # fmt: skip


def rows(weights: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """What is evaluated, by name: as published, through our archive, and shared anew among fewer values."""
    anew = {f"{bits} bits": shared(weights, conv_bits=bits, fc_bits=None) for bits in BITS}
    return {"as published": weights, "after our archive": decompress(compress(weights).data), **anew}


def report(results: Mapping[str, Any]) -> str:
    """The table in Markdown, from the results alone."""
    first, kinds, seen = results["rows"]["as published"], results["authors"], results["evaluations"]
    before = seen.get(first["sha256"])
    lines = [
        "# The published SqueezeNet, repacked",
        "",
        f"Weights: SqueezeNet v1.0 as the authors of Deep Compression published it, {results['kept']:,} of {results['n']:,} kept. Their file, "
        f"which has no entropy coder: **{PUBLISHED_BYTES:,} bytes**. Ours of the identical weights, bit for bit, all of the file counted: "
        f"**{first['bytes']['best']:,} bytes** ({100 * first['bytes']['best'] / PUBLISHED_BYTES - 100:+.1f} %).",
        "",
        f"| where the bytes are | authors' file | ours |\n|---|---:|---:|\n{_kinds(kinds, results['ours'])}",
        "",
        f"The same tensors otherwise: {', '.join(f'{name} {n:,}' for name, n in results['beside'].items())} bytes.",
        "",
        "| weights | best | Huffman, 4-bit gaps | no coder, 4-bit gaps | published MB | top-1 % | top-5 % | won, lost |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in results["rows"].items():
        now, size, mb = seen.get(row["sha256"]), row["bytes"], PUBLISHED_MB.get(row.get("bits"), "–")
        top = f"{now['top1']:.2f} | {now['top5']:.2f}" if now else "– | –"
        changed = f"+{won(before, now)}, -{won(now, before)}" if now and before else "–"
        lines.append(
            f"| {name} | {size['best']:,} | {size['huffman']:,} | {size['fixed']:,} | {mb} | {top} | {changed} |"
        )
    same = [name for name, row in results["rows"].items() if row["sha256"] == first["sha256"]]
    n = before["n"] if before else 0
    return "\n".join(
        [
            *lines, "",
            f"Top-1 and top-5 on {n:,} validation images, an easy choice: on all 50,000 {PUBLISHED['top1']} and {PUBLISHED['top5']} % are published. "
            "Only differences mean something here; the standard error of one top-1 is 1.2 points, and won and lost count the images whose "
            "answer became right and wrong. Fewer bits: k-means anew in each layer over the published values that are not 0, without "
            f"any training after it; biases stay float32. Equal in every bit, and so evaluated once: {', '.join(same)}. "
            "Huffman and no coder: gaps of 4 bits, as in the paper, with an escape symbol where it has filler zeros.",
            "",
        ]
    )  # fmt: skip


def _kinds(theirs: Mapping[str, int], ours: Mapping[str, int]) -> str:
    names = [kind for kind in dict.fromkeys([*ours, *theirs]) if ours.get(kind) or theirs.get(kind)]
    return "\n".join(f"| {kind} | {theirs.get(kind, 0):,} | {ours.get(kind, 0):,} |" for kind in names)


def main(words: list[str]) -> int:
    """The exit code."""
    asked = argparse.ArgumentParser("python -m experiments.squeezenet", description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--no-eval", action="store_true", help="bytes only")
    evaluates = not asked.parse_args(words).no_eval
    root, path = where(None), FOLDER / "results.json"
    if root is None:
        print("DSD_DATA names no folder: it must have pretrained/ and imagenet/ (README, Data)", file=sys.stderr)
        return 2
    try:
        layers = read_squeezenet(root / SQUEEZENET)
        evaluate = Evaluation(root, NETWORKS["squeezenet"]) if evaluates else None
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    evaluated = json.loads(path.read_text())["evaluations"] if path.exists() else {}
    weights = state(layers)
    results: dict[str, Any] = {
        "authors": authors(layers), "ours": compress(weights).ledger.kinds(), "beside": sizes_beside(weights), "n": sum(v.weight.numel() for v in layers),
        "kept": sum(layer.kept for layer in layers), "rows": {}, "evaluations": {},
    }  # fmt: skip
    todo = rows(weights)
    for name, one in todo.items():
        bits = {"bits": int(name.split()[0])} if name.endswith("bits") else {}
        results["rows"][name] = {"sha256": digest(one), "bytes": bytes_of(one)} | bits
    shas = {name: row["sha256"] for name, row in results["rows"].items()}
    results["evaluations"] |= {sha: evaluated[sha] for sha in shas.values() if sha in evaluated}
    atomic_write(path, json.dumps(results, indent=1) + "\n")
    for name, one in todo.items():
        if evaluate is not None and shas[name] not in results["evaluations"]:
            seen = results["evaluations"][shas[name]] = evaluate(one)
            print(
                f"{name}: top-1 {seen['top1']:.2f} %, top-5 {seen['top5']:.2f} %, {seen['seconds']:.0f} s", flush=True
            )
            atomic_write(path, json.dumps(results, indent=1) + "\n")
    atomic_write(FOLDER / "report.md", report(results))
    print(f"report: {FOLDER / 'report.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
