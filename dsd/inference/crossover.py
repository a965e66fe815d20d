"""Below which density a sparse product is faster than the dense one, by kind of layer, form and batch: measured and stored.

`dsd bench --only crossover --write-crossover FILE` measures it on this machine, for `dsd.load(crossover=FILE)`; the table in the
package says itself where it was made. Whoever needs certainty gives `dsd.load` an example, and every layer is timed instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from torch import nn

STORED = Path(__file__).with_name("crossover.json")
KINDS = ("linear", "convolution", "pointwise")  # convolutions of 1x1 need no patches


def kind_of(layer: nn.Linear | nn.Conv1d | nn.Conv2d) -> str:
    """Which of the kinds it is."""
    if isinstance(layer, nn.Linear):
        return "linear"
    alone = set(layer.kernel_size) == {1} and (isinstance(layer.padding, str) or not any(layer.padding))
    return "pointwise" if alone else "convolution"


def stored(path: Path = STORED) -> dict[str, Any]:
    """{kind of layer: {"sparse" | "coded": {batch: highest density}}, "machine": ..., "versions": ...}.

    ValueError for a file that is no such table.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        for kind, form in product(KINDS, ("sparse", "coded")):
            faster(kind, form, density=0.5, batch=1, table=found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no table of dsd bench --write-crossover ({type(error).__name__}: {error}); measure it again"
        ) from error
    return found


def faster(kind: str, form: str, *, density: float, batch: int, table: Mapping[str, Any] | None = None) -> bool:
    """Whether the sparse form of a layer of this density is faster at this batch: compressed rows than the dense layer, coded
    than a byte for every weight.

    Between two measured batches both must say so; beyond the last one it counts.
    """
    if batch < 1:
        raise ValueError(f"a batch is 1 or more, found {batch}")
    row = {int(key): float(value) for key, value in (stored() if table is None else table)[kind][form].items()}
    below = [key for key in row if key <= batch] or [min(row)]
    above = [key for key in row if key >= batch] or [max(row)]
    return density <= min(row[max(below)], row[min(above)])
