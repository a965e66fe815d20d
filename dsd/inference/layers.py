"""Layers whose weight is a matrix in any form: linear, and convolutions.

They take the place of `nn.Linear`, `nn.Conv1d` and `nn.Conv2d` in a network that stays what it is.
A convolution over a sparse matrix is its product with the patches of one image after the other (im2col); one of 1x1 is a
product with the image itself. Where dense is faster, torch's own layer stays, or is called with weights looked up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsd.inference.matrices import Coded, Looked, Matrix, Rows
from dsd.inference.opaque import Opaque, for_inference

Layer = nn.Linear | nn.Conv1d | nn.Conv2d
FORMS = ("dense", "sparse", "codebook")
HOOKS = tuple(
    f"_forward_{kind}"
    for kind in ("pre_hooks", "pre_hooks_with_kwargs", "hooks", "hooks_with_kwargs", "hooks_always_called")
)  # torch's own dictionaries


class LinearOf(nn.Module):
    """`nn.Linear` over a matrix. `weight` is made anew when asked for: nothing keeps it."""

    def __init__(self, matrix: Matrix, bias: Tensor | None) -> None:
        super().__init__()
        self.matrix, self.in_features, self.out_features = matrix, matrix.width, matrix.rows
        self.bias = _held(bias)

    @property
    def weight(self) -> Tensor:
        return self.matrix.dense()

    @for_inference
    def forward(self, input: Tensor) -> Tensor:  # as torch calls it
        x = input
        if torch.is_autocast_enabled(x.device.type):
            return _whole(self, x)
        if isinstance(self.matrix, Looked):
            return F.linear(x, self.matrix.dense(), self.bias)
        out: Tensor = self.matrix(x.flatten(0, -2) if x.dim() > 1 else x[None])
        out = out if self.bias is None else out + self.bias
        return out.reshape(*x.shape[:-1], self.out_features).contiguous()  # as torch's own: networks call view() on it


class ConvolutionOf(Opaque):
    """`nn.Conv2d`, or `nn.Conv1d` as one of height 1, without groups, over a matrix (kernels, channels x height x width)."""

    def __init__(self, layer: nn.Conv1d | nn.Conv2d, matrix: Matrix) -> None:
        super().__init__()
        self.matrix, self.flat = matrix, isinstance(layer, nn.Conv1d)
        self.in_channels, self.out_channels = layer.in_channels, layer.out_channels
        self.kernel_size, self.stride, self.dilation = layer.kernel_size, layer.stride, layer.dilation
        self.padding, self.padding_mode, self.groups = layer.padding, layer.padding_mode, layer.groups
        self.kernel_HW, self.stride_HW = _two(layer.kernel_size, 1), _two(layer.stride, 1)
        self.dilation_HW = _two(layer.dilation, 1)
        self.padding_HW = (0, 0)
        if layer.padding == "same":  # with kernels of odd reach as much on both sides: see _plain
            down, right = (d * (k - 1) // 2 for d, k in zip(self.dilation_HW, self.kernel_HW, strict=True))
            self.padding_HW = (down, right)
        elif layer.padding != "valid":
            self.padding_HW = _two(layer.padding, 0)
        self.bias = _held(layer.bias)

    @property
    def weight(self) -> Tensor:
        whole = self.matrix.dense().reshape(self.out_channels, self.in_channels, *self.kernel_HW)
        return whole[:, :, 0] if self.flat else whole

    @for_inference
    def forward(self, input: Tensor) -> Tensor:  # as torch calls it
        x = input
        if x.dim() == (2 if self.flat else 3):  # without a batch, as torch's take it
            out_of_one: Tensor = self(x[None])
            return out_of_one[0]
        if torch.is_autocast_enabled(x.device.type):
            return _whole(self, x)
        x_NCHW = x[:, :, None] if self.flat else x
        if isinstance(self.matrix, Looked):
            weight = self.matrix.dense().reshape(self.out_channels, self.in_channels, *self.kernel_HW)
            out = F.conv2d(x_NCHW, weight, self.bias, self.stride_HW, self.padding_HW, self.dilation_HW)
        else:
            out = self.whole(x_NCHW, (len(x_NCHW), self.out_channels, *self._size(x_NCHW)))
        return out[:, :, 0] if self.flat else out

    def _size(self, x_NCHW: Tensor) -> tuple[int, int]:
        if x_NCHW.shape[1] != self.in_channels:
            raise ValueError(f"a convolution over {self.in_channels} channels, found images of {tuple(x_NCHW.shape)}")
        geometry = self.kernel_HW, self.stride_HW, self.padding_HW, self.dilation_HW
        height, width = (
            (length + 2 * p - d * (k - 1) - 1) // s + 1
            for length, k, s, p, d in zip(x_NCHW.shape[2:], *geometry, strict=True)
        )
        return height, width

    @torch.no_grad()
    def outside(self, x_NCHW: Tensor) -> Tensor:
        """The products of one image after the other."""
        height, width = self._size(x_NCHW)
        out_NML = x_NCHW.new_empty(len(x_NCHW), self.out_channels, height * width)
        alone = self.kernel_HW == (1, 1) and self.padding_HW == (0, 0)
        for number, image_CHW in enumerate(x_NCHW):
            if alone:
                patch_KL = image_CHW[:, :: self.stride_HW[0], :: self.stride_HW[1]].reshape(self.in_channels, -1)
            else:
                window = self.kernel_HW, self.dilation_HW, self.padding_HW, self.stride_HW
                patch_KL = F.unfold(image_CHW[None], *window)[0]
            out_NML[number] = self.matrix.columns(patch_KL)
        if self.bias is not None:
            out_NML += self.bias[:, None]
        return out_NML.reshape(len(x_NCHW), self.out_channels, height, width)


def convertible(net: nn.Module) -> dict[str, Layer]:
    """Linear layers and convolutions by name that may take another form: float32, no groups, zeros around, no subclass, and a
    weight of their own: not one that a hook makes from others, as torch.nn.utils.prune does, nor an embedding's, which stays."""
    plain = (nn.Linear, nn.Conv1d, nn.Conv2d)
    others = {id(p) for module in net.modules() if type(module) not in plain for p in module._parameters.values()}
    return {
        name: layer
        for name, layer in net.named_modules()
        if type(layer) in plain
        and layer.weight.dtype == torch.float32
        and id(layer.weight) not in others
        and _plain(layer)
    }


