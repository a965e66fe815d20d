"""Recurrent layers that call their weights as layers, so that these may take any form: Deep Speech's, and torch's own.

torch's LSTM, GRU and RNN go through a sequence in one call that takes dense weights only. Here it is one step after the other:
what the steps cost is won back where the weights are many and few of them are kept, which the clock decides
(dsd/inference/loading.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from dsd.inference.layers import LinearOf, replace_
from dsd.inference.matrices import Looked
from dsd.inference.opaque import for_inference
from dsd.models.recurrent import CLIP, BidirectionalRecurrent

State = tuple[Tensor, ...]  # h, and c of an LSTM


class RecurrentOf(nn.Module):
    """`BidirectionalRecurrent` whose three weights are layers of any form."""

    def __init__(self, layer: BidirectionalRecurrent) -> None:
        super().__init__()
        self.input: nn.Module = layer.input
        self.ahead: nn.Module = layer.ahead
        self.back: nn.Module = layer.back
        self.norm = layer.norm

    @for_inference
    def forward(self, x_BTI: Tensor, valid_BT: Tensor) -> Tensor:
        projected_BTH = self.input(x_BTI)
        if self.norm is not None:
            projected_BTH = self.norm(projected_BTH, valid_BT)
        projected_TBH = projected_BTH.transpose(0, 1).contiguous()
        valid_TB1 = valid_BT.t()[..., None].to(projected_TBH.dtype)
        ahead_TBH: Tensor = _scan(self.ahead, projected_TBH, valid_TB1)
        back_TBH: Tensor = _scan(self.back, projected_TBH.flip(0), valid_TB1.flip(0))
        return (ahead_TBH + back_TBH.flip(0)).transpose(0, 1)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # a graph would have every step anew
def _scan(weight: nn.Module, projected_TBH: Tensor, valid_TB1: Tensor) -> Tensor:
    hidden_TBH, h_BH = torch.empty_like(projected_TBH), projected_TBH.new_zeros(projected_TBH.shape[1:])
    product = _product(weight)
    for t, p_BH in enumerate(projected_TBH):
        h_BH = (p_BH + product(h_BH)).clamp_(0, CLIP).mul_(valid_TB1[t])
        hidden_TBH[t] = h_BH
    return hidden_TBH


def _product(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """What a layer does at every step of a sequence; a byte for every weight is looked up once."""
    if isinstance(layer, LinearOf) and isinstance(layer.matrix, Looked):
        return partial(F.linear, weight=layer.weight, bias=layer.bias)
    return layer


class SequenceOf(nn.Module):
    """`nn.LSTM`, `nn.GRU` or `nn.RNN` without projections, for inference: takes and returns what they do."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.mode, self.batch_first, self.bidirectional = layer.mode, layer.batch_first, layer.bidirectional
        self.input_size, self.hidden_size, self.num_layers = layer.input_size, layer.hidden_size, layer.num_layers
        self.bias, self.dropout, self.proj_size = layer.bias, layer.dropout, layer.proj_size
        self.ways = 2 if layer.bidirectional else 1
        names = [f"l{n}{end}" for n in range(layer.num_layers) for end in ("", "_reverse")[: self.ways]]
        self.inputs = nn.ModuleList(_linear(layer, "ih", name) for name in names)
        self.hiddens = nn.ModuleList(_linear(layer, "hh", name) for name in names)

    def flatten_parameters(self) -> None:
        """Nothing: networks call it before their sequences, for the sake of cuDNN."""

    @for_inference
    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        valid_TB1 = None
        if isinstance(input, PackedSequence):
            x_TBI, length_B = pad_packed_sequence(input)
            valid_TB1 = (torch.arange(len(x_TBI))[:, None] < length_B)[..., None]
        else:
            x_TBI = input if input.dim() == 3 else input.unsqueeze(0 if self.batch_first else 1)
            x_TBI = x_TBI.transpose(0, 1) if self.batch_first else x_TBI
        alone = isinstance(input, Tensor) and input.dim() == 2
        state_LBH = self._start(hx, x_TBI, alone)
        last: list[State] = []
        for number in range(0, len(self.inputs), self.ways):
            outs_TBH = []
            for way in range(self.ways):
                begin = tuple(part[number + way] for part in state_LBH)
                out_TBH, end = self._through(number + way, x_TBI, begin, valid_TB1, back=way == 1)
                outs_TBH.append(out_TBH)
                last.append(end)
            x_TBI = torch.cat(outs_TBH, -1)
        final: Any = tuple(torch.stack(parts) for parts in zip(*last, strict=True))
        final = tuple(part[:, 0] for part in final) if alone else final
        return self._as_given(input, x_TBI, alone), final if self.mode == "LSTM" else final[0]

    def _start(self, hx: Any, x_TBI: Tensor, alone: bool) -> State:
        if hx is None:
            zero = x_TBI.new_zeros(len(self.inputs), x_TBI.shape[1], self.hidden_size)
            return (zero, zero) if self.mode == "LSTM" else (zero,)
        given = tuple(hx) if self.mode == "LSTM" and not isinstance(hx, Tensor) else (hx,)
        shape = (len(self.inputs), *(() if alone else (x_TBI.shape[1],)), self.hidden_size)
        found = [tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in given]
        if found != [shape] * (2 if self.mode == "LSTM" else 1):
            what = "(h, c), each" if self.mode == "LSTM" else "a tensor"
            raise ValueError(f"the state of this {self.mode} is {what} of shape {shape}; found {found}")
        return tuple(part[:, None] for part in given) if alone else given

    def _as_given(self, input: Tensor | PackedSequence, out_TBH: Tensor, alone: bool) -> Any:
        if isinstance(input, PackedSequence):
            order = input.sorted_indices
            length_B = (torch.arange(out_TBH.shape[1])[None] < input.batch_sizes[:, None]).sum(0)
            sorted_TBH = out_TBH if order is None else out_TBH[:, order]
            data = pack_padded_sequence(sorted_TBH, length_B).data
            return PackedSequence(data, input.batch_sizes, order, input.unsorted_indices)
        if alone:
            return out_TBH[:, 0]
        return out_TBH.transpose(0, 1) if self.batch_first else out_TBH

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _through(
        self, number: int, x_TBI: Tensor, state: State, valid_TB1: Tensor | None, *, back: bool
    ) -> tuple[Tensor, State]:
        """Outputs (T, B, H) of one layer in one direction, and its last state. Beyond an end the state stays, and 0 comes out."""
        projected_TBG, product = self.inputs[number](x_TBI), _product(self.hiddens[number])
        out_TBH = projected_TBG.new_zeros(*projected_TBG.shape[:2], self.hidden_size)
        for t in reversed(range(len(x_TBI))) if back else range(len(x_TBI)):
            new = self._step(projected_TBG[t], product(state[0]), state)
            if valid_TB1 is None:
                state, out_TBH[t] = new, new[0]
            else:
                state = tuple(torch.where(valid_TB1[t], a, b) for a, b in zip(new, state, strict=True))
                out_TBH[t] = new[0] * valid_TB1[t]
        return out_TBH, state

    def _step(self, x_BG: Tensor, h_BG: Tensor, state: State) -> State:
        if self.mode == "LSTM":
            i, f, g, o = (x_BG + h_BG).chunk(4, 1)
            c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
            return o.sigmoid() * c.tanh(), c
        if self.mode == "GRU":
            (xr, xz, xn), (hr, hz, hn) = x_BG.chunk(3, 1), h_BG.chunk(3, 1)
            n = (xn + (xr + hr).sigmoid() * hn).tanh()
            return (n + (xz + hz).sigmoid() * (state[0] - n),)
        total = x_BG + h_BG
        return (total.tanh() if self.mode == "RNN_TANH" else total.relu(),)


