"""One layer: mixing, then feed-forward, each added to the residual stream."""

from jaxtyping import Float
from torch import Tensor
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from glassworks.mixers import Gates
from glassworks.mixers.rotation import Rotation
from glassworks.models.attention import Attention
from glassworks.models.feedforward import build_feedforward
from glassworks.models.norms import build_norm
from glassworks.models.spec import StackSpec


class Block(GradientCheckpointingLayer):
    """A layer with its norms before the parts (pre) or after the sums (post); absent parts are None."""

    def __init__(self, spec: StackSpec, layer: int) -> None:
        super().__init__()
        self.stream_limit = spec.stream_limit
        self.is_post_norm = spec.norm_placement == "post"
        self.reads_block_input = spec.feedforward_reads == "block_input"
        self.input_layernorm = build_norm(spec)
        self.self_attn = Attention(spec, layer)
        self.mlp = build_feedforward(spec, spec.feedforward_of(layer))
        self.post_attention_layernorm = None if self.mlp is None else build_norm(spec)

    def forward(
        self,
        hidden_states: Float[Tensor, "batch position width"],
        gates: Gates | None = None,
        rotation: Rotation | None = None,
        past_key_values: Cache | None = None,
        output_attentions: bool = False,
        code: Float[Tensor, "sequence position width"] | None = None,
    ) -> Float[Tensor, "batch position width"]:
        """The stream after this layer."""
        before = self.input_layernorm
        read = hidden_states if before is None or self.is_post_norm else before(hidden_states)
        mixed = hidden_states + self.self_attn(read, gates, rotation, past_key_values, output_attentions, code)[0]
        if before is not None and self.is_post_norm:
            mixed = before(mixed)
        return self._within_limit(mixed if self.mlp is None else self._fed_forward(hidden_states, mixed))

    def _fed_forward(self, hidden_states: Tensor, mixed: Tensor) -> Tensor:
        assert self.mlp is not None
        read, after = hidden_states if self.reads_block_input else mixed, self.post_attention_layernorm
        if after is None:
            return mixed + self.mlp(read)
        return after(mixed + self.mlp(read)) if self.is_post_norm else mixed + self.mlp(after(read))

    def _within_limit(self, stream: Tensor) -> Tensor:
        return stream if self.stream_limit is None else stream.clamp(-self.stream_limit, self.stream_limit)
