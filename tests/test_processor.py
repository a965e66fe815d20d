"""Who waits for emulated bfloat16 is told."""

import pytest
import torch

from dsd.processor import slow_precision


@pytest.mark.parametrize(
    ("precision", "device", "native", "told"),
    [
        ("bf16-mixed", "cpu", False, True),
        ("bf16-true", "cpu", False, True),
        ("bf16-mixed", "cpu", True, False),
        ("bf16-mixed", "cuda", False, False),
        ("32-true", "cpu", False, False),
    ],
)
def test_a_processor_that_emulates_bfloat16_says_so(precision, device, native, told, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: native)
    said = slow_precision(precision, device)
    assert (f"trainer.precision={precision}" in (said or "")) is told
