"""What stands around the layers of every stack: embeddings made ready, places, what is seen, and the norm at the end."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.cache_utils import Cache

from glassworks.mixers import Gates, Sight
from glassworks.models.norms import build_norm
from glassworks.models.positions import Bearings, Distances, Places, PositionTable, RelativeBias, alibi, rotation_at
from glassworks.models.stack import StackSpec


@dataclass(frozen=True)
class Passage:
    """The tokens of one call: where they stand, which are real, which begin a text, and what they may see."""

    places: Places
    real: Bool[Tensor, "batch key"] | None = None
    """True at real tokens, remembered ones included; None where all are."""
    starts: Bool[Tensor, "batch key"] | None = None
    """True where a new text begins; None: nowhere."""
    written: Float[Tensor, "batch position"] | None = None
    """How many times each token counts in memories that add up; None: once."""
    ahead: bool = False
    """Whether every token sees every other, as in an encoder."""
    prefix: Int[Tensor, " batch"] | None = None
    """Real tokens at the beginning of each sequence that see each other both ways; None: none."""


class LayerStack(nn.Module):
    """Layers and what stands around them, for decoders and encoders alike; the tokens' vectors are given.

    A class takes it as a further base, calls `add_layers` in its own `__init__`, and `run` in its forward.
    """

    spec: StackSpec
    embed_positions: PositionTable | None
    embed_norm: nn.Module | None
    relative_bias: RelativeBias | None
    layers: nn.ModuleList
    norm: nn.Module | None

    def add_layers(self, spec: StackSpec, layers: Iterable[nn.Module], ahead: bool = False) -> None:
        """Makes the parts; `ahead` where tokens see later ones, so that a relative bias tells both sides apart."""
        self.embed_positions = PositionTable(spec) if spec.has_table else None
        self.embed_norm = build_norm(spec) if spec.embedding_norm else None
        self.relative_bias = RelativeBias(spec, ahead) if spec.positions == "relative_bias" else None
        self.layers = nn.ModuleList(layers)
        self.norm = build_norm(spec) if spec.has_final_norm else None

    def run(
        self,
        embedded: Float[Tensor, "batch position width"],
        passage: Passage,
        past_key_values: Cache | None = None,
        output_attentions: bool = False,
        **further: Any,
    ) -> Float[Tensor, "batch position width"]:
        """The stream after the last layer and its norm; `further` goes to every layer as it is."""
        hidden, code = self.entered(embedded, passage.places)
        gates, bearings = self.guided(hidden, passage)
        for layer in self.layers:
            hidden = layer(
                hidden,
                gates=gates,
                bearings=bearings,
                past_key_values=past_key_values,
                output_attentions=output_attentions,
                code=code,
                **further,
            )
        return hidden if self.norm is None else self.norm(hidden)

    def entered(
        self, embedded: Float[Tensor, "batch position width"], places: Places
    ) -> tuple[Float[Tensor, "batch position width"], Float[Tensor, "sequence position width"] | None]:
        """What the first layer receives, and the position code where it is set beside the stream.

        In the order of 2017 and of BERT: factor, places, norm, dropout.
        """
        spec, hidden, code = self.spec, embedded, None
        if spec.embedding_factor != 1:
            hidden = hidden * spec.embedding_factor
        if self.embed_positions is not None:
            table = self.embed_positions(places.within(spec.position_period, hidden.device))
            if spec.positions == "concatenated":
                code = table
            else:
                hidden = hidden + table
        if self.embed_norm is not None:
            hidden = self.embed_norm(hidden)
        if spec.dropout and self.training:
            hidden = F.dropout(hidden, spec.dropout)
        return hidden, code

    def guided(
        self, hidden: Float[Tensor, "batch position width"], passage: Passage
    ) -> tuple[Gates | None, Bearings | None]:
        """What the layers are told of the tokens: gates with what is seen, and rotation or distances."""
        spec, bearings, bias = self.spec, None, None
        if spec.positions == "rotary":
            bearings = rotation_at(passage.places, spec, hidden.device)
        elif spec.has_relative_places:
            between = _between(passage, hidden.device)
            match spec.positions:
                case "relative_xl":
                    bearings = Distances(between, passage.ahead or passage.prefix is not None)
                case "alibi":
                    bias = alibi(spec.heads, between).to(hidden.dtype)
                case _:
                    assert self.relative_bias is not None, "made with the layers"
                    bias = self.relative_bias(between).to(hidden.dtype)
        sight = None
        if passage.ahead or passage.prefix is not None or bias is not None:
            sight = Sight(passage.ahead, passage.prefix, bias)
        # One strength per token serves all key-value heads.
        written = passage.written
        write = None if written is None else written[:, None].expand(-1, spec.sizes.kv_heads, -1)
        if passage.real is None and passage.starts is None and write is None and sight is None:
            return None, bearings
        return Gates(passage.real, None, write, passage.starts, sight), bearings


def _between(passage: Passage, device: torch.device) -> Int[Tensor, "sequence query key"]:
    """Real tokens from each key to each query, remembered keys included."""
    known = passage.places.start + passage.places.length
    ranks = torch.arange(known, device=device)[None]
    if passage.real is not None:
        ranks = passage.real.long().cumsum(1)
    return ranks[:, passage.places.start :, None] - ranks[:, None, :]
