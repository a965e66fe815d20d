"""The C library's heap: what a training step frees stays with the process for the next one.

glibc gives large freed blocks back to the kernel at once, so every step asks for the same pages again and the kernel clears them
again: a seventh of the time of a ResNet-20 step on a CPU. Nothing a number depends on is changed.
"""

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # malloc.h's parameters of mallopt
LARGEST = 1 << 30  # bytes of a block that may come from the heap


def keep_freed() -> bool:
    """Blocks up to a GiB come from the heap, which keeps up to a GiB of what is freed; False where there is no glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    settings = ((TRIM_THRESHOLD, LARGEST), (TOP_PAD, 64 << 20), (MMAP_THRESHOLD, LARGEST))
    return all(mallopt(name, value) == 1 for name, value in settings)
