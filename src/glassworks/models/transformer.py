"""From a spec and a seed to a model, bit for bit the same every time."""

import torch

from glassworks.models.hub import GlassworksConfig, GlassworksForCausalLM
from glassworks.models.initialise import initialise
from glassworks.models.spec import TransformerSpec
from glassworks.tensors.seeds import Seed


def build_model(spec: TransformerSpec, seed: Seed, dtype: torch.dtype = torch.float32) -> GlassworksForCausalLM:
    """A fresh model on the CPU; each part draws float32 numbers from a stream named after it, then converts.

    The global generators stay untouched, and a part's numbers do not depend on what else the model has.
    """
    with torch.device("meta"):
        model = GlassworksForCausalLM(GlassworksConfig.from_spec(spec))
    model.to_empty(device="cpu")
    model.tie_weights()
    for name, module in model.named_modules():
        if not (spec.tie_output and name == "lm_head"):
            initialise(module, spec, seed.child("model", name).generator())
    model.config.dtype = dtype
    torch.nn.Module.to(model, dtype)
    return model