def candidates(layer: Layer, form: str) -> dict[str, Callable[[], nn.Module]]:
    """How this layer can be had in a form: names and what makes it, the dense one first; more than one if they compete.

    sparse: compressed rows compete with dense. codebook: a byte a weight and, below a third, three bytes a kept weight
    compete. A layer of more than 256 values besides 0 has no codebook of bytes: it is treated as in `sparse`.
    """
    flat = layer.weight.detach().flatten(1)
    rows: dict[str, Callable[[], nn.Module]] = {"dense": lambda: layer, "sparse": lambda: wrapped(layer, Rows.of(flat))}
    if form == "dense":
        return {"dense": lambda: layer}
    if form == "codebook":
        try:
            looked = Looked.of(flat)
        except ValueError:
            return rows
        found: dict[str, Callable[[], nn.Module]] = {"looked": lambda: wrapped(layer, looked)}
        kept = int(flat.count_nonzero())
        if 3 * kept + 4 * len(flat) < flat.numel() and flat.shape[1] <= 1 << 16:
            found["coded"] = lambda: wrapped(layer, Coded.of(flat))
        return found
    if form == "sparse":
        return rows
    raise ValueError(f"form must be one of {', '.join(FORMS)}, found {form!r}")


def wrapped(layer: Layer, matrix: Matrix) -> nn.Module:
    """The layer over a matrix."""
    return LinearOf(matrix, layer.bias) if isinstance(layer, nn.Linear) else ConvolutionOf(layer, matrix)


def replace_(net: nn.Module, name: str, layer: nn.Module) -> None:
    """`layer` stands at every place of `net` where the module called `name` stood, and is called with its hooks."""
    old = net.get_submodule(name)
    for hooks in HOOKS:
        setattr(layer, hooks, getattr(old, hooks))  # the same, so that a hook's handle still removes it
    for parent in list(net.modules()):
        for child, module in list(parent._modules.items()):  # named_children leaves out what comes twice
            if module is old:
                setattr(parent, child, layer)


def _plain(layer: Any) -> bool:
    if "weight" not in layer._parameters:
        return False
    if isinstance(layer, nn.Linear):
        return True
    reach = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    even = layer.padding != "same" or all(r % 2 == 0 for r in reach)  # else there are more zeros on the right
    return layer.groups == 1 and layer.padding_mode == "zeros" and even


def _held(bias: Tensor | None) -> nn.Parameter | None:
    """A parameter, by which networks ask for their device and dtype."""
    return None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)


def _whole(layer: nn.Module, x: Tensor) -> Tensor:
    """float32 under autocast, for which sparse products have no other type."""
    with torch.autocast(x.device.type, enabled=False):
        out: Tensor = layer(x.float())
    return out


def _two(numbers: tuple[int, ...] | str, missing: int) -> tuple[int, int]:
    assert not isinstance(numbers, str)
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 else (missing, int(numbers[0]))
