"""What a card says of a number: its formula with the real values, the line that computes it, and where it came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glassworks.core.text import Text

# Terms of a sum that a card names; the others are added up.
NAMED_TERMS = 8

Index = tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """A number that another was made of: where it stands, by part and index."""

    name: str
    index: Index

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"site": self.name, "index": list(self.index)}


@dataclass(frozen=True)
class Term:
    """One part of a sum: `factors` multiply to `value`; each factor may be a number that can be opened, or a weight."""

    value: float
    factors: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    sources: tuple[Source | None, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "value": self.value,
            "factors": list(self.factors),
            "names": list(self.names),
            "sources": [None if one is None else one.to_json() for one in self.sources],
        }


@dataclass(frozen=True)
class Shown:
    """Everything about one number but its place: recomputed in float64 from the numbers that it names."""

    value: float
    formula: str
    line: str
    """The line of PyTorch that computes all such numbers at once."""
    code: tuple[str, ...]
    """Lines that compute this one; the last assigns `y`."""
    reads: tuple[str, ...] = ()
    """Names that the code looks up in the captured tensors."""
    terms: tuple[Term, ...] = ()
    count: int = 0
    """Terms in all."""
    rest: float = 0.0
    """The sum of those that are not named."""
    numbers: tuple[tuple[Text | str, float], ...] = ()
    sources: tuple[Source, ...] = ()
    note: Text | None = None


def largest_terms(
    left: Tensor, right: Tensor, naming: Callable[[int], tuple[tuple[str, str], tuple[Source | None, Source | None]]]
) -> tuple[tuple[Term, ...], float]:
    """The largest products of two vectors, each named, and the sum of the others."""
    products = left * right
    order = products.abs().argsort(descending=True)[:NAMED_TERMS].tolist()
    terms: list[Term] = []
    for place in order:
        names, sources = naming(int(place))
        values = (float(left[place]), float(right[place]))
        terms.append(Term(float(products[place]), values, names, sources))
    total = float(products.sum())
    return tuple(terms), total - sum(term.value for term in terms)


def unravelled(place: int, shape: Sequence[int]) -> Index:
    """The indices of a place counted row by row."""
    found: list[int] = []
    for size in reversed(shape):
        place, at = divmod(place, size)
        found.append(at)
    return tuple(reversed(found))


def ravelled(index: Sequence[int], shape: Sequence[int]) -> int:
    """The place, counted row by row, of indices."""
    place = 0
    for at, size in zip(index, shape, strict=True):
        place = place * size + at
    return place


def written(index: Sequence[int]) -> str:
    """Indices as Python writes them."""
    return ", ".join(map(str, index))


def in_python(path: str) -> str:
    """A module path as Python reaches it: model.layers[0].mlp."""
    parts = [f"[{part}]" if part.isdigit() else f".{part}" for part in path.split(".")]
    return "model" + "".join(parts)


def exact(tensor: Tensor) -> Tensor:
    """The tensor in float64."""
    return tensor.detach().to(torch.float64)
