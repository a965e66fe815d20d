"""What compressing costs, on weights of AlexNet's and VGG-16's shapes: `python -m experiments.compression_speed [alexnet|vgg16|baseline ...]`.

Shapes are torchvision's, densities and bits those of conf/experiment/dc_alexnet and dc_vgg16, positions independent,
survivors Laplacian beyond the threshold that pruning would leave. Each network in a process of its own: seconds for the
codebooks of all layers (k-means), for the archive and for reading it back, and the peak of memory over the dense weights.
`baseline`: two layers end to end (shared, coded, decoded), with scikit-learn's KMeans and a Huffman coder in plain Python
beside ours, interleaved; both store gaps of 5 bits with the paper's fillers, and values, by Huffman.
Writes experiments/compression_speed.json. Nothing here is a trained network: the ratios only say what the coder does.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsd.compression import compress, decompress
from dsd.quantization import Codebook
from dsd.results.provenance import hardware, versions
from dsd.results.store import atomic_write
from experiments.big_networks import layers as layers_of

RESULT = Path(__file__).with_suffix(".json")
NETWORKS = ("alexnet", "vgg16")


def drawn(shape: tuple[int, ...], kept: float, rng: np.random.Generator) -> Tensor:
    """A pruned layer: a Laplacian's tails at random places."""
    n = int(np.prod(shape))
    flat = np.zeros(n, np.float32)
    place = np.flatnonzero(rng.random(n, dtype=np.float32) < kept)
    flat[place] = rng.choice(np.array([-1, 1], np.float32), len(place)) * (
        rng.exponential(0.01, len(place)).astype(np.float32) - np.float32(0.01 * np.log(kept))
    )
    return torch.from_numpy(flat).reshape(shape)


def network(name: str, answer: Any) -> None:
    """Measure one network in this process and send the figures."""
    rng = np.random.default_rng(0)
    compress({"warm": drawn((100, 100), 0.1, rng)})  # compile once
    layers = [(drawn(shape, kept, rng), bits) for shape, kept, bits in layers_of(name)]
    size = sum(4 * weight.numel() for weight, _ in layers)
    before = _peak()
    state: dict[str, Tensor] = {}
    taken = 0.0
    for number, (weight, bits) in enumerate(layers):
        began = time.perf_counter()
        book = Codebook.of(weight, bits)
        taken += time.perf_counter() - began
        weight.copy_(book.values())
        state[f"{number}.weight"] = weight
    del book
    figures: dict[str, Any] = {"weights": size // 4, "codebooks s": taken}
    for coder in ("best", "ans", "huffman"):
        began = time.perf_counter()
        made = compress(state, coder=coder)  # type: ignore[arg-type]
        written = time.perf_counter()
        back = decompress(made.data)
        read = time.perf_counter()
        assert all(torch.equal(back[key], state[key]) for key in state)
        del back
        ledger = made.ledger
        figures[coder] = {
            "write s": written - began, "read s": read - written, "bytes": len(made.data), "ratio": ledger.ratio,
            "streams over Shannon %": 100 * (ledger.stream_bytes / ledger.shannon_bytes - 1),
        }  # fmt: skip
        if coder == "best":
            figures["peak / weights"] = (_peak() - before + size) / size
    answer.send(figures)


LAYERS = {"conv3, 8 bits": ((384, 256, 3, 3), 0.35, 8), "fc7, 5 bits": ((4096, 4096), 0.09, 5)}


def baseline() -> dict[str, Any]:
    """Two of AlexNet's layers end to end, ours and the usual way, interleaved, medians of three."""
    found: dict[str, Any] = {}
    arms: dict[str, Callable[[Tensor, int], int]] = {
        "ours": _ours,
        "scikit-learn's defaults + Python Huffman": _usual,
        "scikit-learn from linear centroids + Python Huffman": partial(_usual, linear=True),
    }
    for layer, (shape, kept, bits) in LAYERS.items():
        weight = drawn(shape, kept, np.random.default_rng(0))
        _ours(weight, bits)
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        sizes = {}
        for _ in range(3):
            for name, arm in arms.items():
                began = time.perf_counter()
                sizes[name] = arm(weight, bits)
                seconds[name].append(time.perf_counter() - began)
        median = {name: statistics.median(values) for name, values in seconds.items()}
        times = {name: median[name] / median["ours"] for name in arms if name != "ours"}
        found[layer] = {"seconds": median, "bytes": sizes, "times faster": times}
    return found


def _ours(weight: Tensor, bits: int) -> int:
    made = compress({"w": Codebook.of(weight, bits).values()}, coder="huffman", index_bits=5, fillers="paper")
    decompress(made.data)
    return len(made.data)


def _usual(weight: Tensor, bits: int, *, linear: bool = False) -> int:
    """KMeans as it comes, or from Deep Compression's linear centroids; fillers as in the paper, a dict of codewords,
    strings of bits, decoded bit by bit and put back in place."""
    from sklearn.cluster import KMeans

    flat = weight.reshape(-1).numpy()
    place = np.flatnonzero(flat)
    values = flat[place].reshape(-1, 1)
    start = np.linspace(values.min(), values.max(), 2**bits).reshape(-1, 1)
    how = {"init": start, "n_init": 1} if linear else {}
    fitted = KMeans(2**bits, **how).fit(values)
    labels, gaps, previous = [], [], -1
    for position, label in zip(place.tolist(), fitted.labels_.tolist(), strict=True):
        gap = position - previous - 1
        while gap > 31:
            gaps.append(31)
            labels.append(2**bits)
            gap -= 32
        gaps.append(gap)
        labels.append(label)
        previous = position
    size = 128
    decoded = []
    for symbols in (labels, gaps):
        heap: list[Any] = [(count, number, symbol) for number, (symbol, count) in enumerate(Counter(symbols).items())]
        heapify(heap)
        number = len(heap)
        while len(heap) > 1:
            a, b = heappop(heap), heappop(heap)
            heappush(heap, (a[0] + b[0], number, (a[2], b[2])))
            number += 1
        codes: dict[Any, str] = {}
        stack = [(heap[0][2], "")]
        while stack:
            node, code = stack.pop()
            if isinstance(node, tuple):
                stack += [(node[0], code + "0"), (node[1], code + "1")]
            else:
                codes[node] = code
        text = "".join(codes[symbol] for symbol in symbols)
        size += len(text) // 8 + 1
        words, held, found = {code: symbol for symbol, code in codes.items()}, "", []
        for bit in text:
            held += bit
            if held in words:
                found.append(words[held])
                held = ""
        decoded.append(np.array(found))
    at, label = np.cumsum(decoded[1] + 1) - 1, decoded[0]
    back = np.zeros_like(flat)
    survivors = label < 2**bits
    back[at[survivors]] = fitted.cluster_centers_[label[survivors], 0]
    assert np.array_equal(np.flatnonzero(back), place)
    return size


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def apart(name: str) -> dict[str, Any]:
    """The figures of one network, measured in a process of its own."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=network, args=(name, there))
    process.start()
    there.close()
    figures: dict[str, Any] = here.recv()
    process.join()
    return figures


def main(words: list[str]) -> None:
    found = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for word in words or [*NETWORKS, "baseline"]:
        found[word] = baseline() if word == "baseline" else apart(word)
        print(word, json.dumps(found[word], indent=1))
    found["machine"] = hardware() | versions()
    atomic_write(RESULT, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
