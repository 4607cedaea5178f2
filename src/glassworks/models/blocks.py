"""One layer: mixing, then feed-forward, each added to the residual stream."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from glassworks.mixers import Gates
from glassworks.models.attention import Attention
from glassworks.models.feedforward import build_feedforward
from glassworks.models.norms import build_norm
from glassworks.models.positions import Bearings
from glassworks.models.stack import StackSpec


class Block(GradientCheckpointingLayer):
    """A layer with its norms before the parts (pre), after the sums (post), or around the parts (both); absent ones are None."""

    def __init__(self, spec: StackSpec, layer: int) -> None:
        super().__init__()
        self.stream_limit = spec.stream_limit
        self.is_post_norm = spec.norm_placement == "post"
        self.reads_block_input = spec.feedforward_reads == "block_input"
        self.residual_factor = spec.residual_factor
        self.dropout = spec.dropout
        has_both = spec.norm_placement == "both"
        self.input_layernorm = build_norm(spec)
        self.self_attn = Attention(spec, layer)
        self.post_mixing_norm = build_norm(spec) if has_both else None
        self.mlp = build_feedforward(spec, spec.feedforward_of(layer))
        self.post_attention_layernorm = None if self.mlp is None else build_norm(spec)
        self.post_feedforward_norm = build_norm(spec) if has_both and self.mlp is not None else None

    def forward(
        self,
        hidden_states: Float[Tensor, "batch position width"],
        gates: Gates | None = None,
        bearings: Bearings | None = None,
        past_key_values: Cache | None = None,
        output_attentions: bool = False,
        code: Float[Tensor, "sequence position width"] | None = None,
    ) -> Float[Tensor, "batch position width"]:
        """The stream after this layer."""

        def mix(read: Tensor) -> Tensor:
            return self.self_attn(read, gates, bearings, past_key_values, output_attentions, code)[0]

        mixed = self.with_part(hidden_states, mix, self.input_layernorm, self.post_mixing_norm)
        return self.fed_forward(mixed, hidden_states)

    def fed_forward(
        self, stream: Float[Tensor, "batch position width"], received: Float[Tensor, "batch position width"]
    ) -> Float[Tensor, "batch position width"]:
        """The stream with the feed-forward's result, where there is one, cut off at the limit; `received` is what the layer read."""
        if self.mlp is not None:
            reads = received if self.reads_block_input else None
            norms = self.post_attention_layernorm, self.post_feedforward_norm
            stream = self.with_part(stream, self.mlp, *norms, reads=reads)
        return stream if self.stream_limit is None else stream.clamp(-self.stream_limit, self.stream_limit)

    def with_part(
        self,
        stream: Float[Tensor, "batch position width"],
        part: Callable[[Tensor], Tensor],
        norm: nn.Module | None,
        result_norm: nn.Module | None = None,
        reads: Float[Tensor, "batch position width"] | None = None,
    ) -> Float[Tensor, "batch position width"]:
        """The stream with a part's result added, normalised where the spec says; the part reads the stream unless told."""
        read = stream if reads is None else reads
        if norm is not None and not self.is_post_norm:
            read = norm(read)
        result = part(read)
        if result_norm is not None:
            result = result_norm(result)
        if self.dropout and self.training:
            result = F.dropout(result, self.dropout)
        total = (stream if self.residual_factor == 1 else stream * self.residual_factor) + result
        return norm(total) if norm is not None and self.is_post_norm else total
