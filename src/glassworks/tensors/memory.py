"""Keeping freed memory in the process, so that a training step does not fault the same pages in again and again."""

import ctypes
import sys

# glibc's names for these settings (malloc.h); the threshold is the largest that it accepts.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST_FROM_HEAP = 32 * 2**20
_KEPT = 10**9
_GROWN_AT_ONCE = 64 * 2**20


def keep_freed_memory() -> bool:
    """Tells glibc to serve blocks up to 32 MB from the heap and to keep up to 1 GB of it; False where there is no glibc.

    Score tensors of attention are of this size. By default each is mapped and unmapped by the system: a quarter of the
    time of a training step on two cores. The setting holds for the whole process.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_MMAP_THRESHOLD, _LARGEST_FROM_HEAP), (_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, _GROWN_AT_ONCE))
    return all(mallopt(name, value) == 1 for name, value in settings)
