"""What DSD costs: ratios measured in one run, interleaved, with the machine beside them.

    python -m experiments.speed            all of it, about ten minutes on two idle cores; writes experiments/speed.json
    python -m experiments.speed callback   one part: callback, sparse, loop or mask

callback  one training step in Lightning's loop: no plan at all, a dense plan, DSD's sparse phase, Lightning's ModelPruning and
          torch.nn.utils.prune, all at 50 % (channels first: torch's pruning refuses channels_last weights). Each round fits every arm once; a round's figure is the median step; the ratio is
          the median over rounds of arm / no plan.
sparse    the same step, sparse over dense, in one fit whose plan alternates between the two every few updates, so that a drifting
          machine touches both alike: the figure to trust for what holding a mask costs.
loop      images/s of Trainer.fit with all of run.py's callbacks on in-memory CIFAR-10-shaped images with augmentation, over
          those of a bare loop on one batch that never changes (bf16, channels_last, torch.compile in both).
mask      choosing and applying the masks of AlexNet (61 M weights) and VGG-16 (138 M), in a process of its own each, with the
          growth of its peak memory over the weights' size.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelPruning
from torch import Tensor, nn
from torch.nn.utils import prune

from dsd import DSD, Phase, PlanCallback, Sparse
from dsd.callbacks import Distributions, History, LastCheckpoint, Seeds
from dsd.console import hush
from dsd.models import LeNet300, ResNetCifar, torchvision_model
from dsd.plan import Times
from dsd.results.provenance import hardware, versions
from dsd.results.store import atomic_write
from dsd.sparsity import prunable
from dsd.tasks import Classification

RESULT = Path(__file__).with_suffix(".json")


class Clock(Callback):
    """Seconds of every update, from the end of the one before to its own end."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.perf_counter())

    def median(self, skip: int) -> float:
        return float(np.median(np.diff(self.ends)[skip:]))


class Again:
    """One batch, `times` times over."""

    def __init__(self, batch: tuple[Tensor, Tensor], times: int) -> None:
        self.batch, self.times = batch, times

    def __len__(self) -> int:
        return self.times

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return repeat(self.batch, self.times)


def task(net: nn.Module, **options: Any) -> Classification:
    def optimizer(groups: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)

    return Classification(net, optimizer, num_classes=10, **options)


def fit(module: pl.LightningModule, batches: Again, *callbacks: Callback, **options: Any) -> Clock:
    clock = Clock()
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[*callbacks, clock], **options,
    )  # fmt: skip
    trainer.fit(module, batches)
    return clock


