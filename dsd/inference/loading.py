"""A working network straight from an archive: `dsd.load("model.dsd", form="sparse")`.

archive -> tensors -> the network its meta names -> every linear, convolutional and recurrent layer in the form that was asked for

The forms: `dense` is the network with the archive's weights, bit for bit. `sparse` has compressed rows where these are faster
and dense layers where they are not. `codebook` keeps weights as bytes into a table until they are used. torch's LSTM, GRU
and RNN are sparse where that is faster by the clock, and always a codebook, which is for memory. What is no matrix (embeddings,
norms, biases), and what groups or is not float32, stays as it is in all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dsd.compression import decompress, read_meta
from dsd.inference.crossover import faster, kind_of, stored
from dsd.inference.layers import FORMS, ConvolutionOf, LinearOf, candidates, convertible, replace_
from dsd.inference.recurrent import SequenceOf, called_, sequential
from dsd.inference.timing import interleaved
from dsd.weights import WRAPPERS, initialise_

TURNS = 5  # of each form when a layer is timed on an example
PATIENCE = 2.0  # seconds for them all
GAIN = 1.05  # how much faster than the first choice another form must be
BEHIND = 2.0  # how many times slower than the fastest a form may be in its first two turns, to have more
STEPS = 16  # of a sequence on which torch's recurrent layers are timed


@dataclass(frozen=True)
class Part:
    """One layer: its form, its weight's bytes in it and dense, and the share of its weights that is not 0."""

    name: str
    form: str  # dense, sparse, looked (a byte a weight), coded (3 bytes a kept weight)
    bytes: int
    dense_bytes: int
    density: float


def load(
    source: bytes | str | Path,
    *,
    form: str = "dense",
    batch: int = 1,
    example: Sequence[Any] | None = None,
    net: nn.Module | None = None,
    crossover: str | Path | None = None,
) -> nn.Module:
    """The network of an archive in evaluation mode, its weights in one of the forms; for inference only, on the CPU.

    Where two forms of a layer compete, a table decides for `batch` inputs at a time, as they reach the layer: of a sequence, batch x
    steps (give `example` where layers see different numbers of them) (`crossover`: the file of
    `dsd bench --only crossover --write-crossover FILE`; else one measured elsewhere, dsd/inference/crossover.json); or, given an
    `example` (the network's arguments), each is timed on what reaches the layer; one that is not called stays dense in `sparse`:
    networks that use a layer's weight themselves have it made dense each time. `net` is the network to fill if the archive
    doesn't say which it is. `torch.compile` takes the network as it is, in any form: sparse products are one operator each in its graphs.
    They pass over pruned weights: 0 x NaN and 0 x infinity count for nothing there, and are NaN in the dense form.
    Raises ValueError (ArchiveError if the file is damaged) that says what is wrong.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, found {form!r}")
    state = decompress(source)
    if net is None:
        from dsd.export import network

        what = "the archive" if isinstance(source, bytes) else source
        config = _model(read_meta(source).get("model", "{}"))
        target = config.pop("_target_", None)
        if not isinstance(target, str):
            raise ValueError(f"{what} does not say which network it is: give one to fill, net=...")
        net = network(target, config, state)
        _check_exact(net, state)
    else:
        if wrappers := [name for name in WRAPPERS if all(own.startswith(name) for own in net.state_dict())]:
            raise ValueError(
                f"net= has names of a wrapper, {wrappers[0]}: give the network inside it, and wrap or compile the result"
            )
        _check_exact(net, state)
        initialise_(net, state, hint="give the network that the archive was made of")
        net.eval()
    del state
    convert_(net, form=form, batch=batch, example=example, crossover=crossover)
    return net


def convert_(
    net: nn.Module,
    *,
    form: str,
    batch: int = 1,
    example: Sequence[Any] | None = None,
    crossover: str | Path | None = None,
) -> list[Part]:
    """The layers of `net` are in this form; returns what became of each. As `load` for a network that is there already."""
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    if form != "dense":
        called_(net)
    table = stored() if crossover is None else stored(Path(crossover))
    chosen: dict[str, nn.Module] = {}
    parts: list[Part] = []
    example = (example,) if isinstance(example, Tensor) else example
    layers = convertible(net)
    sequences = sequential(net) if form != "dense" else {}
    if form != "dense" and ("" in layers or "" in sequences):
        raise ValueError("a network that is a single layer has no place for another: wrap it, nn.Sequential(layer)")
    if form != "dense" and not layers and not sequences:
        raise ValueError(
            f"{type(net).__name__} has no linear layer, convolution or recurrent layer of float32 that could be {form}: form='dense'"
        )
    timed = _timed(net, form, example) if example is not None and form != "dense" else {}
    for name, layer in layers.items():
        density = float(layer.weight.count_nonzero()) / max(1, layer.weight.numel())
        if name in timed:
            way, chosen[name] = timed[name]
        elif example is not None and form == "sparse":  # its weight is used elsewhere, or nothing comes here
            way, chosen[name] = "dense", layer
        else:
            ways = candidates(layer, form)
            sparse = [key for key in ways if key in ("sparse", "coded")]
            way = next(
                (key for key in sparse if faster(kind_of(layer), key, density=density, batch=batch, table=table)),
                next(iter(ways)),
            )
            chosen[name] = ways[way]()
        size = 4 * layer.weight.numel()
        parts.append(Part(name, way, size if way == "dense" else weight_bytes(chosen[name]), size, density))
        if chosen[name] is not layer:
            replace_(net, name, chosen[name])
    for name, sequence in sequences.items():
        parts += _stepped(net, name, sequence, form, batch)
    return parts


def _stepped(net: nn.Module, name: str, layer: nn.RNNBase, form: str, batch: int) -> list[Part]:
    """A recurrent layer of torch's goes step by step through layers in this form if that is faster, or takes a codebook."""
    made = SequenceOf(layer)
    x = torch.ones(
        *((batch, STEPS) if layer.batch_first else (STEPS, batch)), layer.input_size
    )  # draws no random numbers
    parts = convert_(made, form=form, example=(x,))
    by_book = any(part.form in ("looked", "coded") for part in parts)
    if by_book or fastest({"whole": lambda: layer(x), "steps": lambda: made(x)}) == "steps":
        replace_(net, name, made)
        return [replace(part, name=f"{name}.{part.name}") for part in parts]
    return [replace(part, name=f"{name}.{part.name}", form="dense", bytes=part.dense_bytes) for part in parts]


