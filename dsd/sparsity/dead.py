"""Dead neurons: units that lost all their inputs or all their outputs (Han et al., NIPS 2015, section 3.5).

Nothing here changes what the network computes. A unit without outgoing weights may lose its incoming weights and bias.
One without incoming weights gives the constant activation(bias), which moves into the next layer's bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


@torch.no_grad()
def remove_dead_(layers: Sequence[nn.Linear | nn.Conv2d], activation: Callable[[Tensor], Tensor] = torch.relu) -> int:
    """Set to 0 all weights and biases of dead units between consecutive `layers`; how many units were dead.

    `layers` feed each other in order, with `activation` (elementwise) between them; a convolution may be followed by a
    linear layer over its flattened maps. Raises ValueError if widths don't fit, or a constant would have to move where
    there is no bias. A constant map is not moved into a convolution (its padding makes it differ at the edges).
    """
    dead, before = 0, -1
    while dead != before:  # a unit that dies may take others with it, in front of it and behind it
        before, dead = dead, 0
        for this, following in pairwise(layers):
            dead += _between_(this, following, activation)
    return dead


def _between_(
    this: nn.Linear | nn.Conv2d, following: nn.Linear | nn.Conv2d, activation: Callable[[Tensor], Tensor]
) -> int:
    units, incoming = len(this.weight), following.weight.shape[1]
    if incoming % units:
        raise ValueError(f"a layer of {units} units can't feed one of {incoming} inputs")
    outgoing = following.weight.reshape(len(following.weight), units, -1)
    unheard = outgoing.abs().sum((0, 2)) == 0
    this.weight[unheard] = 0
    if this.bias is not None:
        this.bias[unheard] = 0
    deaf = (this.weight.flatten(1).abs().sum(1) == 0) & ~unheard
    if deaf.any() and isinstance(following, nn.Linear):
        constant = activation(this.bias) if this.bias is not None else torch.zeros_like(this.weight[:, 0])
        moved = (outgoing[:, deaf].sum(2) * constant.reshape(-1)[deaf]).sum(1)
        if following.bias is None and bool(moved.any()):
            raise ValueError("the next layer has no bias that could take over a dead unit's constant")
        if following.bias is not None:
            following.bias.add_(moved)
        outgoing[:, deaf] = 0
        following.weight.copy_(outgoing.reshape(following.weight.shape))
        if this.bias is not None:
            this.bias[deaf] = 0
        unheard |= deaf
    return int(unheard.sum())
