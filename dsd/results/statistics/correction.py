"""Many tests in one study: adjusted p, to be compared with alpha as they are.

Holm keeps the chance of even one false claim below alpha; Benjamini-Hochberg the share of false ones among the claims.
A test that gave no p stays None but still counts, as p = 1: planning a test and losing it must not help the others.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import stats

from dsd.results.statistics.sample import FloatArray


def holm(p: Mapping[str, float | None]) -> dict[str, float | None]:
    """Adjusted p of each test, by Holm's step-down (1979)."""
    raw = _checked(p)
    order = np.argsort(raw, kind="stable")
    stepped = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1))
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(stepped, 1)
    return _named(p, adjusted)


def benjamini_hochberg(p: Mapping[str, float | None]) -> dict[str, float | None]:
    """Adjusted p of each test, by Benjamini and Hochberg's step-up (1995)."""
    raw = _checked(p)
    return _named(p, stats.false_discovery_control(raw, method="bh")) if len(raw) else {}


def _checked(p: Mapping[str, float | None]) -> FloatArray:
    for name, value in p.items():
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name}: a p lies between 0 and 1, got {value}")
    return np.array([1.0 if value is None else value for value in p.values()])


def _named(p: Mapping[str, float | None], adjusted: FloatArray) -> dict[str, float | None]:
    pairs = zip(p.items(), adjusted, strict=True)
    return {name: None if value is None else float(new) for (name, value), new in pairs}
