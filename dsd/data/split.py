"""Held-out images: chosen by class and by the split's own seed only, so that no seed of a study moves the split."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dsd.data.order import SPLIT, generator

Indices = npt.NDArray[np.int64]


def held_out(validation: int | float, n: int) -> int:
    """The number of images that `validation` asks for: itself if an int, else round(validation * n).

    ValueError unless 0 <= result < n; a float must be in [0, 1).
    """
    count = round(validation * n) if isinstance(validation, float) else validation
    fraction_ok = not isinstance(validation, float) or 0 <= validation < 1
    if not (fraction_ok and 0 <= count < n):
        raise ValueError(
            f"validation={validation} can't be held out of {n} training images: give a count (int) below that, "
            "or a fraction (float) in [0, 1)"
        )
    return count


def stratified(labels_N: npt.NDArray[np.int64], count: int, *, seed: int) -> tuple[Indices, Indices]:
    """Sorted indices (kept, held): `count` held-out samples, shared among the classes in proportion to their size.

    Shares are rounded by largest remainder (ties go to the lower class), so exactly `count` are held out and no class
    is off by one or more; which samples of a class is up to `seed`. ValueError if `count` is outside 0 .. N.
    """
    n = len(labels_N)
    if not 0 <= count <= n:
        raise ValueError(f"can't hold out {count} of {n} samples")
    classes, sizes = np.unique(labels_N, return_counts=True)
    whole, remainder = np.divmod(sizes * count, max(n, 1))
    whole[np.argsort(-remainder, kind="stable")[: count - int(whole.sum())]] += 1
    held = np.zeros(n, dtype=bool)
    for label, size in zip(classes, whole, strict=True):
        members = np.flatnonzero(labels_N == label)
        held[generator(seed, SPLIT, int(label)).permutation(members)[:size]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def shuffled(indices_N: Indices, *, seed: int) -> Indices:
    """The same indices in an order that depends on `seed` only."""
    return generator(seed, SPLIT, 2**31).permutation(indices_N)
