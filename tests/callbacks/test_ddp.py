"""Two processes over gloo: the masks are the same bits on all ranks, and the zeros are exact on each."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """The folder where both ranks left what they saw, by criterion."""
    folder, job = tmp_path_factory.mktemp("ddp"), Path(__file__).with_name("ddp_job.py")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free.getsockname()[1]),
            "WORLD_SIZE": "2",
            "NODE_RANK": "0",
        }
    ranks = []
    for rank in (0, 1):
        with (folder / f"{rank}.log").open("w") as said:
            words, env = [sys.executable, job, folder], os.environ | place | {"LOCAL_RANK": str(rank)}
            ranks.append(subprocess.Popen(words, env=env, stdout=said, stderr=said))
    try:
        codes = [rank.wait(180) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert codes == [0, 0], "".join((folder / f"{rank}.log").read_text()[-3000:] for rank in (0, 1))
    return folder


def test_masks_are_bit_identical_on_all_ranks(seen):
    for criterion in ("magnitude", "random", "taylor"):
        zero, one = (torch.load(seen / f"{criterion}-rank{rank}.pt", weights_only=True) for rank in (0, 1))
        assert zero["zeros"] == one["zeros"], criterion
        assert zero["zeros"][10:20] == [48] * 10, criterion
        assert zero["mask"].keys() == one["mask"].keys() == {"net.0.weight", "net.2.weight"}
        for part in ("mask", "weights"):
            assert all(torch.equal(zero[part][name], one[part][name]) for name in zero[part]), criterion
