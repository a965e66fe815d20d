"""What torch.compile's graphs call as one operator instead of compiling it: products over compressed rows.

Without it every sparse layer would cut the graph in two, and a network of more than eight of them meets the compiler's limit
of variants. Outside of a graph nobody pays for the operator: layers call their own method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

_numbers = count()
_alive: WeakValueDictionary[int, Opaque] = WeakValueDictionary()


def for_inference(forward: Callable[..., Any]) -> Callable[..., Any]:
    """`forward` without gradients. ValueError where somebody waits for that of an input: it would be wrong without a word."""

    @wraps(forward)
    def checked(self: nn.Module, *inputs: Any, **named: Any) -> Any:
        if torch.is_grad_enabled() and any(_waits(x) for x in (*inputs, *named.values())):
            raise ValueError(
                "a network in sparse or codebook form passes no gradient to its input: call it within torch.no_grad(), give "
                "x.detach(), or load it with form='dense'"
            )
        with torch.no_grad():
            return forward(self, *inputs, **named)

    return checked


def _waits(x: Any) -> bool:
    """Whether a gradient is to come to a tensor, or to one within a state or a packed sequence."""
    return any(map(_waits, x)) if isinstance(x, tuple | list) else isinstance(x, Tensor) and x.requires_grad


class Opaque(nn.Module):
    """A module that has a number of its own, by which a graph finds it, and so does each of its copies."""

    def __init__(self) -> None:
        super().__init__()
        self._count()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._count()

    def _count(self) -> None:
        number = next(_numbers)
        self.number = torch.tensor(number)  # an input of the graph, so that networks of one class share theirs
        _alive[number] = self

    def outside(self, x: Tensor) -> Tensor:
        """What graphs take whole: a new tensor, contiguous."""
        raise NotImplementedError

    def whole(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """`outside(x)`, of this shape and x's dtype; within a graph as one operator. ValueError where torch exports or traces: the graph
        would hold no weights, or the product for ever."""
        if torch.compiler.is_exporting() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            raise ValueError(
                "a network in sparse or codebook form cannot be exported or traced by torch: load it with form='dense' for that"
            )
        out: Tensor = _outside(x, self.number, shape) if torch.compiler.is_compiling() else self.outside(x)
        return out


@torch.library.custom_op("dsd::outside", mutates_args=())
def _outside(x: Tensor, number: Tensor, shape: Sequence[int]) -> Tensor:
    out = _alive[int(number)].outside(x)
    assert out.shape == tuple(shape), (out.shape, shape)
    return out.contiguous()


@_outside.register_fake
def _(x: Tensor, number: Tensor, shape: Sequence[int]) -> Tensor:
    return x.new_empty(shape)
