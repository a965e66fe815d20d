"""Weights from a file into a network and back: `init_from=` starts a run from anybody's checkpoint, or another run's.

Files are read as data only: safetensors, or torch files with `weights_only`, which runs no code. They may be a plain
state_dict, one inside a checkpoint, or one whose names carry the prefixes of a wrapper the network was saved in.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from dsd.results.store import atomic_write

FINAL = "final.safetensors"  # a run's weights after its last update
TORCH = (".pt", ".pth", ".ckpt", ".bin", ".th", ".tar")
INSIDE = ("state_dict", "model_state_dict", "model")  # where checkpoints keep the weights; the first of these counts
WRAPPERS = ("module.", "_orig_mod.")  # DataParallel and AveragedModel; torch.compile
SHOWN = 5  # names of each kind in an error


def resolve(init_from: str, runs: Path, *, said: str = "init_from=") -> Path:
    """The file that `init_from` means: a file's path, a run's folder, or the id of a run in `runs` or its beginning.

    ValueError, with the runs that come nearest, if there is none, more than one, or a run without final weights; `said` is
    what the user wrote before it.
    """
    if not init_from:
        raise ValueError(f"{said}'' is empty; give a file or the id of a run")
    path = Path(init_from).expanduser()
    if path.is_file():
        return path
    ids = sorted(folder.name for folder in runs.iterdir() if folder.is_dir()) if runs.is_dir() else []
    found = [init_from] if init_from in ids else [run for run in ids if run.startswith(init_from)]
    if len(found) > 1:
        raise ValueError(f"{said}{init_from} is the beginning of {len(found)} runs in {runs}: {some(found)}")
    if not found and not path.is_dir():
        near = get_close_matches(init_from, ids, n=SHOWN, cutoff=0.3) or ids
        hint = f"nearest of {len(ids)} runs: {some(near)}" if ids else "there is no run yet"
        raise ValueError(f"{said}{init_from} is no file, and no run in {runs} begins so; {hint}")
    final = (runs / found[0] if found else path) / FINAL
    if not final.is_file():
        raise ValueError(f"{final.parent} has no {FINAL}: that run did not come to its end, or it is no run")
    return final


def load_weights(path: Path, *, whole: bool = False) -> dict[str, Tensor]:
    """The tensors of a file by parameter name, on the CPU, as a bare network names them.

    Read are safetensors and torch files; in the latter the weights may be under `state_dict` (Lightning's: only `net.*`, if
    there is such a name, unless `whole`), `model_state_dict` or `model`. Prefixes `module.` and `_orig_mod.` go, and a pair
    `weight_orig`, `weight_mask` of torch.nn.utils.prune becomes `weight`, their product; sparse tensors become dense. ValueError for a file that is
    missing, damaged, of another kind, or without weights.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if path.suffix == ".safetensors":
        weights = read_safetensors(path)
    elif path.suffix in TORCH:
        weights = inside(read_torch(path), path, whole)
    else:
        raise ValueError(f"{path}: weights are read from .safetensors, {', '.join(TORCH)}, not from {path.suffix!r}")
    if not weights:
        raise ValueError(f"{path} holds no tensors")
    weights = {name: value if value.layout == torch.strided else value.to_dense() for name, value in weights.items()}
    return multiply_masks(unwrap(weights), path)


