"""Checkpoints of other pruning libraries as plain weights whose pruned entries are 0; nothing about them is guessed.

torch.nn.utils.prune, Lightning's ModelPruning   `x_orig` and `x_mask`, 1 = kept; a Lightning checkpoint around it
Distiller                                        `state_dict`, and `compression_sched` with `masks_dict` (older notes: its
                                                 scheduler's `zeros_mask_dict`), 1 = kept, None = no mask; names with `module.`
bare masks                                       tensors of 0 and 1 in the weights' file (`x_mask`) or in one of their own, by the
                                                 weight's name, alone or with `_mask` or `.mask`; what 1 means must be said
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsd.weights import TORCH, inside, load_weights, multiply_masks, read_safetensors, read_torch, some, unwrap

SCHEDULER = "compression_sched"
MASKS = ("masks_dict", "zeros_mask_dict")
ENDINGS = ("", "_mask", ".mask")
MEANINGS = ("kept", "pruned")


@dataclass(frozen=True)
class Imported:
    """The weights, which library's layout they came in, and the density of each that has a mask."""

    weights: dict[str, Tensor]
    layout: str
    density: dict[str, float]


def imported(path: Path, *, masks: Path | None = None, ones: str | None = None) -> Imported:
    """The weights of a checkpoint, multiplied by its masks. `ones` says what 1 means in bare masks: "kept" or "pruned".

    ValueError for bare masks without `ones`, for `ones` without bare masks, for a mask that fits no weight or holds anything
    but 0 and 1, for one that would leave nothing but zeros, and for a file without any mask.
    """
    if ones is not None and ones not in MEANINGS:
        raise ValueError(f"ones must be one of {', '.join(MEANINGS)}, found {ones!r}")
    loaded: Any = read_torch(path) if path.is_file() and path.suffix in TORCH else None
    scheduler: Any = loaded.get(SCHEDULER) if isinstance(loaded, Mapping) else None
    held = dict(scheduler) if isinstance(scheduler, Mapping) else {}
    if (
        masks is None
        and isinstance(loaded, Mapping)
        and not held
        and (astray := [key for key in MASKS if key in loaded])
    ):
        raise ValueError(
            f"{path} has {astray[0]} outside of {SCHEDULER}, where Distiller keeps it: nothing says what 1 means in it. Save its masks in "
            "a file of their own, and give that with --masks FILE --ones kept|pruned"
        )
    found = next((held[key] for key in MASKS if key in held), None)
    if isinstance(found, Mapping):
        if masks is not None or ones is not None:
            raise ValueError(f"{path} is Distiller's and has masks of its own, 1 = kept: leave --masks and --ones out")
        weights = _distiller(inside(loaded["state_dict"], path) if "state_dict" in loaded else None, path)
        return _masked(weights, _distiller(_tensors(found, path), path), "Distiller", path, "kept")
    weights = unwrap(inside(loaded, path, whole=True)) if loaded is not None else _stored(path)
    weights = {name: value if value.layout == torch.strided else value.to_dense() for name, value in weights.items()}
    before = [name.removesuffix("_orig") for name in weights if name.endswith("_orig")]
    pairs = {name: weights[f"{name}_mask"] for name in before if f"{name}_mask" in weights}
    if pairs and (lone := [name for name in before if name not in pairs and name not in weights]):
        raise ValueError(f"{path} is not whole: {lone[0]}_orig has no {lone[0]}_mask beside it, as others have")
    bare: dict[str, Tensor] = {}
    if masks is None:
        bare = {name: weights.pop(name) for name in list(weights) if _is_bare(name, weights, pairs)}
    else:
        given = unwrap(inside(read_torch(masks), masks) if masks.suffix in TORCH else load_weights(masks))
        bare = {_known(name, weights): mask.to_dense() for name, mask in given.items()}
        if len(bare) < len(given):
            raise ValueError(f"{masks} has two masks for a weight, one with net. before its name and one without")
    if not bare:
        if ones is not None:
            raise ValueError(f"{path} has no bare masks that --ones could speak of")
        if not pairs:
            raise ValueError(
                f"{path} has no masks that are known here; a file of masks is given with --masks FILE --ones kept|pruned, and "
                "without any, `dsd compress` takes the weights as they are"
            )
        return _masked(multiply_masks(weights, path), {}, "torch.nn.utils.prune", path, "kept", pairs)
    if ones is None:
        raise ValueError(
            f"{masks or path} has bare masks ({some(list(bare))}), and nothing says what 1 means in them: --ones kept, or "
            "--ones pruned"
        )
    return _masked(multiply_masks(weights, path), bare, "bare masks", masks or path, ones, pairs)


