"""The card of one number: its formula with the real values, the difference to the model's own, and where it came from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.studio.walk.answers import dimensions_of
from glassworks.studio.walk.graph import TOLERANCE, Graph
from glassworks.studio.walk.shown import Source, Term
from glassworks.studio.walk.steps import Opaque


def card(graph: Graph, name: str, index: Sequence[int]) -> dict[str, Any]:
    """Everything about one number; InvalidInput where the index is none of the part's."""
    part = graph.part(name)
    shape = tuple(part.tensor.shape)
    if len(index) != len(shape) or not all(0 <= at < size for at, size in zip(index, shape, strict=False)):
        raise InvalidInput(
            say("{part} has no number at these indices", part=name),
            given=list(index),
            right=say("indices below {shape}", shape=list(shape)),
        )
    place = tuple(index)
    value = float(part.tensor[place])
    shown = part.step.show(graph, place)
    is_known = not isinstance(part.step, Opaque)
    reads = graph.cached(shown.reads)
    code = [] if not shown.code or "" in reads else [*_opening(reads), *shown.code]
    apart = abs(shown.value - value) if math.isfinite(value) and is_known else 0.0
    return {
        "site": name,
        "index": list(place),
        "dims": list(dimensions_of(name)),
        "tokens": _tokens(graph, name, place),
        "shape": list(shape),
        "value": _number(value),
        "hidden": value == -math.inf,
        "known": is_known,
        "recomputed": _number(shown.value) if is_known else None,
        "difference": apart,
        "agrees": apart <= TOLERANCE * max(1.0, float(part.tensor[place].abs()) if math.isfinite(value) else 1.0),
        "kind": type(part.step).__name__.lower(),
        "path": part.path,
        "class": graph.kind(part.path) if part.path else "",
        "formula": shown.formula,
        "line": shown.line,
        "code": code,
        "terms": [_term(graph, term) for term in shown.terms],
        "count": shown.count,
        "rest": shown.rest,
        "numbers": [{"name": label, "value": number} for label, number in shown.numbers],
        "sources": [_source(graph, one) for one in shown.sources],
        "note": shown.note,
    }


def _opening(reads: list[str]) -> list[str]:
    names = ", ".join(f'"{name}"' for name in reads)
    return [f"_, cache = subject.run_with_cache(text, [{names}])"] if reads else []


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _source(graph: Graph, source: Source) -> dict[str, Any]:
    value = float(graph(source.name)[source.index])
    return source.to_json() | {
        "value": _number(value),
        "dims": list(dimensions_of(source.name)),
        "tokens": _tokens(graph, source.name, source.index),
    }


def _term(graph: Graph, term: Term) -> dict[str, Any]:
    found = term.to_json()
    found["tokens"] = [None if one is None else _tokens(graph, one.name, one.index)[-1:] for one in term.sources]
    return found


def _tokens(graph: Graph, name: str, index: tuple[int, ...]) -> list[str | None]:
    """The token at each index that counts tokens; None at the others."""
    made = graph.made
    own = made.read_by("encoder" if name.startswith("encoder.") else "").labels
    source = made.batch.read_by_encoder.labels
    found: list[str | None] = []
    for dimension, at in zip(dimensions_of(name), index, strict=False):
        is_cross = ".cross." in name and (dimension == "key" or name.endswith((".k", ".v", ".k.map")))
        labels = source if is_cross else own
        if dimension in ("position", "query", "key"):
            found.append(labels[at] if at < len(labels) else None)
        elif dimension == "token":
            found.append(made.subject.labels([at])[0])
        else:
            found.append(None)
    return found
