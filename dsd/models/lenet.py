"""LeNet-300-100 and LeNet-5, the two MNIST networks of Han et al. (NIPS 2015, Table 1; ICLR 2016, Tables 2 and 3).

LeNet-5 is Caffe's (examples/mnist/lenet.prototxt): 20 and 50 kernels of 5x5, max pooling, 500 units, one ReLU in all;
neither the tanh nor the sparse connections of LeCun et al. (1998). Both start from Caffe's `xavier` filler, biases 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL = 5  # of both convolutions of LeNet-5


@torch.no_grad()
def xavier_(model: nn.Module) -> None:
    """Draw the weights of each convolution and linear layer from U(-a, a), a = sqrt(3 / fan_in); biases become 0.

    Caffe's `xavier` filler with its default FAN_IN, so the variance is 1 / fan_in. PyTorch's own default is a third.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            bound = math.sqrt(3 / layer.weight[0].numel())
            layer.weight.uniform_(-bound, bound)
            if layer.bias is not None:
                layer.bias.zero_()


def check_images(images: Tensor, channels: int, side: int) -> None:
    """Nothing, or a ValueError: `images` must be (N, channels, side, side)."""
    if tuple(images.shape[1:]) != (channels, side, side):
        raise ValueError(f"this network takes images (N, {channels}, {side}, {side}), not {tuple(images.shape)}")


class LeNet300(nn.Module):
    """Linear layers with ReLU between them: `fc1`, `fc2`, ... of `hidden` widths, then one to `num_classes`.

    With hidden = (300, 100), 10 classes and 28x28 pixels, 266,610 parameters, 266,200 of them weights.
    """

    def __init__(self, *, num_classes: int, channels: int, side: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.channels, self.side = channels, side
        self.names: list[str] = []
        for n, (width_in, width_out) in enumerate(pairwise([channels * side * side, *hidden, num_classes]), 1):
            self.names.append(f"fc{n}")
            self.add_module(self.names[-1], nn.Linear(width_in, width_out))
        xavier_(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, channels, side, side); ValueError for any other shape."""
        check_images(images, self.channels, self.side)
        x = images.flatten(1)
        for name in self.names[:-1]:
            x = F.relu(self.get_submodule(name)(x))
        logits: Tensor = self.get_submodule(self.names[-1])(x)
        return logits


class LeNet5(nn.Module):
    """Caffe's LeNet: `conv1`, pool, `conv2`, pool, `fc1`, ReLU, `fc2`; `widths` of the first three.

    With widths (20, 50, 500), 10 classes and 28x28 grey pixels, 431,080 parameters, 430,500 of them weights.
    ValueError if `side`, in pixels, leaves nothing after two convolutions and two poolings.
    """

    def __init__(self, *, num_classes: int, channels: int, side: int, widths: Sequence[int]) -> None:
        super().__init__()
        last = ((side - KERNEL + 1) // 2 - KERNEL + 1) // 2
        if last < 1:
            raise ValueError(f"LeNet-5 needs images of 16 pixels a side or more, side = {side}")
        if len(widths) != 3:
            raise ValueError(f"LeNet-5 has three widths, of conv1, conv2 and fc1, not {list(widths)}")
        self.channels, self.side = channels, side
        self.conv1 = nn.Conv2d(channels, widths[0], KERNEL)
        self.conv2 = nn.Conv2d(widths[0], widths[1], KERNEL)
        self.fc1 = nn.Linear(widths[1] * last * last, widths[2])
        self.fc2 = nn.Linear(widths[2], num_classes)
        xavier_(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, channels, side, side); ValueError for any other shape."""
        check_images(images, self.channels, self.side)
        x = F.max_pool2d(self.conv1(images), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        logits: Tensor = self.fc2(F.relu(self.fc1(x.flatten(1))))
        return logits
