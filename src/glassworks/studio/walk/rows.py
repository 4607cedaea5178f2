"""Which rows of a matrix make queries, keys or values, where one map makes several of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def rows_of(out: Tensor, target: Tensor) -> Tensor | None:
    """For each column of `target` the column of `out` that holds the same numbers; None where one is missing."""
    count = target.shape[1]
    if out.shape[0] != target.shape[0] or out.shape[1] < count:
        return None
    if torch.equal(out[:, :count], target):
        return torch.arange(count)
    known: dict[bytes, int] = {}
    for column, numbers in enumerate(out.t().contiguous().numpy()):
        known.setdefault(numbers.tobytes(), column)
    found = [known.get(numbers.tobytes()) for numbers in target.t().contiguous().numpy()]
    rows = [row for row in found if row is not None]
    return torch.tensor(rows) if len(rows) == len(found) else None


def stretches(sizes: tuple[int, int, int], letter: str, columns: int) -> Iterator[Tensor]:
    """Where queries or keys may lie among the columns of a map that gives more than them."""
    query_heads, kv_heads, width = sizes
    heads = query_heads if letter == "q" else kv_heads
    count = heads * width
    if columns == count:
        yield torch.arange(count)
        return
    start = 0 if letter == "q" else query_heads * width
    if start + count <= columns:
        yield torch.arange(start, start + count)
    if columns == 3 * count:
        # Head by head its query, key and value (GPT-NeoX, BLOOM).
        inside = torch.arange(width) + (0 if letter == "q" else width)
        yield (torch.arange(heads)[:, None] * 3 * width + inside).flatten()
