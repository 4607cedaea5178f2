"""The place of a mixer's memory in a transformers cache."""

from typing import Any, cast

import torch
from torch import Tensor
from transformers.cache_utils import (
    STATIC_LAYER_TYPE_MAPPING,
    Cache,
    CacheLayerMixin,
)

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.mixers import Memory

MEMORY_LAYER = "glassworks_memory"
KEYS_LAYER = "full_attention"


class MemoryLayer(CacheLayerMixin):
    """A cache layer that holds the memory of any mixer and counts the tokens it has read."""

    # Naming the type here enters the class in the library's table, from which `generate` makes caches.
    _layer_type = MEMORY_LAYER
    supports_early_init = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.memory: Memory | None = None
        self.tokens = 0

    def remember(self, memory: Memory | None, tokens: int) -> None:
        """Takes the memory after `tokens` further tokens."""
        self.memory = memory
        self.tokens += tokens
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to prepare: the mixer makes the memory."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Refused: keys and values are not kept here."""
        raise InvalidInput(
            say("a memory layer keeps no keys and values"),
            right=say("the cache made by DynamicCache(config=model.config)"),
        )

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Tokens a mask would span, and its offset."""
        return self.tokens + query_length, 0

    def get_seq_length(self) -> int:
        """Tokens read so far."""
        return self.tokens

    def get_max_length(self) -> int:
        """-1: a memory takes any number of tokens."""
        return -1

    def reset(self) -> None:
        """Forgets everything."""
        self.memory, self.tokens, self.is_initialized = None, 0, False

    def crop(self, tokens_to_remove: int) -> None:
        """Refused unless nothing is to be removed: a sum cannot forget single tokens."""
        if tokens_to_remove:
            raise InvalidInput(
                say("a memory cannot forget its last {tokens} tokens", tokens=abs(tokens_to_remove)),
                right=say("a softmax mixer, or reading the text again"),
            )

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Follows the beams."""
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keeps the sequences at these indices, or where the mask is True."""
        if self.memory is not None:
            self.memory = self.memory.select(indices.nonzero()[:, 0] if indices.dtype == torch.bool else indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeats each sequence."""
        if self.memory is not None:
            self.memory = self.memory.mapped(lambda tensor: tensor.repeat_interleave(repeats, 0))

    def offload(self) -> None:
        """Stays where it is: a memory has one small size."""

    def prefetch(self) -> None:
        """Stays where it is: a memory has one small size."""


def enable_static_caches() -> None:
    """Lets a cache of fixed size hold memories too; they have a fixed size anyway."""
    cast(dict[str, Any], STATIC_LAYER_TYPE_MAPPING)[MEMORY_LAYER] = MemoryLayer


def memory_layer(cache: Cache, layer: int) -> MemoryLayer:
    """The memory layer of a cache; a cache made without the model's config has none and is refused."""
    found = cache.layers[layer] if layer < len(cache.layers) else None
    if not isinstance(found, MemoryLayer):
        raise InvalidInput(
            say("layer {layer} of the cache cannot hold a memory", layer=layer),
            given=type(found).__name__,
            right=say("the cache made by DynamicCache(config=model.config)"),
        )
    return found
