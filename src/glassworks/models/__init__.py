"""The one transformer, and the door to pretrained ones."""

from glassworks.models.hub import (
    GlassworksConfig,
    GlassworksForCausalLM,
    GlassworksModel,
    GlassworksPreTrainedModel,
    VectorTransformer,
    register,
)
from glassworks.models.memory_files import StreamMemory, load_memory
from glassworks.models.recurrent_memory import RecurrentMemoryModel
from glassworks.models.spec import (
    AnyModel,
    EncoderDecoderSpec,
    EncoderSpec,
    RecurrentMemorySpec,
    StackSpec,
    TransformerSpec,
    VectorSpec,
)
from glassworks.models.transformer import build_model

register()

__all__ = [
    "AnyModel",
    "EncoderDecoderSpec",
    "EncoderSpec",
    "GlassworksConfig",
    "GlassworksForCausalLM",
    "GlassworksModel",
    "GlassworksPreTrainedModel",
    "RecurrentMemoryModel",
    "RecurrentMemorySpec",
    "StackSpec",
    "StreamMemory",
    "TransformerSpec",
    "VectorSpec",
    "VectorTransformer",
    "build_model",
    "load_memory",
]
