"""How many numbers a model keeps of what it has read: counted by formula, and in a live model (infini.md 1.1, 1.2)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache, CacheLayerMixin

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.mixers import (
    Infini,
    InfiniMemory,
    Linear,
    Local,
    Memorizing,
    Memory,
    Mesa,
    SlidingWindow,
    TransformerXL,
)
from glassworks.mixers.linear import KeyValueSum
from glassworks.mixers.memorizing import MemorizingMemory
from glassworks.mixers.mesa import NormalEquations
from glassworks.mixers.recurrent import RecurrentMemory
from glassworks.mixers.segments import SegmentMemory
from glassworks.mixers.softmax import KeyValues
from glassworks.mixers.window import WindowMemory
from glassworks.models.cache import MemoryLayer
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.models.recurrent_memory import OpenSegment, RecurrentState
from glassworks.models.spec import RecurrentMemorySpec, TransformerSpec


@dataclass(frozen=True)
class StackSizes:
    """The sizes in which the table of architectures is written; those of the paper unless given."""

    layers: int = 12
    heads: int = 8
    key_width: int = 128
    value_width: int = 128
    segment: int = 2048
    """Tokens of a segment."""
    width: int = 1024
    """Numbers in the residual stream."""

    @property
    def pair(self) -> int:
        """Numbers of one token's key and value in all heads of a layer."""
        return (self.key_width + self.value_width) * self.heads

    @property
    def in_progress(self) -> int:
        """Keys and values of a segment that is being read, at its last token; of all layers."""
        return self.pair * self.segment * self.layers


@dataclass(frozen=True)
class Footprint:
    """What an architecture keeps across segments, and how far back its tokens reach."""

    values: int
    """Numbers kept, for one text."""
    reach: int | None
    """Tokens; None: as many as were read."""

    def times_less_than(self, other: "Footprint") -> float:
        """How many times more the other one keeps."""
        return other.values / self.values


# infini.md 1.2: pairs of the searched memory, and vectors handed from segment to segment.
PAPER, STORED, VECTORS = StackSizes(), 65_000, 100


def transformer_xl(sizes: StackSizes) -> Footprint:
    """Keys and values of the last segment in every layer; each layer reaches one segment further back."""
    return Footprint(sizes.pair * sizes.segment * sizes.layers, sizes.segment * sizes.layers)


def compressive(sizes: StackSizes, compressed: int, rate: int) -> Footprint:
    """Streams of the last segment, and of `compressed` vectors that stand for `rate` tokens each, in every layer."""
    kept = sizes.width * (compressed + sizes.segment) * sizes.layers
    return Footprint(kept, (compressed * rate + sizes.segment) * sizes.layers)


def memorizing(sizes: StackSizes, stored: int) -> Footprint:
    """`stored` pairs in one layer, beside the last segment in every layer."""
    return Footprint(sizes.pair * stored + transformer_xl(sizes).values, stored)


def recurrent_memory(sizes: StackSizes, vectors: int) -> Footprint:
    """Keys and values of `vectors` memory tokens in every layer, as the table counts them.

    What is handed from segment to segment is only the vectors of the stream, width times their number.
    """
    return Footprint(sizes.width * vectors * sizes.layers * 2, None)


def auto_compressors(sizes: StackSizes, vectors: int, steps: int) -> Footprint:
    """`vectors` summary tokens of each of the last `steps` segments and the present one, in every layer."""
    return Footprint(sizes.width * vectors * (steps + 1) * sizes.layers, None)


def infini(sizes: StackSizes) -> Footprint:
    """A matrix and a normaliser per head and layer, whatever was read."""
    return Footprint(sizes.key_width * (sizes.value_width + 1) * sizes.heads * sizes.layers, None)


def full_cache(sizes: StackSizes, tokens: int) -> Footprint:
    """Keys and values of all tokens in every layer."""
    return Footprint(sizes.pair * tokens * sizes.layers, tokens)


def paper_table() -> Mapping[str, Footprint]:
    """The models of the paper's language modelling table and what stands behind its ratios, by name."""
    return {
        "Transformer-XL": transformer_xl(PAPER),
        "Memorizing Transformers": memorizing(PAPER, STORED),
        "RMT": recurrent_memory(PAPER, VECTORS),
        "Infini-Transformer": infini(PAPER),
    }


@dataclass(frozen=True)
class MemoryValues:
    """Numbers that one text occupies in a model's memories after some of its tokens."""

    kept: int
    """Of closed segments, or of all that was read where there are none."""
    in_progress: int
    """Keys and values of the segment that is being read."""
    beside: int = 0
    """Exponents, counts of tokens, and the vectors that a recurrent memory repeats behind its segment."""

    def __add__(self, other: "MemoryValues") -> "MemoryValues":
        return MemoryValues(
            self.kept + other.kept, self.in_progress + other.in_progress, self.beside + other.beside
        )  # fmt: skip


