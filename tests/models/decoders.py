"""Decoders that between them have every option of a plain one, with weights large enough for mistakes to show."""

import torch

from glassworks.models import GlassworksForCausalLM, TransformerSpec, build_model
from glassworks.models.stack import RotaryScaling
from glassworks.tensors.seeds import Seed

COMMON = {"vocabulary": 61, "width": 32, "depth": 2, "heads": 4, "context": 48}
LLAMA = COMMON | {"norm": "rms", "feedforward": ("swiglu",), "positions": "rotary", "kv_heads": 2}
PLAIN = {
    "gpt2": COMMON | {"bias": True, "feedforward": ("gelu_tanh",), "tie_output": True},
    "llama": LLAMA,
    "first": COMMON | {"positions": "sinusoidal", "norm_placement": "post", "embedding_factor": 32**0.5, "bias": True},
    "bloom": COMMON | {"positions": "alibi", "heads": 6, "head_width": 6, "embedding_norm": True, "feedforward": ("gelu",)},
    "qwen3": LLAMA | {"query_key_norm": "rms", "query_bias": True, "norm_placement": "both", "feedforward": ("geglu",)},
    "stretched": LLAMA
    | {"rotary_scaling": RotaryScaling(kind="llama3", factor=4, original=8), "feedforward": ("geglu_tanh", "relu")},
    "ntk": LLAMA | {"rotary_scaling": RotaryScaling(kind="ntk", factor=2), "rotary_share": 0.5, "head_norm": True},
    "odd": COMMON
    | {
        "width": 21, "heads": 3, "feedforward_width": 33, "norm": "none", "feedforward": ("linear", "none"),
        "positions": "random", "query_key_norm": "l2", "stream_limit": 2.0, "residual_factor": 1.5,
    },
    "beside": LLAMA | {"feedforward_reads": "block_input", "rotary_layers": (1,), "position_offset": 0, "score_scale": "none"},
}  # fmt: skip


def plain(name: str, dtype: torch.dtype = torch.float32) -> GlassworksForCausalLM:
    """A decoder with one of these sets of options."""
    model = build_model(TransformerSpec(**PLAIN[name]), Seed(3), dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            # Gains and offsets that are all one, or zero, would hide a mistake.
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=Seed(parameter.numel()).generator()).to(dtype))
    return model.eval()


def greedy(model, ids: list[int], count: int) -> list[int]:
    """The likeliest tokens, each from one pass over all before it."""
    made = list(ids)
    with torch.no_grad():
        for _ in range(count):
            made.append(int(model(torch.tensor([made]), use_cache=False).logits[0, -1].argmax()))
    return made[len(ids) :]
