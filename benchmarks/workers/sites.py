"""The names under which both sides of a capture hand over their tensors."""

from collections.abc import Mapping
from typing import Any


def sites_of(options: Mapping[str, Any]) -> list[str]:
    """Every residual site, and queries, keys, values, pattern and head outputs where attention is asked for."""
    layers = range(options["depth"])
    found = ["embed", *(f"layers.{i}.{part}" for i in layers for part in ("in", "mid", "out"))]
    if options["attention"]:
        found += [f"layers.{i}.mixer.{part}" for i in layers for part in ("q", "k", "v", "pattern", "z")]
    return found
