"""Keeping freed memory in the process, so that no step faults the same pages in again and again; or giving it back."""

import ctypes
import sys
from collections.abc import Mapping

# glibc's names for these settings (malloc.h); the threshold is the largest that it accepts.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST_FROM_HEAP = 32 * 2**20
_KEPT = 10**9
_GROWN_AT_ONCE = 64 * 2**20
_GIVEN_BACK = 2**20


def keep_freed_memory() -> bool:
    """Tells glibc to serve blocks up to 32 MB from the heap and to keep up to 1 GB of it; False where there is no glibc.

    Score tensors of attention are of this size. By default each is mapped and unmapped by the system: a quarter of the
    time of a training step on two cores. The setting holds for the whole process.
    """
    return _settled({_MMAP_THRESHOLD: _LARGEST_FROM_HEAP, _TRIM_THRESHOLD: _KEPT, _TOP_PAD: _GROWN_AT_ONCE})


def give_freed_memory_back() -> bool:
    """Tells glibc to return blocks of 1 MB and more to the system when they are freed; False where there is no glibc.

    For what has no memory to spare: layers that are put together and taken apart again leave holes of their size otherwise.
    """
    return _settled({_MMAP_THRESHOLD: _GIVEN_BACK, _TRIM_THRESHOLD: _GIVEN_BACK})


def _settled(settings: Mapping[int, int]) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(name, value) == 1 for name, value in settings.items())
