"""Criteria: what makes a weight worth keeping. A score per weight, larger = keep.

A criterion is any function `(weight, *, evidence, generator) -> score`, all of one shape. One that learns from gradients
also has a method `gather(weight, gradient) -> Tensor`, whose values are summed over the last updates before the sparse
phase and handed in as `evidence`. To add one, write such a function and a YAML file that names it:

    def squared(weight, **_):                      # mine.py
        return weight * weight

    # conf/criterion/squared.yaml
    _target_: mine.squared
    _partial_: true
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Generator, Tensor


class Criterion(Protocol):
    """Scores the weights of one tensor; see the module's docstring."""

    def __call__(self, weight: Tensor, *, evidence: Tensor | None, generator: Generator) -> Tensor: ...


def magnitude(weight: Tensor, **_: Any) -> Tensor:
    """|W|, the paper's criterion (Han et al., ICLR 2017, section 2)."""
    return weight.abs()


def random(weight: Tensor, *, generator: Generator, **_: Any) -> Tensor:
    """Uniform in 0..1 whatever the weights: the control that tells the mask from the choice of the mask."""
    return torch.rand(weight.shape, generator=generator).to(weight.device)


@dataclass(frozen=True)
class Taylor:
    """|sum of W x gradient|: the first-order change of the loss if the weight went (Molchanov 2017; SNIP, Lee 2019)."""

    def gather(self, weight: Tensor, gradient: Tensor) -> Tensor:
        return weight * gradient

    def __call__(self, weight: Tensor, *, evidence: Tensor | None, generator: Generator) -> Tensor:
        return _given(evidence, self).abs()


@dataclass(frozen=True)
class Movement:
    """Sum of -W x gradient: weights that move away from zero stay (Sanh et al., NeurIPS 2020)."""

    def gather(self, weight: Tensor, gradient: Tensor) -> Tensor:
        return -weight * gradient

    def __call__(self, weight: Tensor, *, evidence: Tensor | None, generator: Generator) -> Tensor:
        return _given(evidence, self)


def _given(evidence: Tensor | None, criterion: object) -> Tensor:
    if evidence is None:
        raise ValueError(
            f"{type(criterion).__name__} scores weights by gradients, and none were seen before this sparse phase: "
            "put a dense phase of at least one update in front, or use the magnitude criterion; exclude a weight that no gradient reaches"
        )
    return evidence
