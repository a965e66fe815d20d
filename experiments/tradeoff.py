"""What size costs on LeNet-300-100, MNIST: `python -m experiments.tradeoff [DENSE PRUNED]`, minutes on one core.

DENSE and PRUNED are two runs' weights (a file, a run's folder, or its id in ./runs): the first dense phase, and the network
pruned 12 times. Every point starts from one of them, holds one constraint for a few epochs in a hand-written loop, and is
kept in experiments/tradeoff/records.json as soon as it is measured, so that an interrupted command goes on. Without
arguments, or with nothing left to measure, it draws the figures and writes report.md from the records. One seed and short
retraining: curves to compare with each other, not results. Unlike the studies it trains: 150 runs of seconds.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from dsd import Phases
from dsd.compression import compress
from dsd.data import ImageData, Mnist
from dsd.models import LeNet300
from dsd.plan import Cosine, Phase
from dsd.quantization import LowRank, Shared, kmeans
from dsd.quantization.lowrank import low_rank_bytes, rank_for
from dsd.quantization.optimum import optimal
from dsd.results.store import atomic_write
from dsd.sparsity import Gradual, Sparse, prunable
from dsd.sparsity.allocation import per_layer
from dsd.sparsity.sensitivity import scan
from dsd.weights import initialise_, load_weights, resolve
from experiments.tradeoff_report import write

HERE = Path(__file__).parent / "tradeoff"
STARTS = ("dense", "pruned")
PAPER = {
    "fc1.weight": 8,
    "fc2.weight": 9,
    "fc3.weight": 26,
}  # kept %, NIPS 2015, Table 2; other densities keep these ratios
DENSITIES = (0.5, 0.3, 0.2, 0.12, 0.08, 0.05, 0.03, 0.02, 0.01)
SHARES = (0.8, 0.4, 0.2, 0.1)
BITS = (2, 3, 4, 6)
SPARSITIES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.98)
INITIAL = {
    "linear": kmeans.linear,
    "density": kmeans.density,
    "Forgy": kmeans.forgy,
    "k-means++": kmeans.plus_plus,
    "optimal": optimal,
}
Point = dict[str, Any]


class Bench:
    """The network, its data and the two sets of weights that points start from."""

    def __init__(self, starts: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.starts = starts
        self.data = ImageData(
            source=Mnist(), batch_size=64, seed=0, validation=5000, augment=None, mean=[0.1307], std=[0.3081], channels=1, size=28
        )  # fmt: skip
        self.data.setup()
        self.net = LeNet300(num_classes=10, channels=1, side=28, hidden=(300, 100))
        self.sets = {
            "test": list(self.data.test_dataloader()),
            "val": [batch for loader in [self.data.val_dataloader()] for batch in loader],
        }
        self.loss = 0.0  # % of the weights' energy that the constraint took
        self.moved = 0.0  # % of the survivors that ended in another cluster
        self._pruned: dict[float, dict[str, Tensor]] = {}

    @torch.no_grad()
    def error(self, part: str = "test") -> float:
        """Top-1 error in %, of the weights as they are."""
        wrong = [(self.net(self.data.to_input(x)).argmax(1) != y).float() for x, y in self.sets[part]]
        return float(100 * torch.cat(wrong).mean())

    def start(self, weights: Mapping[str, Tensor]) -> None:
        initialise_(self.net, weights)

    def hold(self, constraint: Any, epochs: float, rate: float) -> tuple[float, Any]:
        """Train under the constraint; the test error when it came into force, and what was in force."""
        optimizer = torch.optim.SGD(self.net.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
        order, before = self.data.train_batches(0), {n: w.detach().clone() for n, w in self.net.named_parameters()}
        phases = Phases(self.net, optimizer, [Phase("held", epochs, Cosine(rate), constraint)], len(order))
        phases.start_update()
        at_once, epoch = self.error(), 0
        off = sum(float((w.detach() - before[n]).square().sum()) for n, w in self.net.named_parameters() if w.dim() > 1)
        self.loss = 100 * off / sum(float(w.square().sum()) for w in before.values() if w.dim() > 1)
        began = phases.held.labels() if isinstance(constraint, Shared) else {}
        while not phases.finished:
            for images, labels in self.data.train_batches(epoch):
                if phases.finished:
                    break
                phases.start_update()
                optimizer.zero_grad()
                cross_entropy(self.net(self.data.to_input(images)), labels).backward()
                optimizer.step()
            epoch += 1
        phases.close()
        held, self.moved = phases.held, 0.0
        if began:
            self.moved = 100 * float(torch.cat([(held.labels()[n] != began[n]).float() for n in began]).mean())
        return at_once, held

    def pruned(self, density: float) -> dict[str, Tensor]:
        """The dense network pruned and retrained; once for all points that need it."""
        if density not in self._pruned:
            self.start(self.starts["dense"])
            self.hold(gradual(density), 4, 0.02)
            self._pruned[density] = {n: v.detach().clone() for n, v in self.net.state_dict().items()}
        return self._pruned[density]

    def found(self, at_once: float, size: float | None = None, **more: Any) -> Point:
        """A point's figures; size in bytes, of the archive unless given."""
        size = len(compress(self.net.state_dict()).data) if size is None else size
        dense = 4 * sum(value.numel() for value in self.net.state_dict().values())
        percent = 100 * size / dense
        return {
            "at once": at_once,
            "error": self.error(),
            "val": self.error("val"),
            "bytes": size,
            "percent": percent,
        } | more


