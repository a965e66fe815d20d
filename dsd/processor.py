"""What the processor can't do well, so that nobody waits for it unknowingly."""

from __future__ import annotations

from typing import Any


def slow_precision(precision: Any, device: Any) -> str | None:
    """A warning where `precision` is bfloat16 on a CPU without instructions for it (before AVX-512): each product is emulated."""
    import torch

    native: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if "bf16" not in str(precision) or torch.device(device).type != "cpu" or native:
        return None
    return (
        f"this processor has no instructions for bfloat16 (trainer.precision={precision}) and emulates it, ten times and more slower than "
        "float32: trainer.precision=32-true"
    )
