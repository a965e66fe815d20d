"""Weights made cheap to store without any training: pruned by size, shared by k-means; and whether two sets are equal.

These are the first steps of Deep Compression (Han et al., ICLR 2016, sections 2 and 3) without its retraining. A file
of tensors does not say what its layers are, so a weight is any float tensor of two or more dimensions: a matrix
(`fc`), or a convolution with three or more. Biases and normalisation stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dsd.quantization.codebook import Codebook
from dsd.sparsity import keep_top


def weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that may be pruned and shared; ValueError if there is none."""
    found = {name: value for name, value in state.items() if value.is_floating_point() and value.ndim >= 2}
    if not found:
        raise ValueError(f"no tensor is a weight (floats of two or more dimensions) among {', '.join(list(state)[:8])}")
    return found


def pruned(state: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """The state with the fraction `sparsity` (0..1) of each weight set to 0, the smallest ones."""
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity is the removed fraction, 0 to 1, found {sparsity}")
    return {**state, **{n: torch.where(keep_top(w.abs(), 1 - sparsity), w, 0) for n, w in weights(state).items()}}


def shared(state: Mapping[str, Tensor], *, conv_bits: int | None, fc_bits: int | None) -> dict[str, Tensor]:
    """The state with at most 2^bits values in each weight, by k-means over those that are not 0; None leaves a kind alone.

    ValueError if there is no weight of a kind that has bits.
    """
    chosen = {n: (w, conv_bits if w.ndim > 2 else fc_bits) for n, w in weights(state).items()}
    asked = {n: (w, bits) for n, (w, bits) in chosen.items() if bits is not None}
    if not asked:
        raise ValueError("there is no weight of the kind that bits were given for: give --bits instead")
    return {**state, **{n: Codebook.of(w, bits).values().to(w.dtype) for n, (w, bits) in asked.items()}}


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Nothing, or a ValueError that names the tensor with NaN or infinity."""
    for name, value in state.items():
        wrong = int((~torch.isfinite(value)).sum()) if value.is_floating_point() else 0
        if wrong:
            raise ValueError(
                f"{name} of {source} has {wrong:,} values that are NaN or infinite: the training has diverged"
            )


def differences(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """A line for each tensor that is missing, of another shape or type, or not equal in every bit; none if all are equal.

    -0.0 counts as 0.0, which is how archives have it: masks leave half of the pruned weights with that sign.
    """
    lines = [f"{name}: only in one of them" for name in sorted(set(one) ^ set(other))]
    for name in (name for name in one if name in other):
        a, b = one[name], other[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            lines.append(f"{name}: {tuple(a.shape)} {a.dtype}, and {tuple(b.shape)} {b.dtype}")
        elif unlike := int((_bytes(a) != _bytes(b)).any(1).sum()):
            lines.append(f"{name}: {unlike:,} of {a.numel():,} values differ")
    return lines


def _bytes(value: Tensor) -> Tensor:
    """The bytes of each value as a row."""
    unsigned = value + 0 if value.is_floating_point() or value.is_complex() else value
    return unsigned.reshape(-1, 1).contiguous().view(torch.uint8)
