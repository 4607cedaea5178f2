"""The parts of a transformer, and `find_anatomy`, which finds them by watching one pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn

from glassworks.anatomy.fused import key_value_heads
from glassworks.anatomy.offloaded import runs_on
from glassworks.core.errors import StrangeModel
from glassworks.core.text import Text, say


@dataclass(frozen=True)
class Turn:
    """Which call of a module that is called more than once: the n-th (from 0) inside one call of `within`."""

    within: str
    number: int


@dataclass(frozen=True)
class Tap:
    """A place to listen: what goes into or comes out of one module; `turn` only where it is called repeatedly."""

    side: Literal["in", "out"]
    path: str
    turn: Turn | None = None


@dataclass(frozen=True)
class CrossPlaces:
    """The attention of a decoder layer to what the encoder read; fields as in `LayerPlaces`."""

    path: str | None
    norm: str | None
    mid_is_sum: bool
    attention: str
    heads: int
    kv_heads: int
    head_width: int

    @property
    def kv_head_of(self) -> tuple[int, ...]:
        """The key-value head that each query head reads."""
        return key_value_heads(self.heads, self.kv_heads)


@dataclass(frozen=True)
class LayerPlaces:
    """The parts of one layer, as module paths.

    `mixer` is the submodule that mixes positions, mostly attention; `taps` says where each site of the layer
    is read ("mixer.in", "mixer.out", "mid", "cross.in|out|mid", "feedforward.in|out|pre|post"); `missing`
    says why a site is not there. `mid_is_sum` is true where the stream between the halves is in + mixer.out
    (pre-norm) and false where it is that sum after a norm (post-norm). `attention` is "sdpa", "softmax" (the
    model computes its map), "linear" (a mixer linear in its values), "packed" (torch.nn.MultiheadAttention)
    or "none".
    """

    path: str
    mixer: str | None
    mixer_norm: str | None
    feedforward: tuple[str, ...]
    feedforward_norm: str | None
    taps: Mapping[str, Tap]
    missing: Mapping[str, Text]
    mid_is_sum: bool
    attention: str
    value_linear: str | None
    heads: int
    kv_heads: int
    head_width: int
    causal: bool
    cross: CrossPlaces | None = None

    @property
    def kv_head_of(self) -> tuple[int, ...]:
        """The key-value head that each query head reads: as many values as heads, numbers below `kv_heads`."""
        return key_value_heads(self.heads, self.kv_heads)


@dataclass(frozen=True)
class Encoder:
    """The stack of an encoder-decoder that reads the source; fields as in `Anatomy`."""

    stack: str
    layers: tuple[LayerPlaces, ...]
    embedding: str
    positions: str | None
    norm: str | None
    taps: Mapping[str, Tap]
    vocabulary: int
    context: int | None


@dataclass(frozen=True)
class Anatomy:
    """Where a transformer keeps its parts; every path names a module of the untouched model.

    `readout` are the modules that turn the last layer's output into logits, in order (`readout_exact` says
    whether calling them one after the other gives the model's logits bit for bit); with `tied_head` the
    logits are the inner products with the token embedding and no module computes them; the stream is
    multiplied by `head_scale` before the head. Of an encoder-decoder
    these are the decoder's, and `encoder` holds the other stack; `has_source` is true where the model reads
    two texts. `answers_once`: the answer is one row of labels for a whole text. `taps` says where "embed",
    "positions" and "norm.out" are read.
    """

    stack: str
    layers: tuple[LayerPlaces, ...]
    embedding: str
    positions: str | None
    norm: str | None
    head: str | None
    readout: tuple[str, ...]
    readout_exact: bool
    tied_head: bool
    width: int
    vocabulary: int
    feedforward_width: int | None
    context: int | None
    taps: Mapping[str, Tap]
    head_scale: float = 1.0
    has_source: bool = False
    encoder: Encoder | None = None
    answers_once: bool = False
    notes: tuple[Text, ...] = field(default=())

    @property
    def stacks(self) -> Mapping[str, tuple[str, ...]]:
        """The module paths of the layers of each stack, in order.

        One stack is called "layers"; an encoder-decoder has "encoder" and "decoder", and `layers`, `norm` and
        `head` are the decoder's.
        """
        own = tuple(layer.path for layer in self.layers)
        if self.encoder is None:
            return {"layers": own}
        return {"encoder": tuple(layer.path for layer in self.encoder.layers), "decoder": own}

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.layers)

    @property
    def causal(self) -> bool:
        """Whether no layer looks ahead."""
        return all(layer.causal for layer in self.layers)

    @property
    def heads(self) -> int:
        """Query heads of the layer that has most."""
        return max(layer.heads for layer in self.layers)

    def rows(self) -> list[tuple[Text, str]]:
        """What was found, one line a part, for a report."""
        shapes = [f"{layer.heads}, {layer.kv_heads}, {layer.head_width}" for layer in self.layers]
        crossed = [(layer.cross.path,) if layer.cross and layer.cross.path else () for layer in self.layers]
        return [
            *self._encoder_rows(),
            (say("layers"), f"{self.depth} ({self.stack})"),
            (say("width"), str(self.width)),
            (say("vocabulary"), str(self.vocabulary)),
            (say("longest sequence"), str(self.context) if self.context else "-"),
            (say("query heads, key-value heads, head width"), _alike(shapes)),
            (say("attention, as computed"), _alike([layer.attention for layer in self.layers])),
            (say("looks ahead"), str(say("no")) if self.causal else str(say("yes"))),
            (say("token embedding"), self.embedding),
            (say("position embedding"), self.positions or "-"),
            (say("attention"), _everywhere(self.layers, [(x.mixer,) if x.mixer else () for x in self.layers])),
            *([(say("attention to the source"), _everywhere(self.layers, crossed))] if any(crossed) else []),
            (say("feed-forward"), _everywhere(self.layers, [layer.feedforward for layer in self.layers])),
            (say("final norm"), self.norm or "-"),
            (say("head"), self.head or (self.embedding if self.tied_head else "-")),
        ]

    def _encoder_rows(self) -> list[tuple[Text, str]]:
        if self.encoder is None:
            return []
        layers = self.encoder.layers
        return [
            (say("encoder layers"), f"{len(layers)} ({self.encoder.stack})"),
            (say("encoder attention"), _everywhere(layers, [(x.mixer,) if x.mixer else () for x in layers])),
            (say("encoder feed-forward"), _everywhere(layers, [layer.feedforward for layer in layers])),
        ]

    def __str__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self.rows())


def _everywhere(layers: Sequence[LayerPlaces], paths: Sequence[Sequence[str]]) -> str:
    """The modules of each layer with `{i}` for its number; layers that differ are listed by kind."""
    kinds = [
        ", ".join(_numberless(path, layer.path) for path in found) or "-"
        for layer, found in zip(layers, paths, strict=True)
    ]
    if len(set(kinds)) == 1 and kinds[0] != "-":
        return str(say("{path} (all {count})", path=kinds[0], count=len(layers))) if len(layers) > 1 else kinds[0]
    return _alike(kinds)


def _numberless(path: str, layer: str) -> str:
    """`model.layers.{i}.mlp` for the module of one layer; a path outside the layer stays as it is."""
    stack, _, _ = layer.rpartition(".")
    return f"{stack}.{{i}}{path.removeprefix(layer)}" if path.startswith(f"{layer}.") else path


def _alike(kinds: Sequence[str]) -> str:
    """What all layers have, once; otherwise each kind with the numbers of its layers."""
    places: dict[str, list[int]] = {}
    for number, kind in enumerate(kinds):
        places.setdefault(kind, []).append(number)
    if len(places) == 1:
        return kinds[0]
    return "; ".join(f"{kind} ({_layer_words(numbers)})" for kind, numbers in places.items())


def _layer_words(numbers: Sequence[int]) -> Text:
    """`layers 0-2, 4` for the numbers 0, 1, 2, 4."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    listed = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    return say("layer {number}", number=listed) if len(numbers) == 1 else say("layers {numbers}", numbers=listed)


