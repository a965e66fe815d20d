"""Whole networks at published densities, untrained: dense, compiled, sparse and as a codebook, at batch 1, 8 and 64.

Weights are drawn by the network's own initialisation, the smallest of each layer set to 0, and the rest shared by 2^5
(linear) or 2^8 (convolution) values: times do not depend on what a network has learned, accuracies are not measured here.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dsd.inference.layers import convertible
from dsd.inference.loading import convert_, fastest
from dsd.inference.matrices import resident
from dsd.inference.published import DENSITY
from dsd.inference.timing import interleaved
from dsd.models import DeepSpeech1, LeNet5, LeNet300, NeuralTalk, torchvision_model
from dsd.models.recurrent import BidirectionalRecurrent
from dsd.sparsity import keep_top

FRAMES = 50  # of an utterance, half a second
WORDS = 5  # of a sentence that is generated
COMPILED = ("LeNet-300-100", "LeNet-5", "AlexNet", "NeuralTalk")  # in seconds; the others only if asked for by name
UNROLLED = ("Deep Speech 1",)
LONG = (
    0.5  # seconds of one call, beyond which the stored table chooses the ways of layers: the clock would take minutes
)
CALLS = 4  # of each arm, at least
WHY_NOT = (
    "Networks without a compiled arm: torch.compile unrolls Deep Speech's frames, and takes a minute for VGG-16 and ResNet-50, which "
    "have it only where they were asked for by name; others were measured with --no-compile."
)


class Speaker(nn.Module):
    """NeuralTalk as it is used: the image, then one word after the other, each the one of the highest score."""

    def __init__(self, net: NeuralTalk) -> None:
        super().__init__()
        self.net = net

    def forward(self, features_BF: Tensor) -> Tensor:
        state = self.net.look(features_BF)
        words_B = torch.zeros(len(features_BF), dtype=torch.int64)
        for _ in range(WORDS):
            scores_BV, state = self.net.next(words_B, state)
            words_B = scores_BV.argmax(1)
        return scores_BV


def images(side: int, channels: int) -> Callable[[int], tuple[Tensor, ...]]:
    """Arguments of a network for images, by batch."""
    return lambda batch: (torch.randn(batch, channels, side, side),)


def spectrograms(batch: int) -> tuple[Tensor, ...]:
    """Arguments of Deep Speech 1."""
    return torch.rand(batch, FRAMES, 161), torch.full((batch,), FRAMES)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], tuple[Tensor, ...]]]] = {
    "LeNet-300-100": (lambda: LeNet300(num_classes=10, channels=1, side=28, hidden=[300, 100]), images(28, 1)),
    "LeNet-5": (lambda: LeNet5(num_classes=10, channels=1, side=28, widths=[20, 50, 500]), images(28, 1)),
    "NeuralTalk": (
        lambda: Speaker(NeuralTalk(features=4096, vocabulary=8791, encoding=600, hidden=600, dropout=0.0, tanh_cell=False)),
        lambda batch: (torch.rand(batch, 4096),),
    ),
    "Deep Speech 1": (
        lambda: DeepSpeech1(bins=161, width=1024, symbols=29, context=11, stride=1, dropout=0.0), spectrograms
    ),
    "AlexNet": (lambda: torchvision_model("alexnet", num_classes=1000, channels=3), images(224, 3)),
    "ResNet-50": (lambda: torchvision_model("resnet50", num_classes=1000, channels=3), images(224, 3)),
    "VGG-16": (lambda: torchvision_model("vgg16", num_classes=1000, channels=3, init_weights=False), images(224, 3)),
}  # fmt: skip


@torch.no_grad()
def pruned_(net: nn.Module, densities: float | tuple[float, ...]) -> float:
    """Each layer keeps its share of weights and shares values; returns the density over all of them.

    One number is the density of all layers but a first convolution, as DSD prunes; otherwise there is one for each layer.
    """
    layers = list(convertible(net).values())
    recurrent = {
        id(m) for r in net.modules() if isinstance(r, BidirectionalRecurrent) for m in (r.input, r.ahead, r.back)
    }
    whole = isinstance(layers[0], nn.Conv1d | nn.Conv2d)
    each = (
        densities if isinstance(densities, tuple) else ((1.0,) if whole else ()) + (densities,) * (len(layers) - whole)
    )
    if recurrent and not isinstance(densities, tuple):
        each = (*each[:-1], 1.0)  # Deep Speech's output layer is never pruned (PROTOCOLS 1.1)
    kept = total = 0
    for layer, density in zip(layers, each, strict=True):
        weight = layer.weight
        score = weight.abs()
        keep = keep_top(score, density)
        step = float(score.max()) / (16 if isinstance(layer, nn.Linear) else 128) + 1e-12
        weight.copy_(((weight / step).floor() + 0.5) * step * keep)  # 2^5 or 2^8 equally wide shares: never 0
        kept, total = kept + int(keep.sum()), total + keep.numel()
    return kept / total


def network(
    name: str,
    batches: Iterable[int],
    *,
    rounds: int,
    budget: float,
    compiles: bool,
    patience: float,
    until: float = math.inf,
) -> Iterator[dict[str, Any]]:
    """A row for each batch: timings of the arms, bytes resident in each form, what became of the layers, and which forms are
    faster when the `whole` network goes through torch.compile, and do.

    A batch that is expected, from the one before, to be timed for longer than `patience` seconds, or to end after `until`
    (of time.perf_counter), has only the seconds in its row: 0 where nothing tells how many.
    """
    if time.perf_counter() > until:
        yield from ({"network": name, "batch": batch, "seconds": 0.0} for batch in batches)
        return
    torch.manual_seed(0)
    dense = NETWORKS[name][0]().eval()
    density = pruned_(dense, DENSITY[name])
    state = dense.state_dict()
    compiles &= name in COMPILED or (patience == math.inf and name not in UNROLLED)
    pace = spent = 0.0  # seconds an input in all arms; of the row before with all its conversions
    for batch in batches:
        calls, began = CALLS * pace * batch, time.perf_counter()
        if calls > patience or began + max(calls, spent) > until:
            yield {"network": name, "batch": batch, "seconds": max(calls, spent)}
            continue
        with torch.no_grad():
            row = _row(name, batch, dense, density, state, rounds=rounds, budget=budget, compiles=compiles)
        pace = sum(arm["median"] for arm in row["arms"].values()) / batch
        spent = time.perf_counter() - began
        yield row
        gc.collect()


def expected(row: Mapping[str, Any]) -> str:
    """A row that was left out, in words."""
    return f"{row['network']}, batch {row['batch']}" + (f", about {row['seconds']:.0f} s" if row["seconds"] else "")


def _row(
    name: str,
    batch: int,
    dense: nn.Module,
    density: float,
    state: dict[str, Tensor],
    *,
    rounds: int,
    budget: float,
    compiles: bool,
) -> dict[str, Any]:
    make, arguments = NETWORKS[name]
    example, forms, parts = arguments(batch), {"dense": dense}, {}
    began = time.perf_counter()
    dense(*example)
    by_clock = time.perf_counter() - began <= LONG
    for form in ("sparse", "codebook"):
        with torch.device("meta"):
            other = make().eval()
        other.load_state_dict(state, assign=True)  # the same memory, until it is converted
        parts[form] = convert_(other, form=form, batch=batch, example=example if by_clock else None)
        forms[form] = other
    whole: list[str] = []
    if compiles:
        torch.compiler.reset()  # after eight networks of the same class it would silently compile no more
        compiled = {form: torch.compile(net) for form, net in forms.items()}
        whole = [form for form in parts if _faster(compiled[form], forms[form], example)]
        forms |= {form: compiled[form] for form in whole} | {"compiled": compiled["dense"]}  # type: ignore[arg-type]
    outputs = {form: _scores(net(*example)) for form, net in forms.items()}
    for form, out in outputs.items():
        error = float((out - outputs["dense"]).abs().max() / outputs["dense"].abs().max())
        if error > 1e-4:
            raise ValueError(f"{name}, batch {batch}: {form} differs from dense by {error:.1e} of the largest score")
    took = interleaved({form: partial(net, *example) for form, net in forms.items()}, rounds=rounds, budget=budget)
    size = {"dense": resident(dense)} | {form: resident(forms[form]) for form in parts}
    ways = {
        form: {way: sum(p.form == way for p in rows) for way in {p.form for p in rows}} for form, rows in parts.items()
    }
    return {
        "network": name, "batch": batch, "density": density, "resident": size, "layers": ways, "whole": whole,
        "chosen": "clock" if by_clock else "table", "arms": {form: asdict(timing) for form, timing in took.items()},
    }  # fmt: skip


def _faster(net: Callable[..., object], other: Callable[..., object], example: tuple[Tensor, ...]) -> bool:
    """Whether `net` is faster than `other` by the clock, by more than 5 %."""
    return fastest({"other": partial(other, *example), "net": partial(net, *example)}) == "net"


def _scores(out: Any) -> Tensor:
    return out[0] if isinstance(out, tuple) else out  # type: ignore[no-any-return]