def gradual(density: float) -> Gradual:
    """Pruning to the density in fc1, in the paper's proportions."""
    table = {name: 1 - min(1.0, density * share / 8) for name, share in PAPER.items()}
    return Gradual(
        sparsity=1 - density, allocation=partial(per_layer, table=table), spare_first_conv=False, every=50, ramp=0.6
    )


def books(bits: int, **how: Any) -> Shared:
    """A codebook in every layer."""
    return Shared(bits=bits, select=partial(prunable, spare_first_conv=False), **how)


def points() -> Iterator[tuple[Point, Callable[[Bench], Point]]]:
    """What identifies each point, and how it is measured."""

    def prune(density: float, bench: Bench) -> Point:
        bench.start(bench.pruned(density))
        return bench.found(float("nan"))

    def both(density: float, bits: int, bench: Bench) -> Point:
        bench.start(bench.pruned(density))
        return bench.found(bench.hold(books(bits), 1, 0.001)[0])

    def svd(share: float, bench: Bench) -> Point:
        bench.start(bench.starts["dense"])
        factored = ["fc1.weight", "fc2.weight"]  # at a share of 0.2, fc3 with its 10 outputs would have rank 1
        at_once, _ = bench.hold(LowRank(share, partial(prunable, include=factored)), 2, 0.02)
        size = sum(
            low_rank_bytes(tuple(v.shape), rank_for(tuple(v.shape), share)) if name in factored else 4 * v.numel()
            for name, v in bench.net.state_dict().items()
        )
        return bench.found(at_once, size)

    def share(start: str, bits: int, how: dict[str, Any], epochs: float, rate: float, bench: Bench) -> Point:
        bench.start(bench.starts[start])
        at_once, _ = bench.hold(books(bits, **how), epochs, rate)
        return bench.found(at_once, moved=bench.moved, loss=bench.loss)

    for density in DENSITIES:
        yield {"figure": "tradeoff", "curve": "pruning only", "x": density}, partial(prune, density)
        for bits in (2, 3, 4, 5):
            yield (
                {"figure": "tradeoff", "curve": "pruning and codebooks", "x": density, "bits": bits},
                partial(both, density, bits),
            )
    for bits in range(2, 17):
        for coder in ("fixed", "huffman", "ans"):
            for fillers in ("escape", "paper"):
                yield (
                    {"figure": "index", "curve": f"{coder}, {fillers}", "x": bits},
                    partial(gaps, bits, coder, fillers),
                )
    yield {"figure": "index", "curve": "bitmap", "x": 0}, partial(gaps, None, "best", "escape")
    for bits in range(1, 9):
        yield {"figure": "tradeoff", "curve": "codebooks only", "x": bits}, partial(share, "dense", bits, {}, 1, 0.001)
    yield {"figure": "codebooks", "curve": "4 bits", "x": 4}, distributions
    for bits in BITS:
        for name, init in INITIAL.items():
            yield (
                {"figure": "initial", "curve": name, "x": bits},
                partial(share, "pruned", bits, {"init": init}, 0.25, 0.001),
            )
        for start in STARTS:
            for name, init in {"affine": kmeans.linear, "symmetric": kmeans.symmetric}.items():
                how = {"iterations": 0, "train": False, "init": init}
                yield (
                    {"figure": "uniform", "curve": f"{name} grid, {start}", "x": bits},
                    partial(share, start, bits, how, 0.1, 0.001),
                )
    for bits in (3,):
        for rate in (0.001, 0.01, 0.1):
            for every, name in ((0, "fixed"), (100, "again every 100 updates"), (1, "again every update")):
                yield (
                    {"figure": "labels", "curve": name, "x": rate, "bits": bits},
                    partial(share, "pruned", bits, {"relabel_every": every}, 0.5, rate),
                )
    for epochs in (0, 0.1):
        yield {"figure": "sensitivity", "curve": f"{epochs} epochs", "x": 0}, partial(sensitivity, epochs)
    for part in SHARES:
        yield {"figure": "tradeoff", "curve": "SVD of fc1 and fc2", "x": part}, partial(svd, part)


