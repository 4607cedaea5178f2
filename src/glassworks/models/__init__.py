"""The one transformer, and the door to pretrained ones."""

from glassworks.models.hub import (
    GlassworksConfig,
    GlassworksForCausalLM,
    GlassworksModel,
    GlassworksPreTrainedModel,
    VectorTransformer,
    register,
)
from glassworks.models.spec import AnyModel, StackSpec, TransformerSpec, VectorSpec
from glassworks.models.transformer import build_model

register()

__all__ = [
    "AnyModel",
    "GlassworksConfig",
    "GlassworksForCausalLM",
    "GlassworksModel",
    "GlassworksPreTrainedModel",
    "StackSpec",
    "TransformerSpec",
    "VectorSpec",
    "VectorTransformer",
    "build_model",
]
