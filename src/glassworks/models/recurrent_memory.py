"""The recurrent memory model: a decoder that reads a text in segments and hands vectors from each to the next.

This file must not postpone annotations: the library reads those of a model's forward.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils.generic import merge_with_config_defaults

from glassworks.core.errors import InvalidInput, Unavailable
from glassworks.core.text import say
from glassworks.mixers import Memory
from glassworks.models.cache import MemoryLayer, memory_layer
from glassworks.models.hub import GlassworksConfig, GlassworksModel
from glassworks.models.places import padding_of
from glassworks.models.spec import RecurrentMemorySpec


@dataclass(frozen=True)
class OpenSegment(Memory):
    """What a layer keeps of the segment that is being read: keys and values of its memory and tokens, none between two."""

    keys: Float[Tensor, "batch kv_head open head_width"]
    values: Float[Tensor, "batch kv_head open value_width"]


@dataclass(frozen=True)
class RecurrentState(OpenSegment):
    """The same for the first layer, and the vectors that the open segment, or else the next one, reads."""

    vectors: Float[Tensor, "batch memory width"]


class RecurrentMemoryModel(GlassworksModel):
    """The decoder without its unembedding, run once for each segment between two copies of the memory."""

    def __init__(self, config: GlassworksConfig) -> None:
        super().__init__(config)
        assert isinstance(self.spec, RecurrentMemorySpec), "the config of a recurrent memory model"
        self.segment, self.count, self.unroll = self.spec.segment, self.spec.memory_tokens, self.spec.unroll
        self.first_memory = nn.Embedding(self.count, self.spec.width)
        self.post_init()

    @merge_with_config_defaults
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] - called by name; the rest is handed on or refused
        self,
        input_ids: Int[Tensor, "batch position"] | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Int[Tensor, "sequence position"] | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Float[Tensor, "batch position width"] | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """The stream after the last layer, at the tokens of the text alone.

        With a cache a text may come in any pieces. Padding, packed texts and maps of attention are refused.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise InvalidInput(say("a model reads either input_ids or inputs_embeds"), right=say("exactly one of them"))
        hidden = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        seen = 0 if past_key_values is None else int(past_key_values.get_seq_length())
        _refuse(attention_mask, position_ids, seen, hidden.shape[1], kwargs)
        kwargs = {name: value for name, value in kwargs.items() if name not in ("output_attentions", "written")}
        found = self._read(hidden, past_key_values, seen, kwargs)
        streams = [each.hidden_states for each in found if each.hidden_states is not None]
        return BaseModelOutputWithPast(
            last_hidden_state=torch.cat([_stream(each) for each in found], 1),
            past_key_values=past_key_values,
            hidden_states=tuple(torch.cat(same, 1) for same in zip(*streams, strict=True)) if streams else None,
        )

    def _read(
        self, hidden: Tensor, outer: Cache | None, seen: int, kwargs: dict[str, Any]
    ) -> list[BaseModelOutputWithPast]:
        """What the stack makes of the tokens, segment by segment; the state after them goes into the cache."""
        inner, vectors = self._taken_up(outer, len(hidden))
        found: list[BaseModelOutputWithPast] = []
        end = seen + hidden.shape[1]
        for begin, stop in self._pieces(seen, end):
            closes = stop % self.segment == 0
            parts = [hidden[:, begin - seen : stop - seen]]
            front = self.count if begin % self.segment == 0 else 0
            if front:
                parts.insert(0, vectors)
                inner = DynamicCache() if outer is not None and not closes else None
            hands_on = closes and (outer is not None or stop < end)
            if hands_on:
                parts.append(vectors)
            result = super().forward(
                inputs_embeds=torch.cat(parts, 1), past_key_values=inner, use_cache=inner is not None, **kwargs
            )
            if hands_on:
                vectors, inner = _stream(result)[:, front + stop - begin :], None
                if self.unroll is not None and (stop // self.segment) % self.unroll == 0:
                    vectors = vectors.detach()
            found.append(_at_tokens(result, slice(front, front + stop - begin)))
        if outer is not None:
            self._kept(outer, inner, vectors, end - seen)
        return found

    def _pieces(self, seen: int, end: int) -> list[tuple[int, int]]:
        """The new tokens by the segments that they belong to."""
        cuts = [seen, *range(seen - seen % self.segment + self.segment, end, self.segment), end]
        return list(pairwise(cuts))

    def _taken_up(self, outer: Cache | None, batch: int) -> tuple[Cache | None, Tensor]:
        """A cache for the open segment, if there is one, and the vectors that it or the next one reads."""
        state = None if outer is None else memory_layer(outer, 0).memory
        if outer is None or state is None:
            return None, self.first_memory.weight.expand(batch, -1, -1)
        if not isinstance(state, RecurrentState):
            raise InvalidInput(
                say("this cache was filled by another kind of model"),
                given=type(state).__name__,
                right=say("the cache made by DynamicCache(config=model.config)"),
            )
        if not state.keys.shape[2]:
            return None, state.vectors
        inner = DynamicCache()
        for layer in range(self.spec.depth):
            known = memory_layer(outer, layer).memory
            assert isinstance(known, OpenSegment), "all layers are kept together"
            inner.update(known.keys, known.values, layer)
        return inner, state.vectors

    def _kept(self, outer: Cache, inner: Cache | None, vectors: Tensor, tokens: int) -> None:
        sizes = self.spec.sizes
        none = vectors.new_empty(len(vectors), sizes.kv_heads, 0, sizes.head_width)
        for layer in range(self.spec.depth):
            keys, values = (none, none) if inner is None else _keys_of(inner, layer)
            place: MemoryLayer = memory_layer(outer, layer)
            memory = OpenSegment(keys, values) if layer else RecurrentState(keys, values, vectors)
            place.remember(memory, tokens)


def _keys_of(cache: Cache, layer: int) -> tuple[Tensor, Tensor]:
    held = cache.layers[layer]
    assert isinstance(held, CacheLayerMixin), "a softmax layer keeps keys and values"
    assert held.keys is not None, "the segment was read through all layers"
    assert held.values is not None, "the segment was read through all layers"
    return held.keys, held.values


def _stream(result: BaseModelOutputWithPast) -> Tensor:
    assert result.last_hidden_state is not None, "the stack returns its stream"
    return result.last_hidden_state


def _at_tokens(result: BaseModelOutputWithPast, tokens: slice) -> BaseModelOutputWithPast:
    """The streams of a segment without those of its memory."""
    streams = None if result.hidden_states is None else tuple(each[:, tokens] for each in result.hidden_states)
    return BaseModelOutputWithPast(last_hidden_state=_stream(result)[:, tokens], hidden_states=streams)


def _refuse(
    attention_mask: Tensor | None, position_ids: Tensor | None, seen: int, length: int, asked: dict[str, Any]
) -> None:
    """Raises InvalidInput or Unavailable for what a model that reads in segments cannot do."""
    if padding_of(attention_mask, seen + length) is not None:
        raise InvalidInput(
            say("a model that reads in segments cannot read padding: segments would begin elsewhere"),
            right=say("sequences of one length, or one at a time"),
        )
    if position_ids is not None and not torch.compiler.is_compiling():
        expected = torch.arange(seen, seen + length, device=position_ids.device)
        if not bool((position_ids == expected).all()):
            raise InvalidInput(
                say("places in a model that reads in segments follow from the segments"),
                right=say("no position_ids, and one text per sequence"),
            )
    if asked.get("written") is not None:
        raise InvalidInput(
            say("no memory of this model adds up, so a token cannot count several times"), right=say("written=None")
        )
    if asked.get("output_attentions"):
        raise Unavailable(
            say("a model that reads in segments has a map of each segment and its memory, none of the text"),
            right=say("output_hidden_states, or one segment through the stack alone"),
        )