def gaps(bits: int | None, coder: Any, fillers: Any, bench: Bench) -> Point:
    """Bytes of the pruned network with 6-bit codebooks, at a width of gaps."""
    bench.start(bench.starts["pruned"])
    books(6).enter(bench.net, evidence={}, seed=0)
    ledger = compress(bench.net.state_dict(), coder=coder, index_bits=bits, fillers=fillers).ledger
    return {"bytes": ledger.size, "kinds": ledger.kinds()}


def sensitivity(epochs: float, bench: Bench) -> Point:
    """The validation error as one layer after the other is pruned, with or without retraining."""
    bench.start(bench.starts["dense"])
    constraint = Sparse(0.5, spare_first_conv=False)

    def measure(layer: str, sparsity: float) -> float:
        if epochs:
            bench.hold(Sparse(sparsity, include=[layer], spare_first_conv=False), epochs, 0.01)
        return bench.error("val")

    dense = bench.error("val")
    return {"dense": dense, "sparsities": SPARSITIES, "curves": scan(bench.net, constraint, SPARSITIES, measure)}


def distributions(bench: Bench) -> Point:
    """Each layer's surviving weights as a histogram, and its codebook: initial, by k-means, trained."""
    bench.start(bench.starts["pruned"])
    weights = {name: weight.detach().clone() for name, weight in prunable(bench.net, spare_first_conv=False).items()}
    _, held = bench.hold(books(4), 1, 0.001)
    layers = {}
    for name, weight in weights.items():
        values = np.sort(weight[weight != 0].numpy())
        counts, edges = np.histogram(values, 80)
        random = np.random.default_rng(0)
        layers[name] = {
            "counts": counts.tolist(), "edges": [float(edges[0]), float(edges[-1])],
            "initial": {key: np.asarray(init(values, 16, random), float).round(5).tolist() for key, init in INITIAL.items()},
            "k-means": kmeans.kmeans(values, 16).astype(float).round(5).tolist(),
            "trained": held.books[name].centroid_K.numpy().astype(float).round(5).tolist(),
        }  # fmt: skip
    return {"layers": layers}


def key(point: Point) -> str:
    """What a point is called."""
    return json.dumps({part: point[part] for part in ("figure", "curve", "x", "bits") if part in point})


def sha(weights: Mapping[str, Tensor]) -> str:
    """Which weights they are."""
    return hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights))).hexdigest()[:16]


def measure(words: list[str], path: Path) -> None:
    """Measure what is not in the records yet. ValueError if those are of other weights."""
    torch.set_num_threads(1)
    starts = {start: load_weights(resolve(word, Path("runs"))) for start, word in zip(STARTS, words, strict=True)}
    of = {start: sha(weights) for start, weights in starts.items()}
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"of": of, "starts": {}, "points": []}
    if kept["of"] != of:
        raise ValueError(f"{path} is of other weights ({kept['of']}): delete it, or give those")
    bench = Bench(starts)
    for start in STARTS:
        bench.start(starts[start])
        kept["starts"][start] = bench.found(float("nan")) | {"at once": None}
    wanted = {key(names): (names, how) for names, how in points()}
    kept["points"] = [point for point in kept["points"] if key(point) in wanted]  # others were measured another way
    atomic_write(path, json.dumps(kept) + "\n")
    done = {key(point) for point in kept["points"]}
    for name, (names, how) in wanted.items():
        if name in done:
            continue
        found = how(bench)
        kept["points"].append(names | {k: None if v != v else v for k, v in found.items()})
        atomic_write(path, json.dumps(kept) + "\n")
        said = {k: round(v, 3) for k, v in found.items() if isinstance(v, float)}
        print(", ".join(str(v) for v in names.values()), said, flush=True)


def main(words: list[str]) -> None:
    if len(words) not in (0, 2):
        raise SystemExit("say which weights: python -m experiments.tradeoff DENSE PRUNED; or nothing, to draw again")
    HERE.mkdir(exist_ok=True)
    if words:
        measure(words, HERE / "records.json")
    if not (HERE / "records.json").exists():
        raise SystemExit("there are no records yet: python -m experiments.tradeoff DENSE PRUNED")
    write(json.loads((HERE / "records.json").read_text()), HERE)


if __name__ == "__main__":
    main(sys.argv[1:])