def _check_exact(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Nothing, or a ValueError that names a tensor which the network has in a type that rounds it."""
    for name, own in net.state_dict().items():
        other = state.get(name)
        if isinstance(own, Tensor) and other is not None and torch.promote_types(own.dtype, other.dtype) != own.dtype:
            raise ValueError(
                f"{name} is {own.dtype} in the network, which would round the archive's {other.dtype}: give net=... of that type"
            )


def _model(text: str) -> dict[str, Any]:
    """The archive's word on its network; empty if it is no JSON object."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def weight_bytes(layer: nn.Module) -> int:
    """Bytes of a layer's weight in its form."""
    held = layer.matrix if isinstance(layer, LinearOf | ConvolutionOf) else layer
    tensors = [t for name, t in [*held.named_parameters(), *held.named_buffers()] if name != "bias"]
    return sum(t.numel() * t.element_size() for t in tensors)


def _timed(net: nn.Module, form: str, example: Sequence[Any]) -> dict[str, tuple[str, nn.Module]]:
    """The fastest way of each layer that `example` reaches, by the clock, and the layer that is made in it; the first way
    unless another gains 5 %."""
    best: dict[str, tuple[str, nn.Module]] = {}

    def look(name: str, layer: Any) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> None:
            if name in best:
                return  # a recurrent weight is used at every step
            (x,) = inputs or tuple(named.values())
            made = {key: make() for key, make in candidates(layer, form).items()}
            way = fastest({key: partial(other.forward, x) for key, other in made.items()})
            best[name] = way, made[way]

        return hook

    hooks = [
        layer.register_forward_hook(look(name, layer), with_kwargs=True) for name, layer in convertible(net).items()
    ]
    try:
        with torch.no_grad():
            net(*example)
    finally:
        for hook in hooks:
            hook.remove()
    return best


def fastest(ways: dict[str, Callable[[], object]]) -> str:
    """The way with the smallest median of interleaved turns; the first unless another gains 5 %.

    One that takes twice as long as the fastest in the first two turns has no more of them.
    """
    first = next(iter(ways))
    if len(ways) == 1:
        return first
    took = interleaved(ways, rounds=2)
    most = BEHIND * min(timing.median for timing in took.values())
    near = {key: way for key, way in ways.items() if took[key].median <= most}
    if len(near) > 1:
        took |= interleaved(near, rounds=TURNS, budget=PATIENCE)
    best = min(near, key=lambda key: took[key].median)
    return best if took[best].median * GAIN < took[first].median else first