def layer_count(count: int) -> Text:
    """A number of layers in words."""
    return say("1 layer") if count == 1 else say("{count} layers", count=count)


PROBE_LENGTH = 7  # odd, longer than any shared window, short enough for every context


def find_anatomy(
    model: nn.Module, probe: Int[Tensor, "batch position"] | None = None, *, layers: str | None = None
) -> Anatomy:
    """The parts of a model, found by watching one forward pass on the probe (by default 7 tokens).

    `layers` names the stack (a module path) where several could be meant. Raises StrangeModel, saying what
    was seen.
    """
    # Deferred: `discover` needs the values of this module.
    from glassworks.anatomy.discover import discover

    if probe is None:
        probe = default_probe(model)
    return discover(model, probe, layers)


def default_probe(model: nn.Module) -> Int[Tensor, "batch position"]:
    """Seven tokens, as different as the vocabulary allows, on the model's device."""
    embeddings = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    stated = config_number(model, "vocab_size")
    if stated is None and not embeddings:
        raise StrangeModel(
            say("{model} has no torch.nn.Embedding, so its vocabulary is not known", model=type(model).__name__),
            right=say("give token ids to watch: find_anatomy(model, probe)"),
        )
    vocabulary = stated or max(e.num_embeddings for e in embeddings)
    device = runs_on(embeddings[0] if embeddings else model)
    length = min(PROBE_LENGTH, config_number(model, "max_position_embeddings") or PROBE_LENGTH)
    # Neighbours of a middle token: the low ids are often padding, which some models skip when they count
    # positions.
    ids = (torch.arange(length) + vocabulary // 2) % vocabulary
    return ids[None].to(device)


def config_number(model: nn.Module, name: str) -> int | None:
    """A positive whole number of the model's own config, where it has one by that name."""
    value: Any = getattr(getattr(model, "config", None), name, None)
    return value if isinstance(value, int) and value > 0 else None


def module_at(model: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path; the model itself for the empty one."""
    return model.get_submodule(path)