def initialise_(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    strict: bool = True,
    skip: Iterable[str] = (),
    hint: str = "leave names alone with skip=[pattern, ...]",
) -> list[str]:
    """Copy `weights` into the parameters and buffers of `model`; returns the names in `model` that kept their values.

    `skip` are patterns (`fc.*`) of names that are left alone, such as the classifier of another number of classes; each
    must match. Otherwise ValueError, with nothing copied, for a name missing in `weights` or unknown to `model` (both
    allowed if not `strict`), for another shape, or for integers where the model has floats; no name in common is always
    one; `hint` is its last line. What may be missing: a name tied to a loaded one, and BatchNorm's `num_batches_tracked`, which old files lack.
    """
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    if any(value.is_meta for value in own.values()):
        raise ValueError("the network is on the meta device and has no memory to copy weights into")
    skipped = matching(skip, {**own, **weights})
    given = {name: value for name, value in weights.items() if name not in skipped}
    common = [name for name in own if name in given]
    tied = {place(own[name]) for name in common}
    kept = [name for name in own if name not in given and place(own[name]) not in tied]
    missing = [name for name in kept if name not in skipped and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in given if name not in own]
    wrong = [
        f"{name}: {describe(given[name])} in the file, {describe(own[name])} in the network"
        for name in common
        if given[name].shape != own[name].shape or given[name].is_floating_point() != own[name].is_floating_point()
    ]
    kinds = {"wrong shape or type": wrong}
    if strict or not common:
        kinds = {"missing in the file": missing, "unknown to the network": unexpected, **kinds}
    problems = [f"{len(names)} {kind}: {some(names)}" for kind, names in kinds.items() if names]
    if problems or not common:
        raise ValueError(
            "\n  ".join(
                [
                    f"the weights do not fit: {len(common)} of the network's {len(own)} names are in the file",
                    *problems,
                    hint,
                ]
            )
        )
    with torch.no_grad():
        for name in common:
            own[name].copy_(given[name])
    return kept


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the parameters and buffers of `model` to `path`, a .safetensors file, which appears whole or not at all.

    Tensors of any memory format or device are written contiguous; a tied one is written under each of its names. OSError
    names the file and the remedy when the disk is full.
    """
    if path.suffix != ".safetensors":
        raise ValueError(f"weights are written to a .safetensors file, not to {path}")
    state = model.state_dict()
    if not state:
        raise ValueError(f"{type(model).__name__} has no weights to write to {path}")
    atomic_write(path, save({name: value.detach().cpu().contiguous().clone() for name, value in state.items()}))


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or a ValueError that says what to do."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise damaged(path, error) from error


def read_torch(path: Path) -> Any:
    """What torch.save put into `path`, tensors, plain containers and names of optimizers; else a ValueError with a remedy."""
    try:
        with torch.serialization.safe_globals([k for k in vars(torch.optim).values() if isinstance(k, type)]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not any(f"Unsupported {what}" in str(error) for what in ("global", "class")):
            raise damaged(path, error) from error
        raise ValueError(
            f"{path} holds Python objects besides tensors, and reading those could run code (or it is damaged, cut short within a name; "
            "copy or download it again). If you trust it, save its state_dict: torch.save(torch.load(path, weights_only=False)[...], new)"
        ) from error
    except (OSError, MemoryError):
        raise  # they say themselves what is wrong
    except Exception as error:  # a few changed bytes raise almost anything: struct.error, TypeError, ...
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> ValueError:
    """The error for a file that breaks off or is something else than its name says."""
    reason = str(error).split("\n")[0][:120] or type(error).__name__
    return ValueError(
        f"{path} ({path.stat().st_size:,} bytes) is damaged, cut short or of another kind ({reason}); "
        "copy or download it again"
    )


def inside(loaded: Any, path: Path, whole: bool = False) -> dict[str, Tensor]:
    """The weights within what a torch file held: itself, or what is under one of the usual keys."""
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, not tensors by name")
    key = next((key for key in INSIDE if isinstance(loaded.get(key), Mapping)), None)
    weights = dict(loaded[key] if key else loaded)
    if not weights or not all(isinstance(name, str) for name in weights):
        raise ValueError(f"{path} holds {'tensors without names' if weights else 'no tensors'}")
    others = [f"{name} ({type(value).__name__})" for name, value in weights.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(f"{path} is no state_dict and has none under {', '.join(INSIDE)}; not tensors: {some(others)}")
    net = {name.removeprefix("net."): value for name, value in weights.items() if name.startswith("net.")}
    alone = len(net) == len(weights) or ("pytorch-lightning_version" in loaded and not whole)
    return net if key == "state_dict" and net and alone else weights


def unwrap(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same without the prefixes, which every name carries, of DataParallel, AveragedModel and torch.compile."""
    names = {name: name for name in weights}
    if any(name.startswith("module.") for name in names):
        names.pop("n_averaged", None)  # AveragedModel's count of updates
    while names and (prefix := next((p for p in WRAPPERS if all(n.startswith(p) for n in names.values())), None)):
        names = {old: name.removeprefix(prefix) for old, name in names.items()}
    return {name.replace("_orig_mod.", ""): weights[old] for old, name in names.items()}


def multiply_masks(weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The same with each pair `x_orig`, `x_mask` of torch.nn.utils.prune as one `x`, their product, and 0 where the mask is."""
    pruned = [name.removesuffix("_mask") for name in weights if name.endswith("_mask")]
    pruned = [name for name in pruned if f"{name}_orig" in weights]
    result = dict(weights)
    for name in pruned:
        value, mask = result.pop(f"{name}_orig"), result.pop(f"{name}_mask")
        if name in result or value.shape != mask.shape:
            raise ValueError(f"{path}: {name}_orig and {name}_mask do not make a {name}")
        result[name] = torch.where(mask == 0, torch.zeros_like(value), value * mask.to(value.dtype))  # NaN goes as well
    return result


def matching(patterns: Iterable[str], names: Iterable[str]) -> set[str]:
    """The names that any of the shell patterns matches; ValueError for a pattern that matches none."""
    found: set[str] = set()
    names = list(names)
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        hits = [name for name in names if fnmatchcase(name, pattern)]
        if not hits:
            raise ValueError(f"skip pattern {pattern!r} matches no name in network or file, such as {some(names)}")
        found.update(hits)
    return found


def place(tensor: Tensor) -> tuple[object, ...]:
    """Equal for two tensors that are one in memory; empty ones are never the same."""
    return (tensor.data_ptr() or id(tensor), tensor.shape, tensor.stride())


def describe(tensor: Tensor) -> str:
    """Shape and type in short, such as `(10, 64) float32`."""
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f", ... and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