def called_(net: nn.Module) -> None:
    """Every module of `net` that multiplies by the weights of its layers itself calls the layers instead."""
    for name, module in list(net.named_modules()):
        if isinstance(module, BidirectionalRecurrent):
            replace_(net, name, RecurrentOf(module))
        elif isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # so torch leaves its fast path, which takes dense weights
        elif isinstance(module, nn.TransformerEncoder):
            module.enable_nested_tensor = module.use_nested_tensor = False  # nor packs padded batches for it


def sequential(net: nn.Module) -> dict[str, nn.RNNBase]:
    """torch's recurrent layers by name that `SequenceOf` can stand for: float32, no projections, weights of their own."""
    return {
        name: layer
        for name, layer in net.named_modules()
        if type(layer) in (nn.LSTM, nn.GRU, nn.RNN)
        and layer.proj_size == 0
        and all(
            name in layer._parameters and layer._parameters[name].dtype == torch.float32
            for name in layer._flat_weights_names
        )
    }


def _linear(layer: nn.RNNBase, kind: str, name: str) -> nn.Linear:
    weight: Tensor = getattr(layer, f"weight_{kind}_{name}")
    with torch.device("meta"):
        made = nn.Linear(weight.shape[1], len(weight), bias=layer.bias)
    made.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if layer.bias:
        made.bias = nn.Parameter(getattr(layer, f"bias_{kind}_{name}").detach(), requires_grad=False)
    return made
