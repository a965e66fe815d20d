"""Weights made cheap to store without any training: pruned by size, shared by k-means; and whether two sets are equal.

These are the first steps of Deep Compression (Han et al., ICLR 2016, sections 2 and 3) without its retraining. A file
of tensors does not say what its layers are, so a weight is any float tensor of two or more dimensions: a matrix
(`fc`), or a convolution with three or more. Biases and normalisation stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from dsd.coding.archive import DTYPES
from dsd.packing import memory
from dsd.quantization.budget import choices, frontier
from dsd.quantization.codebook import Codebook
from dsd.quantization.kmeans import Initial, linear
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
    return changed(state, weights(state), lambda name, w: torch.where(keep_top(w.abs(), 1 - sparsity), w, 0))


def changed(
    state: Mapping[str, Tensor], some: Mapping[str, Tensor], change: Callable[[str, Tensor], Tensor]
) -> dict[str, Tensor]:
    """The state with `change(name, weight)` in place of some weights; those that share memory still do."""
    made: dict[tuple[Any, ...], Tensor] = {}
    new = dict(state)
    for name, weight in some.items():
        key = memory(weight)
        if key not in made:
            made[key] = change(name, weight)
        new[name] = made[key]
    return new


def shared(
    state: Mapping[str, Tensor],
    *,
    conv_bits: int | None,
    fc_bits: int | None,
    init: Initial = linear,
    iterations: int = 50,
) -> dict[str, Tensor]:
    """The state with at most 2^bits values in each weight, by k-means over those that are not 0; None leaves a kind alone.

    With iterations=0 the values are the initial ones (dsd/quantization/kmeans.py): linear is affine uniform quantization.
    ValueError if there is no weight of a kind that has bits.
    """
    bits = {n: b for n, w in weights(state).items() if (b := conv_bits if w.ndim > 2 else fc_bits) is not None}
    if not bits:
        raise ValueError("there is no weight of the kind that bits were given for: give --bits instead")

    def share(name: str, weight: Tensor) -> Tensor:
        return Codebook.of(weight, bits[name], init=init, iterations=iterations).values().to(weight.dtype)

    return changed(state, {n: state[n] for n in bits}, share)


def fitted(
    state: Mapping[str, Tensor], budget: int, size: Callable[[Mapping[str, Tensor]], int]
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The state with as few bits in each weight as make `size` at most `budget` bytes, and these bits; none if it fits as it is.

    ValueError if one bit in each is too much.
    """
    if size(state) <= budget:
        return dict(state), {}
    every = weights(state)
    first = {memory(w): n for n, w in reversed(every.items())}  # tied weights have the same bits
    found = {name: weight for name, weight in every.items() if first[memory(weight)] == name}
    steps = frontier({n: choices(w, init=linear, iterations=50, seed=0) for n, w in found.items()})

    def at(step: int) -> dict[str, Tensor]:
        bits = {n: c.bits for n, c in steps[step].items()}
        return changed(state, every, lambda n, w: Codebook.of(w, bits[first[memory(w)]]).values().to(w.dtype))

    if (least := size(at(-1))) > budget:
        raise ValueError(
            f"{budget:,} bytes are too few: with the smallest codebooks it takes {least:,}; prune first (--sparsity)"
        )
    low, high = 0, len(steps) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if size(at(middle)) <= budget else (middle + 1, high)
    return at(high), {name: choice.bits for name, choice in steps[high].items()}


def made_small(
    state: Mapping[str, Tensor], asked: Any, size: Callable[[Mapping[str, Tensor]], int]
) -> tuple[Mapping[str, Tensor], str]:
    """The state as `dsd compress` was asked to change it first (sparsity, bits or budget), and what was done, in words."""
    done = []
    if asked.sparsity is not None:
        state = pruned(state, asked.sparsity)
        done.append(f"sparsity {asked.sparsity:g}")
    conv = asked.bits if asked.conv_bits is None else asked.conv_bits
    fc = asked.bits if asked.fc_bits is None else asked.fc_bits
    if (conv is not None or fc is not None) and asked.budget is not None:
        raise ValueError("--budget chooses the bits: leave --bits, --conv-bits and --fc-bits out")
    if conv is not None or fc is not None:
        state = shared(state, conv_bits=conv, fc_bits=fc)
        done.append(f"bits: {conv} of convolutions, {fc} of matrices")
    if asked.budget is not None:
        state, bits = fitted(state, asked.budget, size)
        done += ["bits: " + ", ".join(f"{name} {n}" for name, n in bits.items())] if bits else []
    return state, "; ".join(done)


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Nothing, or a ValueError that names the tensor with NaN or infinity."""
    for name, value in state.items():
        known = (
            value.layout == torch.strided and str(value.dtype).removeprefix("torch.") in DTYPES
        )  # else compress says so
        wrong = int((~torch.isfinite(value)).sum()) if known and value.is_floating_point() else 0
        if wrong:
            raise ValueError(
                f"{name} of {source} has {wrong:,} values that are NaN or infinite, which no archive holds: the training has "
                "diverged, or the tensor is a constant (a mask of attention, say) that the network can make itself: leave it out"
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
        elif a.layout != b.layout:
            lines.append(f"{name}: {a.layout}, and {b.layout}")
        elif unlike := int((_bytes(a) != _bytes(b)).any(1).sum()):
            lines.append(f"{name}: {unlike:,} of {a.numel():,} values differ")
    return lines


def _bytes(value: Tensor) -> Tensor:
    """The bytes of each value as a row."""
    unsigned = value + 0 if value.is_floating_point() or value.is_complex() else value
    rows = unsigned.reshape(-1, 1).clone(memory_format=torch.contiguous_format)  # strides too, where a dimension is 1
    return rows.view(torch.uint8)
