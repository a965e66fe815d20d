"""The bidirectional recurrent layer of Deep Speech 1 and 2: one shared input projection, clipped ReLU, directions summed.

h_t = clip(p_t + U h_(t-1)), p = W x + b, clip(v) = min(max(v, 0), 20); the other direction has its own U and the same p.
`nn.RNN` has neither the shared projection nor the clip. The gradient of U is one matrix product over all frames.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

CLIP = 20.0
"""Where the activations of both papers are cut off (Hannun et al. 2014; Amodei et al. 2016)."""


def clipped(values: Tensor) -> Tensor:
    """min(max(v, 0), 20)."""
    return values.clamp(0, CLIP)


class Scan(torch.autograd.Function):
    """h (T, B, H) of projected (T, B, H), weight (H, H) and valid (T, B, 1), which is 0 where a sequence has ended.

    After the end of a sequence h is 0, so that the other direction, which is given its frames in reverse, begins with
    its last frame, however many frames of padding come before.
    """

    @staticmethod
    def forward(ctx: Any, projected_TBH: Tensor, weight_HH: Tensor, valid_TB1: Tensor) -> Tensor:
        weight = weight_HH.to(projected_TBH.dtype)
        hidden_TBH = torch.empty_like(projected_TBH)
        h_BH = projected_TBH.new_zeros(projected_TBH.shape[1:])
        for t, p_BH in enumerate(projected_TBH):
            h_BH = torch.addmm(p_BH, h_BH, weight.t()).clamp_(0, CLIP).mul_(valid_TB1[t])
            hidden_TBH[t] = h_BH
        ctx.save_for_backward(hidden_TBH, weight_HH)
        return hidden_TBH

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (grad_TBH,) = grads
        hidden_TBH, weight_HH = ctx.saved_tensors
        weight = weight_HH.to(hidden_TBH.dtype)
        open_TBH = ((hidden_TBH > 0) & (hidden_TBH < CLIP)).to(hidden_TBH.dtype)  # padding has h = 0: closed
        inner_TBH = torch.empty_like(hidden_TBH)
        carry_BH = torch.zeros_like(hidden_TBH[0])
        for t in range(len(hidden_TBH) - 1, -1, -1):
            inner_BH = (grad_TBH[t].to(weight.dtype) + carry_BH).mul_(open_TBH[t])
            inner_TBH[t] = inner_BH
            carry_BH = inner_BH @ weight
        grad_HH = inner_TBH[1:].flatten(0, 1).t() @ hidden_TBH[:-1].flatten(0, 1)
        return inner_TBH, grad_HH.to(weight_HH.dtype), None


class BidirectionalRecurrent(nn.Module):
    """x (B, T, width_in) and valid (B, T) -> forward plus backward hidden states (B, T, width), 0 after a sequence's end.

    `norm` is put on the input projection, which then has no bias (Deep Speech 2's sequence-wise BatchNorm).
    """

    def __init__(self, width_in: int, width: int, *, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.input = nn.Linear(width_in, width, bias=norm is None)
        self.ahead = nn.Linear(width, width, bias=False)
        self.back = nn.Linear(width, width, bias=False)
        self.norm = norm
        for recurrent in (self.ahead, self.back):
            nn.init.orthogonal_(recurrent.weight, 0.5)  # two directions are added

    def forward(self, x_BTI: Tensor, valid_BT: Tensor) -> Tensor:
        projected_BTH = self.input(x_BTI)
        if self.norm is not None:
            projected_BTH = self.norm(projected_BTH, valid_BT)
        projected_TBH = projected_BTH.transpose(0, 1).contiguous()
        valid_TB1 = valid_BT.t()[..., None].to(projected_TBH.dtype)
        ahead_TBH = cast(Tensor, Scan.apply(projected_TBH, self.ahead.weight, valid_TB1))
        back_TBH = cast(Tensor, Scan.apply(projected_TBH.flip(0), self.back.weight, valid_TB1.flip(0)))
        return (ahead_TBH + back_TBH.flip(0)).transpose(0, 1)


class SequenceNorm(nn.Module):
    """BatchNorm of each feature over all valid frames of the batch, x (B, T, C) -> (B, T, C), 0 elsewhere.

    Amodei et al. 2016, section 3.2: sequence-wise; padding is not part of the statistics.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(features)

    def forward(self, x_BTC: Tensor, valid_BT: Tensor) -> Tensor:
        normed_NC = self.norm(x_BTC[valid_BT])
        return torch.zeros_like(x_BTC).masked_scatter(valid_BT[..., None], normed_NC.to(x_BTC.dtype))