def memory_values(spec: TransformerSpec, tokens: int) -> MemoryValues:
    """By formula: what a model of this spec keeps after so many tokens. `beside` is not counted."""
    total = MemoryValues(0, 0)
    for layer in range(spec.depth):
        total = total + _of_layer(spec, layer, tokens)
    return total


def _of_layer(spec: TransformerSpec, layer: int, tokens: int) -> MemoryValues:
    sizes = spec.sizes_of(layer)
    width, heads = sizes.head_width, sizes.kv_heads
    pair = 2 * width * heads
    if isinstance(spec, RecurrentMemorySpec):
        is_open = tokens % spec.segment > 0
        return MemoryValues(pair * spec.memory_tokens * is_open, pair * (tokens % spec.segment))
    match spec.mixer(layer):
        case Infini(segment=segment):
            return MemoryValues(width * (width + 1) * heads, pair * (tokens % segment))
        case Local(segment=segment):
            return MemoryValues(0, pair * (tokens % segment))
        case TransformerXL(segment=segment, segments=segments):
            return MemoryValues(pair * segment * min(segments, tokens // segment), pair * (tokens % segment))
        case Memorizing(segment=segment, capacity=capacity):
            closed = tokens // segment
            stored = min(capacity, max(0, closed - 1) * segment)
            return MemoryValues(pair * (stored + min(1, closed) * segment), pair * (tokens % segment))
        case SlidingWindow(window=window, sinks=sinks):
            return MemoryValues(pair * min(tokens, sinks + window - 1), 0)
        case Linear():
            return MemoryValues(width * width * heads, 0)
        case Mesa():
            return MemoryValues(2 * width * width * heads, 0)
        case _:
            return MemoryValues(pair * tokens, 0)


def measured_values(model: GlassworksForCausalLM, tokens: int) -> MemoryValues:
    """Counted: what a live model holds after reading so many tokens, its first token again and again."""
    device = next(model.parameters()).device
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(torch.zeros(1, tokens, dtype=torch.long, device=device), past_key_values=cache, use_cache=True)
    return values_of(cache, model.config.decoder_spec)


def values_of(cache: Cache, spec: TransformerSpec) -> MemoryValues:
    """Counted: what a cache holds for each of its sequences."""
    total = MemoryValues(0, 0)
    for place in cache.layers:
        if isinstance(place, MemoryLayer):
            total = total + _held(place.memory, spec)
        elif isinstance(place, CacheLayerMixin) and place.keys is not None and place.values is not None:
            total = total + MemoryValues((place.keys[0].numel() + place.values[0].numel()), 0)
    return total


# Which fields of a memory are kept across segments, and which belong to the segment in progress; the rest stands beside.
_FIELDS: Mapping[type[Memory], tuple[tuple[str, ...], tuple[str, ...]]] = {
    InfiniMemory: (("total", "normaliser"), ("keys", "values")),
    SegmentMemory: ((), ("keys", "values")),
    RecurrentMemory: (("past_keys", "past_values"), ("keys", "values")),
    MemorizingMemory: (("past_keys", "past_values", "stored_keys", "stored_values"), ("keys", "values")),
    WindowMemory: (("keys", "values"), ()),
    KeyValues: (("keys", "values"), ()),
    KeyValueSum: (("total",), ()),
    NormalEquations: (("normal", "cross"), ()),
    OpenSegment: ((), ("keys", "values")),
    RecurrentState: ((), ("keys", "values")),
}


def _held(memory: Memory | None, spec: TransformerSpec) -> MemoryValues:
    if memory is None:
        return MemoryValues(0, 0)
    if type(memory) not in _FIELDS:
        raise InvalidInput(
            say("it is not known which numbers of {memory} are kept across segments", memory=type(memory).__name__),
            right=say("a memory of one of the mixers here"),
        )
    numbers = {name: x[0].numel() for name, x in memory.__dict__.items() if isinstance(x, torch.Tensor)}
    kept, own = (sum(numbers.pop(name, 0) for name in names) for names in _FIELDS[type(memory)])
    if isinstance(memory, OpenSegment) and isinstance(spec, RecurrentMemorySpec) and memory.keys.shape[2]:
        # The memory that the segment reads stands before its tokens.
        read = own * spec.memory_tokens // memory.keys.shape[2]
        kept, own = kept + read, own - read
    return MemoryValues(kept, own, sum(numbers.values()))
