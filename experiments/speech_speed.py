"""What a training step of Deep Speech costs: ratios measured in one run, interleaved, with the machine beside them.

    python -m experiments.speech_speed          both parts, some minutes on two idle cores; writes experiments/speech_speed.json
    python -m experiments.speech_speed step     one part: step or full

step  Deep Speech 1, 1024 wide, 16 utterances of 500 frames, forward, CTC and backward: with torch's `nn.RNN` (ReLU, directions
      summed; it has neither the shared projection nor the clip) as it comes, with denormal numbers flushed to 0, and in
      bfloat16; and with our layer. Every measurement is a process of its own, since threads keep their way with denormals.
full  a few updates of both networks at their published widths (8,139,805 and 67,696,733 parameters), Nesterov SGD, bfloat16:
      seconds an update, and the growth of the process's peak memory.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import ctc_loss

from dsd.models import DeepSpeech1, DeepSpeech2
from dsd.models.recurrent import clipped
from dsd.results.provenance import hardware, versions
from dsd.results.store import atomic_write

RESULT = Path(__file__).with_suffix(".json")
BATCH, FRAMES, SYMBOLS, ROUNDS = 16, 500, 60, 2
ONE = {"bins": 161, "width": 1024, "symbols": 29, "context": 11, "stride": 1, "dropout": 0.05}
TWO = {"bins": 161, "channels": 32, "width": 1760, "depth": 7, "symbols": 29, "dropout": 0.0}
ARMS = {  # layer, flush denormals, bfloat16
    "nn.RNN, as it comes": ("torch", False, False),
    "nn.RNN, denormals flushed": ("torch", True, False),
    "nn.RNN, flushed, bfloat16": ("torch", True, True),
    "ours, as it comes": ("ours", False, False),
    "ours, denormals flushed": ("ours", True, False),
    "ours, flushed, bfloat16": ("ours", True, True),
}


class Naive(nn.Module):
    """What one writes first: `nn.RNN` of two directions in the place of the paper's recurrent layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(width, width, nonlinearity="relu", batch_first=True, bidirectional=True)

    def forward(self, x_BTH: Tensor, valid_BT: Tensor) -> Tensor:
        ahead_BTH, back_BTH = self.rnn(x_BTH)[0].chunk(2, 2)
        return clipped(ahead_BTH + back_BTH)


def utterances() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Spectrograms, frames, symbols and their counts: drawn, of the sizes above."""
    draw = torch.Generator().manual_seed(0)
    symbols_BL = torch.randint(1, 29, (BATCH, SYMBOLS), generator=draw)
    x_BTF = torch.randn(BATCH, FRAMES, 161, generator=draw)
    return x_BTF, torch.full((BATCH,), FRAMES), symbols_BL, torch.full((BATCH,), SYMBOLS)


def loss_of(net: nn.Module, batch: tuple[Tensor, Tensor, Tensor, Tensor], half: bool) -> Tensor:
    """CTC's, summed over each utterance and averaged."""
    x_BTF, frames_B, symbols_BL, counts_B = batch
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        scores_BTS, steps_B = net(x_BTF, frames_B)
    log_TBS = scores_BTS.float().log_softmax(2).transpose(0, 1)
    return ctc_loss(log_TBS, symbols_BL, steps_B, counts_B, 0, "sum", zero_infinity=True) / BATCH


def step(arm: str, threads: int, steps: int) -> float:
    """The median of the seconds of `steps` training steps, after one."""
    layer, flush, half = ARMS[arm]
    torch.set_flush_denormal(flush)  # before there are threads
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net, batch, taken = DeepSpeech1(**ONE), utterances(), []  # type: ignore[arg-type]
    if layer == "torch":
        net.recurrent3 = Naive(1024)  # type: ignore[assignment]
    for _ in range(1 + steps):
        began = time.perf_counter()
        net.zero_grad()
        loss_of(net, batch, half).backward()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def apart(function: Any, *args: Any) -> Any:
    """What the function gives in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def steps() -> dict[str, Any]:
    """Seconds of each arm by round, and how many times faster ours is."""
    threads = torch.get_num_threads()
    rounds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for _ in range(ROUNDS):
        for arm in ARMS:
            slow = not ARMS[arm][1]
            rounds[arm].append(apart(step, arm, threads, 1 if slow else 3))
            print(f"{arm:28} {rounds[arm][-1]:7.2f} s", flush=True)
    best = rounds["ours, flushed, bfloat16"]
    ratios = {arm: statistics.median(a / b for a, b in zip(rounds[arm], best, strict=True)) for arm in ARMS}
    return {"threads": threads, "seconds": rounds, "times slower than ours, flushed, bfloat16": ratios}


def full(network: str, updates: int) -> dict[str, Any]:
    """Seconds an update and GiB of peak memory above what was there before the network."""
    torch.set_flush_denormal(True)
    batch, before = utterances(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    torch.manual_seed(0)
    net = DeepSpeech1(**ONE) if network == "deepspeech1" else DeepSpeech2(**TWO)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.99, nesterov=True)
    taken, losses = [], []
    for _ in range(updates):
        began = time.perf_counter()
        optimizer.zero_grad()
        loss = loss_of(net, batch, True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 400.0)
        optimizer.step()
        taken.append(time.perf_counter() - began)
        losses.append(round(float(loss.detach()), 2))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    count = sum(p.numel() for p in net.parameters())
    return {"parameters": count, "seconds": taken, "losses": losses, "peak GiB": round(grown, 2)}


def main(parts: list[str]) -> None:
    """Measure and write down."""
    found = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if not parts or "step" in parts:
        found["step"] = steps() | {"hardware": hardware(), "versions": versions()}
    if not parts or "full" in parts:
        nets = {name: apart(full, name, 4) for name in ("deepspeech1", "deepspeech2")}
        found["full"] = nets | {"hardware": hardware(), "versions": versions()}
    atomic_write(RESULT, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
