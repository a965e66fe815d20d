"""Deep Speech 1 and 2 as the DSD paper has them (Han et al., ICLR 2017, Tables 6 and 8; decoded in PROTOCOLS 1.6).

Spectrograms (B, T, bins) and lengths (B,) in, scores (B, T', symbols) and lengths (B,) out; what is behind the end of an
utterance never changes a score before it. Layers are numbered as in the tables.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from dsd.models.recurrent import BidirectionalRecurrent, SequenceNorm, clipped


def valid_frames(lengths_B: Tensor, frames: int) -> Tensor:
    """(B, frames) bool: True before the end of each utterance."""
    return torch.arange(frames, device=lengths_B.device) < lengths_B[:, None]


def check_spectrograms(x_BTF: Tensor, lengths_B: Tensor, bins: int) -> None:
    """Nothing, or a ValueError: (B, T, bins) and lengths of 1 to T."""
    if x_BTF.dim() != 3 or x_BTF.shape[2] != bins or lengths_B.shape != x_BTF.shape[:1]:
        raise ValueError(
            f"expected spectrograms (B, T, {bins}) and lengths (B,), found {tuple(x_BTF.shape)} and {tuple(lengths_B.shape)}"
        )
    if int(lengths_B.min()) < 1 or int(lengths_B.max()) > x_BTF.shape[1]:
        raise ValueError(f"lengths must be in 1..{x_BTF.shape[1]} frames, found {lengths_B.tolist()}")


class DeepSpeech1(nn.Module):
    """Temporal convolution over 11 frames, two FC, a bidirectional recurrent layer, FC, CTC (Hannun et al. 2014).

    With 161 bins, width 1024 and 29 symbols, 8,139,805 parameters. stride: frames a step of the convolution. dropout:
    after layers 0, 1, 2 and 4, not after the recurrent one.
    """

    def __init__(self, *, bins: int, width: int, symbols: int, context: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bins, self.stride = bins, stride
        self.conv0 = nn.Conv1d(bins, width, context, stride=stride, padding=context // 2)
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width)
        self.recurrent3 = BidirectionalRecurrent(width, width)
        self.fc4 = nn.Linear(width, width)
        self.ctc5 = nn.Linear(width, symbols)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.conv0, self.fc1, self.fc2, self.recurrent3.input, self.fc4):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x_BTF: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (B, ceil(T / stride), symbols) and lengths (B,). ValueError for another shape."""
        check_spectrograms(x_BTF, lengths_B, self.bins)
        x_BTF = x_BTF * valid_frames(lengths_B, x_BTF.shape[1])[..., None]
        x_BTH = self.dropout(clipped(self.conv0(x_BTF.transpose(1, 2)).transpose(1, 2)))
        lengths_B = (lengths_B + self.stride - 1) // self.stride
        for layer in (self.fc1, self.fc2):
            x_BTH = self.dropout(clipped(layer(x_BTH)))
        x_BTH = self.recurrent3(x_BTH, valid_frames(lengths_B, x_BTH.shape[1]))
        return self.ctc5(self.dropout(clipped(self.fc4(x_BTH)))), lengths_B


class DeepSpeech2(nn.Module):
    """Two 2-D convolutions, `depth` bidirectional recurrent layers, FC, CTC, each but the last normed (Amodei et al. 2016).

    With 161 bins, 32 channels, width 1760, depth 7 and 29 symbols, 67,696,733 parameters. Table 8 has 67,740,718: its
    last row, 95,054, doesn't factor into a width of 1760; for 29 symbols it is 1760 x 29 + 29 = 51,069, and nothing
    else differs. Kernels (frequency x time) 41x11, stride 2x2, and 21x11, stride 2x1.
    """

    def __init__(self, *, bins: int, channels: int, width: int, depth: int, symbols: int, dropout: float) -> None:
        super().__init__()
        self.bins = bins
        middle, last = (bins + 1) // 2, ((bins + 1) // 2 + 1) // 2
        self.conv0 = nn.Conv2d(1, channels, (41, 11), stride=(2, 2), padding=(20, 5), bias=False)
        self.norm0 = SequenceNorm(channels * middle)
        self.conv1 = nn.Conv2d(channels, channels, (21, 11), stride=(2, 1), padding=(10, 5), bias=False)
        self.norm1 = SequenceNorm(channels * last)
        widths = [channels * last, *[width] * depth]
        self.recurrent = nn.ModuleList(BidirectionalRecurrent(a, b, norm=SequenceNorm(b)) for a, b in pairwise(widths))
        self.fc = nn.Linear(width, width, bias=False)
        self.norm = SequenceNorm(width)
        self.ctc = nn.Linear(width, symbols)
        self.dropout = nn.Dropout(dropout)
        for conv in (self.conv0, self.conv1):  # with few channels, in bfloat16, three times faster on a CPU
            conv.to(memory_format=torch.channels_last)

    def forward(self, x_BTF: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (B, ceil(T / 2), symbols) and lengths (B,). ValueError for another shape."""
        check_spectrograms(x_BTF, lengths_B, self.bins)
        x_BTF = x_BTF * valid_frames(lengths_B, x_BTF.shape[1])[..., None]
        x_BCFT = x_BTF.transpose(1, 2)[:, None].contiguous(memory_format=torch.channels_last)
        lengths_B = (lengths_B + 1) // 2
        x_BCFT = self._normed(self.conv0(x_BCFT), self.norm0, lengths_B).contiguous(memory_format=torch.channels_last)
        x_BCFT = self._normed(self.conv1(x_BCFT), self.norm1, lengths_B)
        x_BTH = x_BCFT.flatten(1, 2).transpose(1, 2)
        valid_BT = valid_frames(lengths_B, x_BTH.shape[1])
        for layer in self.recurrent:
            x_BTH = self.dropout(layer(x_BTH, valid_BT))
        return self.ctc(clipped(self.norm(self.fc(x_BTH), valid_BT))), lengths_B

    def _normed(self, x_BCFT: Tensor, norm: nn.Module, lengths_B: Tensor) -> Tensor:
        """Normed per channel and frequency, clipped, 0 behind each utterance's end."""
        x_BTK = x_BCFT.flatten(1, 2).transpose(1, 2)
        normed_BTK = clipped(norm(x_BTK, valid_frames(lengths_B, x_BTK.shape[1])))
        normed_BTK = normed_BTK * valid_frames(lengths_B, x_BTK.shape[1])[..., None]
        return normed_BTK.transpose(1, 2).reshape_as(x_BCFT)
