"""One mixing layer: projections, positions, a mixer, and the way back to the stream."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.cache_utils import Cache

from glassworks.core.errors import Unavailable
from glassworks.core.text import say
from glassworks.mixers import Gates, Memory, Sight, attention_map
from glassworks.mixers.rotation import Rotation
from glassworks.models.cache import memory_layer
from glassworks.models.feedforward import outward_map
from glassworks.models.norms import RootMeanSquareNorm
from glassworks.models.positions import Bearings, Distances, sinusoids
from glassworks.models.stack import Projection, StackSpec

# Where gates start: a memory that keeps 1 - 1/150 of itself from token to token, pairs written at half strength.
KEEP_START, WRITE_START = 5.0, 0.0


class GateProjection(nn.Module):
    """One number in (0, 1) per token and key-value head: the sigmoid of a linear map of the stream."""

    def __init__(self, width: int, kv_heads: int, start: float) -> None:
        super().__init__()
        self.proj = nn.Linear(width, kv_heads)
        self.start = start

    def forward(self, hidden_states: Float[Tensor, "batch position width"]) -> Float[Tensor, "batch kv_head position"]:
        """The gates, in float32 at least: near 1 a coarser format has too few steps."""
        precise = self.proj(hidden_states).to(torch.promote_types(hidden_states.dtype, torch.float32))
        return torch.sigmoid(precise + self.start).transpose(1, 2)


class Attention(nn.Module):
    """Queries, keys and values of the stream, mixed by the layer's mixer, which is the submodule `mixer`."""

    def __init__(self, spec: StackSpec, layer: int) -> None:
        super().__init__()
        self.sizes = spec.sizes_of(layer)
        # Named as in transformers: which slot of a cache is its own. A plan that runs a layer twice gives it two.
        self.layer_idx = layer
        self.rotates = spec.rotates(layer)
        self.normalises = spec.normalises(layer)
        self.reads_code = spec.reads_code(layer)
        self.keeps_keys = spec.mixer(layer).keeps_keys
        self.adds_up = spec.mixer(layer).adds_up
        inner, shared = (
            self.sizes.query_heads * self.sizes.head_width,
            self.sizes.kv_heads * self.sizes.head_width,
        )
        source = 2 * spec.width if self.reads_code else spec.width
        bias = spec.bias if spec.query_bias is None else spec.query_bias
        self.q_proj = _projection(spec.query, source, inner, bias)
        self.k_proj = _projection(spec.key, source, shared, bias)
        self.v_proj = _projection(spec.value, spec.width, shared, bias)
        has_gains = self.normalises and spec.query_key_norm == "rms"
        self.q_norm, self.k_norm = (
            RootMeanSquareNorm(self.sizes.head_width, spec.norm_epsilon) if has_gains else None for _ in "qk"
        )
        self.distance_proj: nn.Linear | None = None
        if spec.positions == "relative_xl":
            self.distance_proj = nn.Linear(spec.width, inner, bias=False)
            self.content_bias = nn.Parameter(torch.empty(self.sizes.query_heads, self.sizes.head_width))
            self.distance_bias = nn.Parameter(torch.empty(self.sizes.query_heads, self.sizes.head_width))
        names = spec.mixer(layer).gate_names
        self.keep_proj = GateProjection(spec.width, self.sizes.kv_heads, KEEP_START) if "keep" in names else None
        self.write_proj = GateProjection(spec.width, self.sizes.kv_heads, WRITE_START) if "write" in names else None
        self.mixer = spec.mixer(layer).build(self.sizes)
        self.head_norm = RootMeanSquareNorm(self.sizes.head_width, spec.norm_epsilon) if spec.head_norm else None
        self.o_proj = outward_map(spec, inner) if spec.output == "learned" else nn.Identity()

    def forward(
        self,
        hidden_states: Float[Tensor, "batch position width"],
        gates: Gates | None = None,
        bearings: Bearings | None = None,
        past_key_values: Cache | None = None,
        output_attentions: bool = False,
        code: Float[Tensor, "sequence position width"] | None = None,
    ) -> tuple[Float[Tensor, "batch position width"], Float[Tensor, "batch head position key"] | None]:
        """The mixed stream, and the map where it is asked for; `gates.real` spans remembered tokens too."""
        q, k, v = self._read(hidden_states, bearings, code)
        if self.distance_proj is not None:
            q, gates = self._by_distance(q, bearings, gates)
        memory: Memory | None = None
        if past_key_values is None:
            gates = self._gates(hidden_states, gates)
            out = self.mixer(q, k, v, gates=gates, remember=False).out
        elif self.keeps_keys:
            gates = self._gates(hidden_states, gates)
            known = int(past_key_values.get_seq_length(self.layer_idx)) + q.shape[2]
            k, v = past_key_values.update(k, v, self.layer_idx)
            # A cache of fixed size hands out its unused places too.
            k, v = k[:, :, :known], v[:, :, :known]
            out = self.mixer(q, k, v, gates=gates, remember=False).out
        else:
            place = memory_layer(past_key_values, self.layer_idx)
            memory = place.memory
            gates = self._gates(hidden_states, None if gates is None else gates.last(q.shape[2]))
            mixed = self.mixer(q, k, v, memory, gates)
            place.remember(mixed.memory, q.shape[2])
            out = mixed.out
        shown = self._map(q, k, memory, gates) if output_attentions else None
        out = out.transpose(1, 2)
        if self.head_norm is not None:
            out = self.head_norm(out)
        return self.o_proj(out.flatten(2)), shown

    def _read(
        self, hidden_states: Tensor, bearings: Bearings | None, code: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the stream, by heads."""
        source = hidden_states
        if self.reads_code:
            assert code is not None, "the stack gives the position code to the layer that reads it"
            code = code.to(hidden_states.dtype).expand(hidden_states.shape[0], -1, -1)
            source = torch.cat([hidden_states, code], -1)
        q, k = self._heads(self.q_proj(source)), self._heads(self.k_proj(source))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if isinstance(bearings, Rotation) and self.rotates:
            q, k = bearings.turn(q), bearings.turn(k)
        if self.normalises and self.q_norm is None:
            # A rotation changes no length.
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        return q, k, self._heads(self.v_proj(hidden_states))

    def _by_distance(self, q: Tensor, bearings: Bearings | None, gates: Gates | None) -> tuple[Tensor, Gates]:
        """Queries that read contents, and what distances add to their scores: (q + u) k + (q + v) W r (Transformer-XL)."""
        assert self.distance_proj is not None, "asked for only where it is there"
        assert isinstance(bearings, Distances), "the stack gives distances to layers that score them"
        between, known = bearings.between, bearings.between.shape[2]
        nearest = 1 - known if bearings.both_ways else 0
        # Once for each distance that can occur, then handed out to the pairs; who looks back alone needs no others.
        between = between if bearings.both_ways else between.clamp(min=0)
        code = sinusoids(torch.arange(nearest, known, device=q.device), self.distance_proj.in_features)
        rows = self.distance_proj(code.to(q.dtype)).unflatten(-1, (-1, self.sizes.head_width)).permute(1, 2, 0)
        scores = self.sizes.scale * ((q + self.distance_bias[:, None]) @ rows)
        place = (between - nearest)[:, None].expand(len(q), q.shape[1], -1, -1)
        gates = Gates() if gates is None else gates
        sight = replace(gates.sight or Sight(), bias=scores.gather(-1, place))
        return q + self.content_bias[:, None], replace(gates, sight=sight)

    def _gates(self, hidden_states: Tensor, given: Gates | None) -> Gates | None:
        """What is known of the tokens from outside, and what the layer finds in the stream."""
        if given is not None and given.write is not None and not self.adds_up:
            # How many times a token counts is a question for memories that add up only.
            given = replace(given, write=None)
        if self.keep_proj is None and self.write_proj is None:
            return given
        given = Gates() if given is None else given
        keep = None if self.keep_proj is None else self.keep_proj(hidden_states)
        write = given.write
        if self.write_proj is not None:
            found = self.write_proj(hidden_states)
            write = found if write is None else found * write
        return replace(given, keep=keep, write=write)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.sizes.head_width)).transpose(1, 2)

    def _map(self, q: Tensor, k: Tensor, memory: Memory | None, gates: Gates | None) -> Tensor:
        if memory is not None:
            raise Unavailable(
                say(
                    "layer {layer} remembers earlier tokens only as a sum; they have no attention map",
                    layer=self.layer_idx,
                ),
                right=say("one pass over the whole text, without a cache"),
            )
        with torch.no_grad():
            return attention_map(self.mixer, q, k, gates)


def _projection(choice: Projection, source: int, target: int, bias: bool) -> nn.Module:
    return nn.Identity() if choice == "identity" else nn.Linear(source, target, bias=bias)