def _of(mask: str, weights: Mapping[str, Any]) -> str | None:
    """The weight that a mask of this name is of."""
    names = (mask.removesuffix(end) for end in ENDINGS if mask.endswith(end))
    return next((name for name in names if name in weights or f"{name}_orig" in weights), None)


def _known(mask: str, weights: Mapping[str, Any]) -> str:
    """The mask's name as weights are called here: those of a Lightning checkpoint have lost their `net.`."""
    short = mask.removeprefix("net.")
    return short if _of(mask, weights) is None and _of(short, weights) else mask


def _stored(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that isn't torch's, pairs of `_orig` and `_mask` apart."""
    if path.is_file() and path.suffix == ".safetensors":
        return unwrap(read_safetensors(path))
    return load_weights(path)


def _masked(
    weights: dict[str, Tensor],
    masks: Mapping[str, Tensor],
    layout: str,
    path: Path,
    ones: str,
    pairs: Mapping[str, Tensor] | None = None,
) -> Imported:
    kept = {name: mask != 0 for name, mask in (pairs or {}).items()}
    for of, mask in (pairs or {}).items():
        _binary(mask, f"{of}_mask", path)
    result, seen = dict(weights), dict[str, str]()
    for given, mask in masks.items():
        name = _of(given, weights)
        if name is None or name not in weights or weights[name].shape != mask.shape:
            shape = f" of shape {tuple(weights[name].shape)}" if name in weights else ""
            raise ValueError(
                f"{path}: mask {given} {tuple(mask.shape)} has no weight{shape} to go with; there are {some(list(weights))}"
            )
        _binary(mask, given, path)
        if name in seen:
            raise ValueError(f"{path} has two masks for {name}: {seen[name]} and {given}")
        seen[name] = given
        keep, weight = mask.bool() if ones == "kept" else ~mask.bool(), weights[name]
        if weight.any() and not weight[keep].any():
            raise ValueError(
                f"{path}: mask {given} would leave nothing of {name} but zeros: its ones mean the opposite of {ones!r}; or, if the "
                "layer is to go, set it to 0 in the weights"
            )
        result[name] = torch.where(keep, weight, torch.zeros_like(weight))
        kept[name] = keep & kept.get(name, keep)
    if not kept:
        raise ValueError(f"{path} has a list of masks, and none in it")
    density = {name: float(keep.double().mean()) if keep.numel() else 1.0 for name, keep in kept.items()}
    return Imported(result, layout, density)


def _binary(mask: Tensor, name: str, path: Path) -> None:
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(f"{path}: mask {name} holds other values than 0 and 1")


def _distiller(tensors: dict[str, Tensor] | None, path: Path) -> dict[str, Tensor]:
    """The same under names without DataParallel's `module.`, which AlexNet and VGG have inside of theirs."""
    if tensors is None:
        raise ValueError(f"{path} has masks of Distiller and no state_dict")
    named = {".".join(part for part in name.split(".") if part != "module"): value for name, value in tensors.items()}
    if len(named) != len(tensors):
        raise ValueError(f"{path}: names are no longer different without `module.`")
    return named


def _tensors(masks: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    if wrong := [f"{n} ({type(m).__name__})" for n, m in masks.items() if m is not None and not isinstance(m, Tensor)]:
        raise ValueError(f"{path}: masks that are no tensors: {some(wrong)}")
    return {name: mask for name, mask in masks.items() if mask is not None}


def _is_bare(name: str, weights: Mapping[str, Tensor], pairs: Mapping[str, Tensor]) -> bool:
    of = next((name.removesuffix(end) for end in ENDINGS[1:] if name.endswith(end)), None)
    return of is not None and of in weights and of not in pairs
