"""Allocation: how a sparsity is shared among layers. Functions `(scores, sparsity) -> density of each layer`.

`scores` maps parameter names to score tensors. To add one, write such a function and a YAML file that names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dsd.sparsity.select import matching
from dsd.sparsity.top import count


class Allocation(Protocol):
    """Gives each layer its density; see the module's docstring."""

    def __call__(self, scores: Mapping[str, Tensor], sparsity: float) -> dict[str, float]: ...


def uniform(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, float]:
    """The same in every layer, as in the paper (Han et al., ICLR 2017, section 4)."""
    return dict.fromkeys(scores, 1 - sparsity)


def across_layers(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, float]:
    """One threshold for all layers together ("global"); exact in all, ties go to the earlier layer.

    Scores of different layers must be comparable; elements only, since a piece's score is a mean.
    """
    total = sum(score.numel() for score in scores.values())
    k = count(1 - sparsity, total)
    if k in (0, total):
        return dict.fromkeys(scores, 1 - sparsity)
    wide = any(score.dtype == torch.float64 for score in scores.values())
    pool = np.empty(total, np.float64 if wide else np.float32)
    first = 0
    for score in scores.values():
        pool[first : first + score.numel()] = (
            score.detach().reshape(-1).to("cpu", torch.float64 if wide else torch.float32).numpy()
        )
        first += score.numel()
    pool.partition(total - k)
    threshold = float(pool[total - k])
    del pool
    above = {name: int((score > threshold).sum()) for name, score in scores.items()}
    missing = k - sum(above.values())
    for name, score in scores.items():
        ties = min(missing, int((score == threshold).sum()))
        above[name] += ties
        missing -= ties
    return {name: above[name] / score.numel() for name, score in scores.items()}


def per_layer(scores: Mapping[str, Tensor], sparsity: float, *, table: Mapping[str, float]) -> dict[str, float]:
    """Sparsities by name pattern (`{"fc*": 0.9}`); layers without one get `sparsity`.

    Raises ValueError if a pattern matches no layer or two patterns match the same one.
    """
    densities = dict.fromkeys(scores, 1 - sparsity)
    owner: dict[str, str] = {}
    for pattern, value in table.items():
        for name in matching(scores, [pattern]):
            if name in owner:
                raise ValueError(f"both {owner[name]!r} and {pattern!r} of the sparsity table match layer {name!r}")
            owner[name] = pattern
            densities[name] = 1 - value
    return densities


def by_deviation(scores: Mapping[str, Tensor], sparsity: float, *, quality: Mapping[str, float]) -> dict[str, float]:
    """Threshold = quality x the layer's standard deviation (Han et al., NIPS 2015, section 4), by name pattern.

    With sparsity = 0 the qualities are taken as they are; otherwise all are multiplied by the one factor that gives this
    sparsity in all. For |W|; the deviation is the root mean square, as the mean of a layer's weights is close to 0.
    Raises ValueError if a layer has no quality, or a pattern matches no layer.
    """
    relative: dict[str, Tensor] = {}
    for pattern, value in quality.items():
        for name in matching(scores, [pattern]):
            score = scores[name].detach().float()
            relative[name] = score / (score.square().mean().sqrt().clamp_min(1e-30) * value)
    if lacking := [name for name in scores if name not in relative]:
        raise ValueError(f"no quality is given for {lacking[:5]}; write one for each layer, or a pattern such as '*'")
    if sparsity == 0:
        return {name: float((ratio > 1).float().mean()) for name, ratio in relative.items()}
    return across_layers({name: relative[name] for name in scores}, sparsity)


def erk(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, float]:
    """Erdos-Renyi-Kernel (Evci et al., 2020): density in proportion to sum(shape) / prod(shape), at most 1."""
    size = {name: score.numel() for name, score in scores.items()}
    raw = {name: sum(score.shape) / score.numel() for name, score in scores.items()}
    dense: set[str] = set()
    while True:
        budget = (1 - sparsity) * sum(size.values()) - sum(size[name] for name in dense)
        open_ = [name for name in scores if name not in dense]
        scale = budget / sum(raw[name] * size[name] for name in open_) if open_ else 0.0
        full = {name for name in open_ if scale * raw[name] > 1}
        if not full:
            return {name: 1.0 if name in dense else scale * raw[name] for name in scores}
        dense |= full
