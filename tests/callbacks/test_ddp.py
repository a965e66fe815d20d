"""Two processes over gloo: the masks are the same bits on all ranks, and the zeros are exact on each."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.mark.parametrize("criterion", ["magnitude", "random", "taylor"])
def test_masks_are_bit_identical_on_all_ranks(tmp_path, criterion):
    job = Path(__file__).with_name("ddp_job.py")
    done = subprocess.run([sys.executable, job, tmp_path, criterion], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    zero, one = (torch.load(tmp_path / f"{criterion}-rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert zero["zeros"] == one["zeros"]
    assert zero["zeros"][10:20] == [48] * 10
    assert zero["mask"].keys() == one["mask"].keys() == {"net.0.weight", "net.2.weight"}
    assert all(torch.equal(zero["mask"][name], one["mask"][name]) for name in zero["mask"])
    assert all(torch.equal(zero["weights"][name], one["weights"][name]) for name in zero["weights"])
