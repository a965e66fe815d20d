"""How much each layer bears: the error as one layer after the other is changed, and an allocation read off the curves.

Han et al., NIPS 2015, section 4 and Figure 6: one layer is pruned at a time, the others stay dense, nothing is retrained
(unless `measure` retrains). The same with the bits of its codebook.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn


class Alone(Protocol):
    """A constraint on layers that can be had for a single one, at a value of its own: a sparsity, or a number of bits."""

    def weights(self, module: nn.Module) -> Mapping[str, Any]: ...
    def alone(self, layer: str, value: float) -> Any: ...


def scan(
    module: nn.Module,
    constraint: Alone,
    values: Sequence[float],
    measure: Callable[[str, float], float],
    *,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Error (lower is better) of each layer at each value, as `measure(layer, value)` gives it. Weights come back.

    Layers are those that `constraint` is about, each held to it alone. ValueError if there is no value, or one it refuses.
    """
    if not values:
        raise ValueError("a scan needs at least one value for each layer, found none")
    saved = {name: value.detach().clone() for name, value in module.state_dict().items()}
    curves: dict[str, list[float]] = {}
    for name in constraint.weights(module):
        curves[name] = []
        for value in values:
            constraint.alone(name, value).enter(module, evidence={}, seed=seed)
            try:
                curves[name].append(measure(name, value))
            finally:
                with torch.no_grad():
                    for key, value in module.state_dict().items():
                        value.copy_(saved[key])
    return curves


def table_of(
    curves: Mapping[str, Sequence[float]],
    values: Sequence[float],
    *,
    dense: float,
    tolerance: float,
    least: float = 0.0,
) -> dict[str, float]:
    """The largest value of each layer whose error is at most `dense` + `tolerance`, all smaller ones included; else `least`.

    For bits, where less is harder, give them negative.
    """
    table = {}
    order = sorted(range(len(values)), key=lambda i: values[i])
    for name, errors in curves.items():
        table[name] = least
        for i in order:
            if not errors[i] <= dense + tolerance:
                break
            table[name] = float(values[i])
    return table
