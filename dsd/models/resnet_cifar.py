"""ResNet-20/32/44/56 for CIFAR (He et al., CVPR 2016, section 4.2), as fb.resnet.torch builds them.

Three stages of n blocks of two 3x3 convolutions, depth = 6n + 2, at 32x32, 16x16 and 8x8 pixels and 1, 2 and 4 times
`width` channels. Where a stage halves the image the shortcut is option A: every second pixel, new channels zero, and
no parameters. DSD's significance test (Han et al., ICLR 2017) is made on ResNet-20 with width 16.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """relu(shortcut + bn(conv(relu(bn(conv)))))."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width_out)
        self.stride, self.new_channels = stride, width_out - width_in

    def forward(self, x: Tensor) -> Tensor:
        """(N, width_in, H, W) -> (N, width_out, H / stride, W / stride), rounded up."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x), inplace=True)

    def shortcut(self, x: Tensor) -> Tensor:
        """Option A: `x`, or every second pixel of it with the new channels, zero, after the old ones."""
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.new_channels)) if self.new_channels else x


class ResNetCifar(nn.Module):
    """ResNet of `depth` layers, 6n + 2, for small images of any size; its stages have width, 2 width, 4 width channels.

    Depth 20, width 16, 3 channels and 10 classes: 269,722 parameters, of which convolutions 267,696 (the first 432),
    `fc` 650 and BatchNorm 1,376. Convolutions start from He's normal, fan-out; the bias of `fc` from 0.
    """

    def __init__(self, depth: int, *, num_classes: int, channels: int, width: int) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"the depth is 6n + 2 (8, 14, 20, 32, 44, 56, ...), not {depth}")
        if width < 1:
            raise ValueError(f"the width must be at least 1, not {width}")
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = stage(width, width, blocks, stride=1)
        self.layer2 = stage(width, 2 * width, blocks, stride=2)
        self.layer3 = stage(2 * width, 4 * width, blocks, stride=2)
        self.fc = nn.Linear(4 * width, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, channels, H, W)."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def stage(width_in: int, width_out: int, blocks: int, *, stride: int) -> nn.Sequential:
    """`blocks` blocks, the first of which changes the size of the image and the number of channels."""
    first = Block(width_in, width_out, stride)
    return nn.Sequential(first, *(Block(width_out, width_out, 1) for _ in range(blocks - 1)))
