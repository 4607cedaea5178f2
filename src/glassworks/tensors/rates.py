"""Short measurements of what this machine takes for products of given shapes, in processor and in wall time."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float

from glassworks.tensors.seeds import Seed

# Matrices are multiplied in turn, as those of layers are, so that none is found in a cache from the time before.
_OUT_OF_CACHE = 192 * 10**6
# A matrix too large to try is tried with fewer rows; time grows with their number.
_LARGEST = 64 * 10**6
_REPEATS, _SECONDS = 3, 0.3

Seconds = Float[np.ndarray, " clock"]
"""Processor time of all threads, and wall time."""


def timed(work: Callable[[], object], device: torch.device | None = None) -> Seconds:
    """How long something takes once."""
    _wait(device)
    begun = np.array([time.process_time(), time.perf_counter()])
    work()
    _wait(device)
    return np.array([time.process_time(), time.perf_counter()]) - begun


def product_seconds(shapes: Sequence[tuple[int, int]], rows: int, dtype: torch.dtype, device: torch.device) -> Seconds:
    """One product of so many vectors with a matrix of each shape (outputs, inputs), each brought from memory."""
    total = np.zeros(2)
    for shape in dict.fromkeys(shapes):
        total += shapes.count(shape) * _product(shape, rows, dtype, device)
    return total


def _product(shape: tuple[int, int], rows: int, dtype: torch.dtype, device: torch.device) -> Seconds:
    outputs, inputs = shape
    kept = max(1, min(outputs, _LARGEST // max(1, inputs * dtype.itemsize)))
    copies = max(2, min(16, _OUT_OF_CACHE // max(1, kept * inputs * dtype.itemsize)))
    generator = Seed(0).generator()
    first = torch.randn(kept, inputs, generator=generator).to(device, dtype)
    matrices = [first, *(first.clone() for _ in range(copies - 1))]
    vectors = torch.randn(rows, inputs, generator=generator).to(device, dtype)

    def all_of_them() -> None:
        for matrix in matrices:
            torch.nn.functional.linear(vectors, matrix)

    all_of_them()
    found, until = [], time.perf_counter() + _SECONDS
    while len(found) < _REPEATS and (not found or time.perf_counter() < until):
        found.append(timed(all_of_them, device))
    return np.min(found, axis=0) * (outputs / kept) / copies


def copy_seconds(size: int) -> Seconds:
    """How long so many bytes take to be copied in memory, from a piece of at most 64 MB."""
    piece = min(size, 64 * 10**6)
    if piece <= 0:
        return np.zeros(2)
    source = torch.zeros(piece, dtype=torch.uint8)
    target = torch.empty_like(source)
    target.copy_(source)
    return np.min([timed(lambda: target.copy_(source)) for _ in range(_REPEATS)], axis=0) * (size / piece)


def _wait(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
