"""A rate of errors over units of different size, such as words wrong over words said, and how sure it is for these units.

The bootstrap draws whole utterances: words of one utterance go wrong together (Bisani & Ney, ICASSP 2004). Trained networks
are taken as they are: what another seed would do is the business of the intervals over seeds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from dsd.results.statistics import words
from dsd.results.statistics.effect import Interval
from dsd.results.statistics.sample import FloatArray


@dataclass(frozen=True)
class Rate:
    """100 x errors / size in %, or a difference of two such; `interval` is None where the data have no usable spread."""

    value: float
    n: int
    interval: Interval | None

    @property
    def sentence(self) -> str:
        spread = f"{self.interval}" if self.interval else "no interval"
        return f"Over the {words.plural(self.n, 'utterance')}: {words.number(self.value)} %, {spread}."


def rate(errors: Sequence[float], sizes: Sequence[float], *, confidence: float, resamples: int, seed: int) -> Rate:
    """Errors a hundred units of size, with its BCa interval over the utterances. ValueError naming what doesn't fit."""
    return _rate((_counts("errors", errors, sizes), np.asarray(sizes, float)), confidence, resamples, seed)


def rate_difference(
    treated: Sequence[float], control: Sequence[float], sizes: Sequence[float], *, confidence: float, resamples: int, seed: int
) -> Rate:  # fmt: skip
    """The rate of `treated` errors - that of `control`, on the same utterances: each is drawn for both."""
    gain = _counts("treated", treated, sizes) - _counts("control", control, sizes)
    return _rate((gain, np.asarray(sizes, float)), confidence, resamples, seed)


def _counts(name: str, errors: Sequence[float], sizes: Sequence[float]) -> FloatArray:
    counts = np.asarray(errors, float)
    if len(errors) != len(sizes):
        raise ValueError(f"{name} are of {len(errors)} utterances, sizes of {len(sizes)}")
    if not sizes or sum(sizes) <= 0 or min(sizes) < 0 or counts.min() < 0 or not np.isfinite(counts).all():
        raise ValueError(f"{name} and sizes must be counts, and something must have been said")
    return counts


def _per_cent(errors: FloatArray, sizes: FloatArray, axis: int = -1) -> FloatArray:
    return np.asarray(100 * errors.sum(axis=axis) / sizes.sum(axis=axis))


def _rate(samples: tuple[FloatArray, FloatArray], confidence: float, resamples: int, seed: int) -> Rate:
    words.probability("confidence", confidence)
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    value, n = float(_per_cent(*samples)), len(samples[0])
    if n < 3:
        return Rate(value, n, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy warns of a degenerate distribution; there is no interval then
        found = stats.bootstrap(
            samples, _per_cent, paired=True, vectorized=True, n_resamples=resamples, confidence_level=confidence,
            method="BCa", random_state=np.random.default_rng(seed),
        ).confidence_interval  # fmt: skip
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return Rate(value, n, None)
    return Rate(value, n, Interval(float(found.low), float(found.high), confidence, "BCa"))
