"""How a decoder looks at what an encoder read: attention across, and the layer that has it."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers.cache_utils import EncoderDecoderCache

from glassworks.mixers import Gates, Sight, Softmax, attention_map
from glassworks.models.blocks import Block
from glassworks.models.feedforward import outward_map
from glassworks.models.norms import build_norm
from glassworks.models.stack import StackSpec


@dataclass(frozen=True)
class Source:
    """What the encoder made of the text that it read."""

    vectors: Float[Tensor, "batch source width"]
    real: Bool[Tensor, "batch source"] | None = None
    """True at real tokens; None where all are."""


class CrossAttention(nn.Module):
    """Queries of the decoder's stream against keys and values of the source, all of which every query sees.

    Softmax attention without positions, whatever mixes the decoder's own tokens; keys and values are computed once and kept.
    """

    def __init__(self, spec: StackSpec, layer: int) -> None:
        super().__init__()
        # Named as in transformers: which slot of a cache is its own. A plan that runs a layer twice gives it two.
        self.layer_idx = layer
        self.sizes = spec.replaced("mixers", (Softmax(),)).sizes
        inner, shared = (heads * self.sizes.head_width for heads in (self.sizes.query_heads, self.sizes.kv_heads))
        bias = spec.bias if spec.query_bias is None else spec.query_bias
        self.q_proj = nn.Linear(spec.width, inner, bias=bias)
        self.k_proj = nn.Linear(spec.width, shared, bias=bias)
        self.v_proj = nn.Linear(spec.width, shared, bias=bias)
        self.mixer = Softmax().build(self.sizes)
        self.o_proj = outward_map(spec, inner)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch position width"],
        source: Source,
        past_key_values: EncoderDecoderCache | None = None,
        output_attentions: bool = False,
    ) -> tuple[Float[Tensor, "batch position width"], Float[Tensor, "batch head position source"] | None]:
        """What was read of the source, and the map where it is asked for."""
        q = self._heads(self.q_proj(hidden_states))
        k, v = self._read(source, past_key_values)
        gates = Gates(real=source.real, sight=Sight(ahead=True))
        out = self.mixer(q, k, v, gates=gates, remember=False).out
        shown = None
        if output_attentions:
            with torch.no_grad():
                shown = attention_map(self.mixer, q, k, gates)
        return self.o_proj(out.transpose(1, 2).flatten(2)), shown

    def _read(self, source: Source, past_key_values: EncoderDecoderCache | None) -> tuple[Tensor, Tensor]:
        if past_key_values is not None and past_key_values.is_updated.get(self.layer_idx):
            # Plain keys and values, as the body made this cache.
            kept: Any = past_key_values.cross_attention_cache.layers[self.layer_idx]
            return kept.keys, kept.values
        k, v = self._heads(self.k_proj(source.vectors)), self._heads(self.v_proj(source.vectors))
        if past_key_values is not None:
            k, v = past_key_values.cross_attention_cache.update(k, v, self.layer_idx)
            past_key_values.is_updated[self.layer_idx] = True
        return k, v

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.sizes.head_width)).transpose(1, 2)


class CrossBlock(Block):
    """A decoder's layer that looks at the source between mixing its own tokens and its feed-forward."""

    def __init__(self, spec: StackSpec, layer: int) -> None:
        super().__init__(spec, layer)
        self.cross_layernorm = build_norm(spec)
        self.cross_attn = CrossAttention(spec, layer)
        self.post_cross_norm = build_norm(spec) if spec.norm_placement == "both" else None

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] - it cannot do without a source
        self,
        hidden_states: Float[Tensor, "batch position width"],
        source: Source,
        past_key_values: EncoderDecoderCache | None = None,
        output_attentions: bool = False,
        **told: Any,
    ) -> Float[Tensor, "batch position width"]:
        """The stream after this layer; its own attention is `told` what a `Block`'s is: gates, bearings and code."""
        own = None if past_key_values is None else past_key_values.self_attention_cache

        def mix(read: Tensor) -> Tensor:
            return self.self_attn(read, past_key_values=own, output_attentions=output_attentions, **told)[0]

        def look(read: Tensor) -> Tensor:
            return self.cross_attn(read, source, past_key_values, output_attentions)[0]

        mixed = self.with_part(hidden_states, mix, self.input_layernorm, self.post_mixing_norm)
        looked = self.with_part(mixed, look, self.cross_layernorm, self.post_cross_norm)
        return self.fed_forward(looked, hidden_states)
