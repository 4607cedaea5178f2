"""Operating on layers: plans as values, models that run them with an exact cache, many plans at the cost of few."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glassworks.surgery.operate import operated
    from glassworks.surgery.plans import Layer, Parallel, Plan, Variant
    from glassworks.surgery.prefix_tree import Cost, execute, logits_under, to_logits

__all__ = ["Cost", "Layer", "Parallel", "Plan", "Variant", "execute", "logits_under", "operated", "to_logits"]

_PLACES = {
    "operate": ("operated",),
    "plans": ("Layer", "Parallel", "Plan", "Variant"),
    "prefix_tree": ("Cost", "execute", "logits_under", "to_logits"),
}


def __getattr__(name: str) -> Any:
    """Loads a name on first use (PEP 562): plans, tables and figures need no torch."""
    for module, names in _PLACES.items():
        if name in names:
            return import_module(f"glassworks.surgery.{module}").__dict__[name]
    raise AttributeError(f"module 'glassworks.surgery' has no attribute {name!r}")
