"""Operating on layers: plans as values, models that run them with an exact cache, many plans at the cost of few."""

from glassworks.surgery.execute import Cost, execute, logits_under, to_logits
from glassworks.surgery.operate import operated
from glassworks.surgery.plans import Layer, Parallel, Plan, Variant

__all__ = ["Cost", "Layer", "Parallel", "Plan", "Variant", "execute", "logits_under", "operated", "to_logits"]
