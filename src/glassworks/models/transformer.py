"""From a spec and a seed to a model, bit for bit the same every time."""

from typing import overload

import torch

from glassworks.models.hub import GlassworksConfig, GlassworksForCausalLM, VectorTransformer
from glassworks.models.initialise import initialise
from glassworks.models.spec import AnyModel, TransformerSpec, VectorSpec
from glassworks.tensors.seeds import Seed


@overload
def build_model(spec: TransformerSpec, seed: Seed, dtype: torch.dtype = ...) -> GlassworksForCausalLM: ...
@overload
def build_model(spec: VectorSpec, seed: Seed, dtype: torch.dtype = ...) -> VectorTransformer: ...
def build_model(
    spec: AnyModel, seed: Seed, dtype: torch.dtype = torch.float32
) -> GlassworksForCausalLM | VectorTransformer:
    """A fresh model on the CPU; each part draws float32 numbers from a stream named after it, then converts.

    The global generators stay untouched, and a part's numbers do not depend on what else the model has.
    """
    is_tied = isinstance(spec, TransformerSpec) and spec.tie_output
    with torch.device("meta"):
        config = GlassworksConfig.from_spec(spec)
        model = GlassworksForCausalLM(config) if isinstance(spec, TransformerSpec) else VectorTransformer(config)
    model.to_empty(device="cpu")
    model.tie_weights()
    for name, module in model.named_modules():
        if not (is_tied and name == "lm_head"):
            initialise(module, spec, seed.child("model", name).generator())
    model.config.dtype = dtype
    torch.nn.Module.to(model, dtype)
    return model
