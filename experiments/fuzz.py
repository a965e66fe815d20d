"""Look for a file that makes reading an archive do anything but return tensors or refuse: `python -m experiments.fuzz [SECONDS]`.

`pip install 'dsd[fuzz]'` (atheris, Linux). libFuzzer changes files so that they reach code that none reached before. Each
gets a right checksum, as a hostile file would have, and may unpack to 1 MiB; anything but an ArchiveError stops with a
trace and leaves the file (crash-..., timeout-..., oom-...). The suite's own test mutates 10,000 files blindly; this is for the
night: 0 seconds is for ever. What reached something new is kept in ./fuzz-corpus, so that the next one goes on from there.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import atheris
import torch

COMPILED = ["dsd.coding.bitmap", "dsd.coding.huffman"]  # numba can't compile what atheris has instrumented
with atheris.instrument_imports(include=["dsd.coding", "dsd.compression", "dsd.unpacking"], exclude=COMPILED):
    from dsd.coding.archive import MAGIC, ArchiveError
    from dsd.compression import compress, decompress, read_ledger

LIMIT = 1 << 20
CORPUS = Path("fuzz-corpus")


def seeds() -> list[bytes]:
    """Small archives that have every form, layout and coder; magic, version and checksum left out."""
    g = torch.Generator().manual_seed(0)
    weight = torch.randint(1, 9, (40, 30), generator=g).float() * (torch.rand(40, 30, generator=g) < 0.15)
    rest = {"b": torch.randn(20, generator=g), "n": torch.tensor(3), "z": torch.zeros(30, 30), "h": weight.half()}
    made = [
        compress({"w": weight, **rest, "tied": weight}, coder=coder, index_bits=bits, fillers=fillers)
        for coder in ("best", "ans", "huffman", "fixed")
        for bits in (None, 3)
        for fillers in ("escape", "paper")
    ]
    return [one.data[4:-4] for one in made]


def try_one(body: bytes) -> None:
    """Tensors within the limit and a ledger that adds up, or an ArchiveError; the body begins with the version."""
    inside = MAGIC + body
    data = inside + zlib.crc32(inside).to_bytes(4, "little")
    try:
        found = decompress(data, limit=LIMIT)
    except ArchiveError:
        return
    assert sum(t.numel() * t.element_size() for t in found.values()) <= 3 * LIMIT
    assert read_ledger(data, limit=LIMIT).size == len(data)


def main(words: list[str]) -> None:
    CORPUS.mkdir(exist_ok=True)
    for number, seed in enumerate(seeds()):
        (CORPUS / f"seed-{number}").write_bytes(seed)
    seconds = words[0] if words else "300"
    how = ["-max_len=4096", "-rss_limit_mb=4096", "-timeout=60", "-print_final_stats=1", f"-max_total_time={seconds}"]
    atheris.Setup([sys.argv[0], str(CORPUS), *how], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
