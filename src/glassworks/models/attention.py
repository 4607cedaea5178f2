"""One mixing layer: projections, positions, a mixer, and the way back to the stream."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers.cache_utils import Cache

from glassworks.core.errors import Unavailable
from glassworks.core.text import say
from glassworks.mixers import Memory, attention_map
from glassworks.models.cache import memory_layer
from glassworks.models.positions import Rotation
from glassworks.models.spec import Projection, TransformerSpec


class Attention(nn.Module):
    """Queries, keys and values of the stream, mixed by the layer's mixer, which is the submodule `mixer`."""

    def __init__(self, spec: TransformerSpec, layer: int) -> None:
        super().__init__()
        self.sizes = spec.sizes
        self.layer = layer
        self.rotates = spec.rotates(layer)
        self.keeps_keys = spec.mixer(layer).keeps_keys
        inner, shared = (
            self.sizes.query_heads * self.sizes.head_width,
            self.sizes.kv_heads * self.sizes.head_width,
        )
        self.q_proj = _projection(spec.query, spec.width, inner, spec.bias)
        self.k_proj = _projection(spec.key, spec.width, shared, spec.bias)
        self.v_proj = _projection(spec.value, spec.width, shared, spec.bias)
        self.mixer = spec.mixer(layer).build(self.sizes)
        self.o_proj = _projection(spec.output, inner, spec.width, spec.bias)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch position width"],
        padding: Bool[Tensor, "batch key"] | None = None,
        rotation: Rotation | None = None,
        past_key_values: Cache | None = None,
        output_attentions: bool = False,
    ) -> tuple[Float[Tensor, "batch position width"], Float[Tensor, "batch head position key"] | None]:
        """The mixed stream, and the map where it is asked for; `padding` spans remembered tokens too."""
        q = self._heads(self.q_proj(hidden_states))
        k = self._heads(self.k_proj(hidden_states))
        v = self._heads(self.v_proj(hidden_states))
        if rotation is not None and self.rotates:
            q, k = rotation.turn(q), rotation.turn(k)
        memory: Memory | None = None
        if past_key_values is None:
            out = self.mixer(q, k, v, padding=padding, remember=False).out
        elif self.keeps_keys:
            known = int(past_key_values.get_seq_length(self.layer)) + q.shape[2]
            k, v = past_key_values.update(k, v, self.layer)
            # A cache of fixed size hands out its unused places too.
            k, v = k[:, :, :known], v[:, :, :known]
            out = self.mixer(q, k, v, padding=padding, remember=False).out
        else:
            place = memory_layer(past_key_values, self.layer)
            memory = place.memory
            padding = None if padding is None else padding[:, -q.shape[2] :]
            mixed = self.mixer(q, k, v, memory, padding)
            place.remember(mixed.memory, q.shape[2])
            out = mixed.out
        shown = self._map(q, k, memory, padding) if output_attentions else None
        return self.o_proj(out.transpose(1, 2).flatten(2)), shown

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.sizes.head_width)).transpose(1, 2)

    def _map(self, q: Tensor, k: Tensor, memory: Memory | None, padding: Tensor | None) -> Tensor:
        if memory is not None:
            raise Unavailable(
                say(
                    "layer {layer} remembers earlier tokens only as a sum; they have no attention map",
                    layer=self.layer,
                ),
                right=say("one pass over the whole text, without a cache"),
            )
        with torch.no_grad():
            return attention_map(self.mixer, q, k, padding)


def _projection(choice: Projection, source: int, target: int, bias: bool) -> nn.Module:
    return nn.Identity() if choice == "identity" else nn.Linear(source, target, bias=bias)
