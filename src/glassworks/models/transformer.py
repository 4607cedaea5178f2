"""From a spec and a seed to a model, bit for bit the same every time."""

from typing import overload

import torch

from glassworks.models.config import GlassworksConfig
from glassworks.models.encoder import GlassworksForMaskedLM
from glassworks.models.hub import GlassworksForCausalLM, VectorTransformer
from glassworks.models.initialise import initialise
from glassworks.models.seq2seq import GlassworksForSeq2SeqLM
from glassworks.models.spec import (
    AnyModel,
    EncoderDecoderSpec,
    EncoderSpec,
    TokenModel,
    TransformerSpec,
    VectorSpec,
)
from glassworks.tensors.seeds import Seed


@overload
def build_model(spec: TransformerSpec, seed: Seed, dtype: torch.dtype = ...) -> GlassworksForCausalLM: ...
@overload
def build_model(spec: VectorSpec, seed: Seed, dtype: torch.dtype = ...) -> VectorTransformer: ...
@overload
def build_model(spec: EncoderSpec, seed: Seed, dtype: torch.dtype = ...) -> GlassworksForMaskedLM: ...
@overload
def build_model(spec: EncoderDecoderSpec, seed: Seed, dtype: torch.dtype = ...) -> GlassworksForSeq2SeqLM: ...
def build_model(
    spec: AnyModel, seed: Seed, dtype: torch.dtype = torch.float32
) -> GlassworksForCausalLM | VectorTransformer | GlassworksForMaskedLM | GlassworksForSeq2SeqLM:
    """A fresh model on the CPU; each part draws float32 numbers from a stream named after it, then converts.

    The global generators stay untouched, and a part's numbers do not depend on what else the model has.
    """
    is_tied = isinstance(spec, TokenModel) and spec.tie_output
    with torch.device("meta"):
        config = GlassworksConfig.from_spec(spec)
        model = language_model_class(spec)(config)
    model.to_empty(device="cpu")
    model.tie_weights()
    for name, module in model.named_modules():
        if not (is_tied and name == "lm_head"):
            initialise(module, spec, seed.child("model", name).generator())
    model.config.dtype = dtype
    torch.nn.Module.to(model, dtype)
    return model


def language_model_class(
    spec: AnyModel,
) -> type[GlassworksForCausalLM | VectorTransformer | GlassworksForMaskedLM | GlassworksForSeq2SeqLM]:
    """The class that learns what this kind of model is for: tokens to come, hidden tokens, a text for a source, numbers."""
    match spec:
        case TransformerSpec():
            return GlassworksForCausalLM
        case EncoderSpec():
            return GlassworksForMaskedLM
        case EncoderDecoderSpec():
            return GlassworksForSeq2SeqLM
        case VectorSpec():
            return VectorTransformer
