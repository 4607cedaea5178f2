"""Key-value caches under a plan: one slot for every execution of a layer (painters.md 3 and 6.3)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal, cast
from weakref import WeakSet

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, EncoderDecoderCache

from glassworks.anatomy.calls import Arguments, Keywords
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say

CacheMode = Literal["exact", "mean"]


def cache_of(args: Arguments, kwargs: Keywords) -> Cache | None:
    """The cache among a layer's arguments, whatever its keyword is called."""
    return next((value for value in (*args, *kwargs.values()) if isinstance(value, Cache)), None)


def without_cache(args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords]:
    """The same arguments with no cache."""

    def bare(value: Any) -> Any:
        return None if isinstance(value, Cache) else value

    return tuple(bare(value) for value in args), {name: bare(value) for name, value in kwargs.items()}


class Layout:
    """Lays out caches for a sequence of executions: slot e is of the kind that the layer run at e needs.

    A cache is laid out once, while it is empty, and then belongs to this plan; one that was filled elsewhere is refused.
    """

    def __init__(self, executions: Sequence[int]) -> None:
        self._executions = executions
        self._known: WeakSet[Cache] = WeakSet()

    def prepare(self, cache: Cache) -> None:
        """Lays out a new cache; InvalidInput for one that holds tokens read under another plan."""
        if cache in self._known:
            return
        if int(cache.get_seq_length()) > 0:
            raise InvalidInput(
                say("this cache was filled under another plan"), right=say("a new cache for each plan, or none")
            )
        parts = [cache]
        if isinstance(cache, EncoderDecoderCache):
            parts = [cache.self_attention_cache, cache.cross_attention_cache]
            cache.is_updated = {slot: False for slot in range(len(self._executions))}
        for part in parts:
            # A cache without typed slots grows by itself, one slot for each new number.
            if part.layers:
                part.layers = [copy.deepcopy(part.layers[layer]) for layer in self._executions]
        self._known.add(cache)


class SlotNumbers:
    """Tells a layer's attention modules which cache slot is theirs for the length of one execution."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._modules = [
            [module for module in layer.modules() if isinstance(vars(module).get("layer_idx"), int)] for layer in layers
        ]
        self._own = [[int(vars(module)["layer_idx"]) for module in modules] for modules in self._modules]

    def assign(self, layer: int, slot: int) -> None:
        """Sends the layer's keys and values to a slot."""
        for module in self._modules[layer]:
            cast(Any, module).layer_idx = slot

    def restore(self) -> None:
        """Gives every module its own number back."""
        for modules, own in zip(self._modules, self._own, strict=True):
            for module, number in zip(modules, own, strict=True):
                cast(Any, module).layer_idx = number


def average_newest(cache: Cache, slots: Sequence[int], tokens: int) -> None:
    """Replaces the newest `tokens` keys and values of several slots by their mean, as the published code does.

    The published code keeps one averaged key and value for a whole parallel set (painters.md 2); here every member
    keeps a slot, and all slots hold the average.
    """
    parts = [cache.self_attention_cache] if isinstance(cache, EncoderDecoderCache) else [cache]
    for part in parts:
        chosen: list[Any] = [part.layers[slot] for slot in slots]
        for name in ("keys", "values"):
            newest = [cast(Tensor, vars(slot)[name])[..., -tokens:, :] for slot in chosen]
            if any(tensor.shape != newest[0].shape for tensor in newest):
                raise InvalidInput(
                    say("the averaged cache needs parallel layers with keys of one shape"),
                    right=say("the exact cache"),
                )
            average = torch.stack([tensor.float() for tensor in newest]).mean(0).to(newest[0].dtype)
            for tensor in newest:
                tensor.copy_(average)
