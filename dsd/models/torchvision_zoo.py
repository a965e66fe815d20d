"""Any of torchvision's classification networks, untrained, for any number of classes and image channels.

Parameter names are torchvision's, so its published weights fit. What differs from the papers, and is kept:

* AlexNet is the one of Krizhevsky (2014), 64-192-384-256-256 kernels without groups, 61,100,840 parameters; Caffe's,
  which Han et al. pruned, has 96-256-384-384-256 in two groups and 60,965,224.
* GoogLeNet has BatchNorm, no biases in its convolutions, 3x3 kernels where Szegedy et al. (2015) have 5x5, and dropout
  0.2 where they have 0.4: 13,004,888 parameters with both auxiliary heads, 6,624,904 without. Caffe's has 13,378,280,
  the "13M" of the DSD paper (section 4.1), and 6,998,552.
* ResNet-50 has its stride in the 3x3 convolution, as fb.resnet.torch, which DSD used, has it.
* GoogLeNet and Inception-V3 draw their weights within +-2, not within 2 standard deviations.
"""

from __future__ import annotations

import importlib
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsd.models.nearest import no_download, unknown

AUX_MAP = 17  # pixels a side that the auxiliary head of Inception-V3 was made for (Szegedy et al. 2016, at 299 pixels)


def torchvision_model(name: str, *, num_classes: int, channels: int, **options: Any) -> nn.Module:
    """The torchvision classification network `name` with fresh weights; images (N, channels, H, W) -> logits.

    `options` go to torchvision's own function (`dropout`, `aux_logits`, `image_size`, ...). GoogLeNet and Inception-V3
    with `aux_logits` return `(logits, auxiliary logits, ...)` in training mode, GoogLeNet's deeper head first.
    ValueError for an unknown name, for trained weights, or where the network's first convolution cannot be replaced.
    """
    models = importlib.import_module("torchvision.models")  # here: importing it takes seconds and the LeNets need none
    known = models.list_models(module=models)
    if name not in known:
        raise unknown(name, known, "torchvision")
    no_download(options)
    if name in ("googlenet", "inception_v3"):
        options = {"init_weights": True, **options}  # their own initialisation; unsaid, torchvision warns
    model = cast(nn.Module, models.get_model(name, weights=None, num_classes=num_classes, **options))
    if name == "inception_v3" and options.get("aux_logits", True):
        model.get_submodule("AuxLogits").register_forward_pre_hook(enlarge_map)
    if channels != 3:
        take_channels_(model, channels, name)
    return model


def take_channels_(model: nn.Module, channels: int, name: str) -> None:
    """Make the first convolution of `model`, over 3 channels, one over `channels`, drawn anew.

    Its weights come from a normal with the standard deviation of those they replace, which is how torchvision's own
    fan-out and fixed initialisations treat another number of channels. The bias stays.
    """
    conv = next((layer for layer in model.modules() if isinstance(layer, nn.Conv2d)), None)
    if conv is None or conv.in_channels != 3 or conv.groups != 1:
        raise ValueError(f"{name} does not begin with a plain convolution over 3 channels; it cannot take {channels}")
    if channels < 1:
        raise ValueError(f"images have at least 1 channel, not {channels}")
    old_OIHW = conv.weight.detach()
    kernels, _, *kernel = old_OIHW.shape
    conv.in_channels = channels
    conv.weight = nn.Parameter(torch.randn(kernels, channels, *kernel, device=old_OIHW.device) * old_OIHW.std())


def enlarge_map(head: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Stretch a map smaller than 17x17, on which Inception-V3's auxiliary head would fail.

    At 299 pixels and more nothing changes; below, the head trains instead of raising an error.
    """
    (x,) = inputs
    height, width = x.shape[-2:]
    if min(height, width) >= AUX_MAP:
        return inputs
    return (F.adaptive_avg_pool2d(x, (max(height, AUX_MAP), max(width, AUX_MAP))),)
