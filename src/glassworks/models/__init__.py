"""The one transformer, and the door to pretrained ones."""

from glassworks.models.hub import (
    GlassworksConfig,
    GlassworksForCausalLM,
    GlassworksModel,
    GlassworksPreTrainedModel,
    register,
)
from glassworks.models.spec import TransformerSpec
from glassworks.models.transformer import build_model

register()

__all__ = [
    "GlassworksConfig",
    "GlassworksForCausalLM",
    "GlassworksModel",
    "GlassworksPreTrainedModel",
    "TransformerSpec",
    "build_model",
]
