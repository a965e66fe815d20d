"""Any of timm's networks (github.com/huggingface/pytorch-image-models), untrained. timm is an extra of this package."""

from __future__ import annotations

import importlib
from typing import Any, cast

from torch import nn

from dsd.models.nearest import no_download, unknown


def timm_model(name: str, *, num_classes: int, channels: int, **options: Any) -> nn.Module:
    """The timm network `name` with fresh weights; images (N, channels, H, W) -> logits (N, num_classes).

    `options` go to `timm.create_model` (`drop_rate`, `img_size`, ...). A name may carry the tag of a set of weights
    (`resnet50.a1_in1k`); they are not downloaded. ValueError for an unknown name or for trained weights,
    ModuleNotFoundError without timm.
    """
    try:
        timm = importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("this network is timm's: pip install 'dsd[timm]'", name="timm") from error
    if not timm.is_model(name):
        raise unknown(name, timm.list_models(), "timm")
    no_download(options)
    model = timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=channels, **options)
    return cast(nn.Module, model)
