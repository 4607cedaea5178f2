"""A decoder as plain values: its spec and its weights under our names, for programs that need nothing else of it.

What `FastDecoder` and a model of two files can run: softmax attention in every layer, learned maps, any norm and feed-forward,
positions of a table, of a rotation (also a stretched one), of slopes, or none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.mixers import Softmax
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.models.positions import PositionTable, scaled_speeds
from glassworks.models.spec import RecurrentMemorySpec, TransformerSpec


@dataclass(frozen=True, eq=False)
class PlainDecoder:
    """A decoder of softmax attention: `state` holds its weights as [output, input], `table` its positions where it has one."""

    spec: TransformerSpec
    state: Mapping[str, Tensor] = field(repr=False)
    table: Float[Tensor, "position width"] | None = field(repr=False)

    @property
    def unembedding(self) -> Float[Tensor, "token width"]:
        """The map to logits, which may be the embedding."""
        embedding = self.state["model.embed_tokens.weight"]
        return embedding if self.spec.tie_output else self.state.get("lm_head.weight", embedding)

    @property
    def longest(self) -> int | None:
        """Tokens after which a table ends; None where positions never do."""
        return None if self.table is None else self.table.shape[0] - self.spec.position_offset


def plain_of(model: nn.Module) -> PlainDecoder:
    """A model as plain values, without copying what need not be; InvalidInput says which part is out of the ordinary."""
    if isinstance(model, GlassworksForCausalLM):
        spec, state = model.config.decoder_spec, dict(model.state_dict())
    else:
        spec, state = _of_family(model)
    reason = why_not_plain(spec)
    if reason is not None:
        raise InvalidInput(
            reason, right=say("softmax attention in every layer, learned maps, positions of a table, rotary or alibi")
        )
    table = state.get("model.embed_positions.weight")
    if table is None and isinstance(model, GlassworksForCausalLM):
        places = model.model.embed_positions
        # A sinusoidal table is no part of the checkpoint.
        table = places.weight if isinstance(places, PositionTable) else None
    return PlainDecoder(spec, state, table)


def _of_family(model: nn.Module) -> tuple[TransformerSpec, Mapping[str, Tensor]]:
    from glassworks.models.weights import FAMILIES

    for family in FAMILIES:
        if (
            isinstance(model, PreTrainedModel)
            and type(model.config) is family.config
            and family.classes.get(type(model)) is GlassworksForCausalLM
        ):
            spec = cast(TransformerSpec, family.spec_of(model.config))
            return spec, family.to_ours(dict(model.state_dict()), spec)
    raise InvalidInput(
        say("{kind} is not a decoder that is known here part by part", kind=type(model).__name__),
        right=say("a decoder of ours, or a language model of one of the families that `glassworks presets` lists"),
    )


def why_not_plain(spec: object) -> Text | None:
    """The part of a spec that a plain decoder does not have; None where it has all of them."""
    if not isinstance(spec, TransformerSpec):
        return say("it is no decoder of tokens")
    learned = {spec.query, spec.key, spec.value, spec.output} == {"learned"}
    positions = ("none", "learned", "random", "sinusoidal", "rotary", "alibi")
    conditions = (
        (not isinstance(spec, RecurrentMemorySpec), say("it hands a memory from segment to segment")),
        (spec.reads == "past", say("it reads the beginning both ways")),
        (all(isinstance(mixer, Softmax) for mixer in spec.mixers), say("its attention is not softmax")),
        (learned, say("it has projections that are the identity")),
        (spec.positions in positions, say("its positions are {positions}", positions=spec.positions)),
        (spec.position_period is None, say("its table of positions begins again")),
        (spec.depth > 0, say("it has no layers")),
    )
    return next((reason for holds, reason in conditions if not holds), None)


def speeds_of(spec: TransformerSpec) -> Float[Tensor, " pair"]:
    """Radians by which each pair of a head's numbers is turned from one token to the next, in float32."""
    if spec.rotary_scaling is not None:
        return scaled_speeds(spec.rotary_scaling, spec.width_turned, spec.rotary_base)
    return spec.rotary_base ** -(torch.arange(0, spec.width_turned, 2, dtype=torch.float32) / spec.width_turned)
