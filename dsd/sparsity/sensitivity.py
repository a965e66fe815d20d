"""How much each layer bears: the error as one layer after the other is pruned, and an allocation read off the curves.

Han et al., NIPS 2015, section 4 and Figure 6: one layer is pruned at a time, the others stay dense, nothing is retrained
(unless `measure` retrains).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from dsd.sparsity.sparse import Sparse


def scan(
    module: nn.Module,
    constraint: Sparse,
    sparsities: Sequence[float],
    measure: Callable[[str, float], float],
    *,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Error (lower is better) of each layer at each sparsity, as `measure(layer, sparsity)` gives it. Weights come back.

    Layers are those that `constraint` prunes, each by its criterion and granularity.
    """
    if not sparsities or any(not 0 <= s < 1 for s in sparsities):
        raise ValueError(f"sparsities must be between 0 and 1, found {list(sparsities)}")
    saved = {name: value.detach().clone() for name, value in module.state_dict().items()}
    curves: dict[str, list[float]] = {}
    for name in constraint.weights(module):
        curves[name] = []
        for sparsity in sparsities:
            alone = replace(constraint, sparsity=sparsity, include=[name], exclude=())
            alone.enter(module, evidence={}, seed=seed)
            try:
                curves[name].append(measure(name, sparsity))
            finally:
                with torch.no_grad():
                    for key, value in module.state_dict().items():
                        value.copy_(saved[key])
    return curves


def table_of(
    curves: Mapping[str, Sequence[float]], sparsities: Sequence[float], *, dense: float, tolerance: float
) -> dict[str, float]:
    """The largest sparsity of each layer whose error is at most `dense` + `tolerance`, all smaller ones included; else 0."""
    table = {}
    order = sorted(range(len(sparsities)), key=lambda i: sparsities[i])
    for name, errors in curves.items():
        table[name] = 0.0
        for i in order:
            if not errors[i] <= dense + tolerance:
                break
            table[name] = float(sparsities[i])
    return table
