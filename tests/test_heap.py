"""Freed memory stays with the process: fewer pages are asked for again."""

import subprocess
import sys

import pytest

LOOP = """
import resource, sys
if sys.argv[1] == "kept":
    from dsd.heap import keep_freed
    assert keep_freed()
for step in range(20):
    activations = [b"x" * (1 << 20) for layer in range(64)]
    activations.clear()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(how: str) -> int:
    said = subprocess.run([sys.executable, "-c", LOOP, how], capture_output=True, text=True, timeout=60, check=True)
    return int(said.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has this setting")
def test_pages_are_asked_for_once():
    step = (64 << 20) // 4096  # pages of a step's activations
    assert faults("given back") > 15 * step
    assert faults("kept") < 5 * step
