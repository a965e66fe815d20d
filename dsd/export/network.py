"""The network that an archive's weights are of: built from a target's name and its keyword arguments, with these weights.

Only functions and classes of `dsd.models` and `torchvision.models` are called, since the name comes from a file.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from dsd.weights import initialise_

ALLOWED = ("dsd.models", "torchvision.models")


def network(target: str, arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> nn.Module:
    """The network `target(**arguments)` with the weights of `state`, in evaluation mode.

    ValueError for a target outside of dsd.models and torchvision.models, one that isn't there or makes no network,
    arguments that it doesn't take or that would download weights, and weights that do not fit (dsd.weights).
    """
    make = _found(target)
    bad = [key for key in arguments if key.startswith(("weights", "pretrained")) and arguments[key]]
    if bad:
        raise ValueError(f"{bad[0]}={arguments[bad[0]]!r} would download weights; the archive has them: leave it out")
    if nested := [key for key, value in arguments.items() if isinstance(value, Mapping) and "_target_" in value]:
        raise ValueError(f"{nested[0]} of {target} is an object of its own; only plain values are taken as arguments")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of initialisations that are overwritten at once
            made = make(**arguments)
    except TypeError as error:
        raise ValueError(f"{target} cannot be made with {dict(arguments)}: {error}; see --model-args") from error
    if not isinstance(made, nn.Module):
        raise ValueError(f"{target} makes a {type(made).__name__}, not a network")
    initialise_(made, state, hint=f"{target} with {dict(arguments)} is not the network that they are of")
    return made.eval()


def _found(target: str) -> Any:
    module, _, name = target.rpartition(".")
    if not any(module == room or module.startswith(f"{room}.") for room in ALLOWED):
        raise ValueError(
            f"the network must be one of {' or '.join(ALLOWED)}, not {target!r}; its name comes from a file"
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"there is no network {target}: {error}") from error
    home = getattr(found, "__module__", "") or ""
    callable_ = inspect.isfunction(found) or inspect.isclass(found)
    if not callable_ or not any(home == room or home.startswith(f"{room}.") for room in ALLOWED):
        raise ValueError(f"{target} is no network of {' or '.join(ALLOWED)}")
    return found