def callback_cost(make: Any, batch: tuple[Tensor, Tensor], updates: int, rounds: int) -> dict[str, Any]:
    """Median step of each arm over that without a plan; all arms train the same network on the same batch."""
    skip = updates // 2 + updates // 8  # ModelPruning prunes at the end of the first of two epochs
    short = 2 / updates

    def pruned(net: nn.Module) -> nn.Module:
        for name in prunable(net):
            prune.l1_unstructured(net.get_submodule(name.rpartition(".")[0]), "weight", 0.5)
        return net

    def lightning() -> Callback:
        return ModelPruning("l1_unstructured", amount=0.5, use_global_unstructured=False, parameters_to_prune=None)

    arms: dict[str, Any] = {
        "no plan": lambda: (task(make()), []),
        "dense plan": lambda: (task(make()), [PlanCallback([Phase("dense", 2, Times(1.0))])]),
        "DSD, sparse phase": lambda: (task(make()), [DSD(0.5, (short, 2 - 2 * short, short))]),
        "Lightning ModelPruning": lambda: (task(make()), [lightning()]),
        "torch.nn.utils.prune": lambda: (task(pruned(make())), []),
    }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(rounds + 1):
        for name, arm in arms.items():
            module, callbacks = arm()
            if isinstance(callbacks[0] if callbacks else None, ModelPruning):
                callbacks[0]._parameters_to_prune = [(m, "weight") for m in layers(module.net)]
            step = fit(module, Again(batch, updates // 2), *callbacks).median(skip)
            if turn:
                seconds[name].append(step)
    base = seconds["no plan"]
    return {
        name: {
            "ms": 1e3 * statistics.median(values),
            "ratio": statistics.median(a / b for a, b in zip(values, base, strict=True)),
            "ratio_over_dense_plan": statistics.median(
                a / b for a, b in zip(values, seconds["dense plan"], strict=True)
            ),
            "rounds": rounds,
        }
        for name, values in seconds.items()
    }


def alternating(make: Any, batch: tuple[Tensor, Tensor], updates: int, pairs: int) -> dict[str, Any]:
    """Step of a sparse phase over that of a dense one, in one fit whose plan alternates between them: drift cancels."""
    epochs = 1 / (2 * pairs)
    plan = [
        Phase(f"{kind}{k}", 2 * epochs, Times(1.0), constraint, reset_optimizer=False)
        for k in range(pairs)
        for kind, constraint in (("dense", None), ("sparse", Sparse(0.5)))
    ]
    clock = fit(task(make()), Again(batch, updates * pairs), PlanCallback(plan))
    steps = np.diff([clock.ends[0], *clock.ends]).reshape(2 * pairs, updates)[
        2:, 3:
    ]  # a phase's beginning is not a step
    medians = np.median(steps, axis=1)
    ratios = medians[1::2] / medians[0::2]
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    spread = 1.25 * np.std(ratios, ddof=1) / np.sqrt(len(ratios))  # standard error of a median
    return {
        "ratio": float(middle), "quartiles": [float(low), float(high)], "standard error": float(spread),
        "pairs": len(ratios), "dense ms": 1e3 * float(np.median(medians[0::2])),
    }  # fmt: skip


def layers(net: nn.Module) -> list[nn.Module]:
    return [net.get_submodule(name.rpartition(".")[0]) for name in prunable(net)]


def callback() -> dict[str, Any]:
    small, large = batches()
    return {
        "LeNet-300-100, batch 64": callback_cost(lenet300, small, 400, 11),
        "ResNet-20, batch 128": callback_cost(resnet20, large, 24, 5),
    }


def sparse() -> dict[str, Any]:
    small, large = batches()
    return {
        "LeNet-300-100, batch 64": alternating(lenet300, small, 16, 250),
        "ResNet-20, batch 128": alternating(resnet20, large, 8, 15),
    }


def batches() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """One batch for each of the two networks."""
    draw = torch.Generator().manual_seed(0)
    small = torch.rand(64, 1, 28, 28, generator=draw), torch.randint(0, 10, (64,), generator=draw)
    large = torch.rand(128, 3, 32, 32, generator=draw), torch.randint(0, 10, (128,), generator=draw)
    return small, large


def lenet300() -> nn.Module:
    return LeNet300(side=28, hidden=[300, 100], channels=1, num_classes=10)


def resnet20() -> nn.Module:
    return ResNetCifar(depth=20, width=16, num_classes=10, channels=3)


def loop() -> dict[str, Any]:
    from dsd.data import Arrays, ImageData

    updates, rounds, size = 60, 7, 128
    draw = np.random.default_rng(0)
    path = Path(f"/tmp/speed-{time.time_ns()}.npz")
    images = draw.integers(0, 256, (updates * size, 32, 32, 3), np.uint8)
    labels = np.arange(updates * size) % 10
    np.savez(path, x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10])
    data = ImageData(
        source=Arrays(path=str(path)), batch_size=size, seed=0, validation=0, augment={"pad": 4, "flip": True},
        mean=[0.5] * 3, std=[0.25] * 3, channels=3, size=32,
    )  # fmt: skip
    data.setup("fit")
    path.unlink()

    module = task(ResNetCifar(depth=20, width=16, num_classes=10, channels=3), compile=True, channels_last=True)
    bare = ResNetCifar(depth=20, width=16, num_classes=10, channels=3).to(memory_format=torch.channels_last)
    compiled = torch.compile(bare)
    optimizer = torch.optim.SGD(bare.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)
    x = torch.rand(size, 3, 32, 32).to(memory_format=torch.channels_last)
    y = torch.arange(size) % 10

    def by_hand() -> float:
        ends = []
        for _ in range(updates):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = nn.functional.cross_entropy(compiled(x), y)
            loss.backward()
            optimizer.step()
            ends.append(time.perf_counter())
        return float(np.median(np.diff(ends)[updates // 4 :]))

    def by_lightning() -> float:
        phases = [Phase("dense", 0.1, Times(1.0)), Phase("sparse", 0.9, Times(1.0), Sparse(0.5))]
        clock = Clock()
        rest = [Seeds(0), PlanCallback(phases), History(phases), Distributions(phases, bins=100)]
        keep = LastCheckpoint(Path("/tmp/speed-last.ckpt"), seconds=60)
        trainer = pl.Trainer(
            max_epochs=1, accelerator="cpu", precision="bf16-mixed", logger=False, enable_progress_bar=False,
            enable_model_summary=False, limit_val_batches=0, deterministic=True, callbacks=[*rest, clock, keep],
        )  # fmt: skip
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        trainer.fit(module, datamodule=data)
        torch.use_deterministic_algorithms(False)
        return clock.median(updates // 4)

    pairs = [(by_hand(), by_lightning()) for _ in range(rounds + 1)][1:]
    return {
        "bare loop, images/s": size / statistics.median(hand for hand, _ in pairs),
        "Trainer.fit, images/s": size / statistics.median(lightning for _, lightning in pairs),
        "ratio": statistics.median(hand / lightning for hand, lightning in pairs),
        "rounds": rounds,
    }


def one_mask(name: str, answers: Any) -> None:
    """In a process of its own, so that its peak memory is that of this one thing."""
    with torch.device("meta"):
        net = torchvision_model(name, num_classes=1000, channels=3)
    net = net.to_empty(device="cpu")
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(0, 0.02, generator=draw)
    weights = prunable(net)
    n = sum(w.numel() for w in weights.values())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        mask = Sparse(0.5).choose(weights, evidence={}, seed=0)
        seconds.append(time.perf_counter() - began)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    kept = sum(int(k.sum()) for k in mask.values())
    answers.put(
        {"weights": n, "kept": kept, "seconds": statistics.median(seconds), "memory / weights": grown / (4 * n)}
    )


def mask() -> dict[str, Any]:
    found = {}
    for name in ("alexnet", "vgg16"):
        context = multiprocessing.get_context("spawn")
        answers = context.Queue()
        job = context.Process(target=one_mask, args=(name, answers))
        job.start()
        found[name] = answers.get(timeout=300)
        job.join()
    return found


def main(parts: list[str]) -> None:
    warnings.filterwarnings("ignore")
    hush()
    torch.set_num_threads(2)
    known = {"callback": callback, "sparse": sparse, "loop": loop, "mask": mask}
    if unknown := set(parts) - set(known):
        sys.exit(f"there is no part {', '.join(unknown)}; there are: {', '.join(known)}")
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for part in parts or known:
        result[part] = known[part]() | {"hardware": hardware(), "versions": versions()}
        print(part, json.dumps({k: v for k, v in result[part].items() if k not in ("hardware", "versions")}, indent=1))
        atomic_write(RESULT, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
