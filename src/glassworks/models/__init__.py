"""The one transformer, and the door to pretrained ones."""

from glassworks.models.encoder import EncoderModel, GlassworksForMaskedLM
from glassworks.models.heads import GlassworksForSequenceClassification, register_heads
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
from glassworks.models.seq2seq import EncoderDecoderModel, GlassworksForSeq2SeqLM
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
register_heads()

__all__ = [
    "AnyModel",
    "EncoderDecoderModel",
    "EncoderDecoderSpec",
    "EncoderModel",
    "EncoderSpec",
    "GlassworksConfig",
    "GlassworksForCausalLM",
    "GlassworksForMaskedLM",
    "GlassworksForSeq2SeqLM",
    "GlassworksForSequenceClassification",
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
