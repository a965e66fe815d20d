"""Which parameters may be pruned, by name.

Default: the weights of convolutions, linear and recurrent layers that are being trained. Spared: the first convolution
("only 3 channels and is very sensitive", Han et al., ICLR 2017, section 4), biases, normalisation, embeddings (also
where an output layer is tied to one).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn
from torch.nn import Parameter
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

WEIGHTS: tuple[tuple[type[nn.Module], tuple[str, ...]], ...] = (
    (_ConvNd, ("weight",)),
    (nn.Linear, ("weight",)),
    (nn.Bilinear, ("weight",)),
    (nn.RNNBase, ("weight_ih*", "weight_hh*", "weight_hr*")),
    (nn.RNNCellBase, ("weight_ih", "weight_hh")),
    (nn.MultiheadAttention, ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")),
)


def plain(name: str) -> str:
    """The name without what torch.compile and DistributedDataParallel put in front of it."""
    return name.replace("_orig_mod.", "").removeprefix("module.")


def prunable(
    module: nn.Module,
    *,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    spare_first_conv: bool = True,
) -> dict[str, Parameter]:
    """Name -> parameter of all that may be pruned, in the module's own order.

    `include` names exactly what to prune instead of the default, `exclude` takes away; both are patterns such as
    `layer1.*.weight`. Raises ValueError when a pattern matches nothing or nothing is left to prune.
    """
    everything = {plain(name): p for name, p in module.named_parameters()}
    if include is not None:
        names = matching(everything, include)
    else:
        names = [name for name in everything if name in _default(module, spare_first_conv)]
    spared = set(matching(everything, exclude))
    chosen = {name: everything[name] for name in names if name not in spared}
    if not chosen:
        raise ValueError(
            f"no weight of {type(module).__name__} is left to prune (include={include}, exclude={list(exclude)}); "
            f"its parameters are {_some(everything)}"
        )
    return chosen


def derived(module: nn.Module) -> list[str]:
    """Names of layers that could be pruned if their weight were a parameter, and not made from others at each call, as by
    weight_norm, spectral_norm or torch.nn.utils.prune."""
    return [
        path
        for path, owner in module.named_modules()
        for kind, patterns in WEIGHTS
        if isinstance(owner, kind)
        and not any(fnmatchcase(name, pattern) for name in owner._parameters for pattern in patterns)
    ]


def transposed(module: nn.Module) -> set[str]:
    """Names of the weights of transposed convolutions: theirs alone are (in, out, *kernel)."""
    turned = [path for path, owner in module.named_modules() if isinstance(owner, _ConvTransposeNd)]
    return {plain(f"{path}.weight" if path else "weight") for path in turned}


def matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The names that fit any of the patterns, in order. Raises ValueError for a pattern that fits none."""
    names = list(names)
    if isinstance(patterns, str) or not isinstance(patterns, Iterable):
        raise ValueError(f"names of weights are a list of patterns, such as ['fc1.weight']; found {patterns!r}")
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = get_close_matches(pattern, names, n=3, cutoff=0.3) or names
            raise ValueError(f"{pattern!r} matches no parameter; the nearest are {_some(near)}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _default(module: nn.Module, spare_first_conv: bool) -> set[str]:
    names: set[str] = set()
    embedded = {
        id(p) for m in module.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag)) for p in m.parameters()
    }
    first_conv = next((m for m in module.modules() if isinstance(m, _ConvNd)), None) if spare_first_conv else None
    for path, owner in module.named_modules():
        patterns = next((patterns for kind, patterns in WEIGHTS if isinstance(owner, kind)), ())
        if owner is first_conv:
            continue
        for name, p in owner.named_parameters(recurse=False):
            if any(fnmatchcase(name, pattern) for pattern in patterns) and p.requires_grad and id(p) not in embedded:
                names.add(plain(f"{path}.{name}" if path else name))
    return names


def _some(names: Iterable[str], most: int = 8) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")
