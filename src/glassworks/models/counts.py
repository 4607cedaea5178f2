"""How many numbers each part of a model has: by formula from its spec, and by name in a built model (lifecycle.md 2)."""

from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

import torch
from torch import nn

from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.models.spec import EncoderDecoderSpec, EncoderSpec, RecurrentMemorySpec, TransformerSpec
from glassworks.models.stack import StackSpec

Part = Literal[
    "embedding",
    "token_types",
    "positions",
    "attention",
    "cross_attention",
    "feedforward",
    "norms",
    "pooler",
    "head",
    "unembedding",
    "other",
]
PARTS: tuple[Part, ...] = get_args(Part)
Parts = dict[str, int]
"""Parameters of each part that has any, in the order of `PARTS`."""

# Beginnings and ends of parameters' names, the first that fits; what a layer keeps of positions stands inside its attention.
_NAMES: tuple[tuple[str, Part], ...] = (
    ("embed_tokens.", "embedding"),
    ("embed_types.", "token_types"),
    ("embed_positions.", "positions"),
    ("relative_bias", "positions"),
    ("distance_proj.", "positions"),
    ("content_bias", "positions"),
    ("distance_bias", "positions"),
    ("prediction.", "head"),
    ("pooler.", "pooler"),
    ("lm_head.", "unembedding"),
    ("norm", "norms"),
    ("cross_attn.", "cross_attention"),
    ("self_attn.", "attention"),
    ("mlp.", "feedforward"),
)


def part_names() -> Mapping[Part, Text]:
    """What each part is called in tables."""
    return {
        "embedding": say("embedding"),
        "token_types": say("kinds of tokens"),
        "positions": say("positions"),
        "attention": say("attention"),
        "cross_attention": say("attention across"),
        "feedforward": say("feed-forward"),
        "norms": say("norms"),
        "pooler": say("pooler"),
        "head": say("head"),
        "unembedding": say("unembedding"),
        "other": say("other"),
    }


def parts_of(model: nn.Module) -> Parts:
    """Parameters of one of our models by part, counted in the model itself; tensors that are shared count once."""
    found: Parts = {}
    for name, parameter in model.named_parameters():
        part = next((part for piece, part in _NAMES if piece in name), "other")
        found[part] = found.get(part, 0) + parameter.numel()
    return _in_order(found)


def counted(spec: StackSpec) -> Parts:
    """Parameters of a model of tokens by part, by formula.

    Of an encoder both pooler and head, of which a model has one: the encoder alone the pooler, a masked language model the head.
    Raises InvalidInput for a spec of another kind. Equal to `parts_of` of the built model (held by a test).
    """
    match spec:
        case RecurrentMemorySpec():
            return _in_order(_decoder(spec) | {"other": spec.memory_tokens * spec.width})
        case TransformerSpec():
            return _in_order(_decoder(spec))
        case EncoderSpec():
            return _in_order(_encoder(spec))
        case EncoderDecoderSpec():
            return _in_order(_both(spec))
        case _:
            raise InvalidInput(
                say("a model of vectors has no parts of a language model"), right=say("a model that reads tokens")
            )


def on_meta(spec: StackSpec, *, body: bool = False) -> nn.Module:
    """The model of a spec without its numbers, so that it takes no memory however large.

    Of an encoder a masked language model, or with `body` the encoder alone, which may have a pooler.
    """
    from glassworks.models.config import GlassworksConfig
    from glassworks.models.encoder import EncoderModel
    from glassworks.models.transformer import language_model_class

    kind: Any = language_model_class(cast(Any, spec))
    if body and isinstance(spec, EncoderSpec):
        kind = EncoderModel
    with torch.device("meta"):
        model = kind(GlassworksConfig.from_spec(spec))
        model.tie_weights()
    return model


def _in_order(found: Mapping[str, int]) -> Parts:
    return {part: found[part] for part in PARTS if found.get(part)}


def _decoder(spec: TransformerSpec) -> Parts:
    found = _stack(spec, spec.depth)
    found["embedding"] = spec.vocabulary * spec.width
    found["unembedding"] = 0 if spec.tie_output else spec.vocabulary * spec.width
    return found


def _encoder(spec: EncoderSpec) -> Parts:
    found = _stack(spec, spec.depth)
    found["embedding"] = spec.vocabulary * spec.width
    found["token_types"] = spec.token_types * spec.width
    square = spec.width * (spec.width + 1)
    found["pooler"] = square if spec.pooler else 0
    # The map, its norm, and a number for each token behind the unembedding.
    found["head"] = square + _norm(spec) + spec.vocabulary if spec.prediction_transform else 0
    found["unembedding"] = 0 if spec.tie_output else spec.vocabulary * spec.width
    return found


def _both(spec: EncoderDecoderSpec) -> Parts:
    plain = spec.replaced("mixers", [{"kind": "softmax"}])
    assert isinstance(plain, EncoderDecoderSpec)
    read, written = _stack(plain, spec.depth_of_encoder), _stack(spec, spec.depth)
    found = {part: read.get(part, 0) + written.get(part, 0) for part in {*read, *written}}
    norms = 2 if spec.norm_placement == "both" else 1
    across = 2 * _square(spec, spec.heads, spec.bias) + 2 * _square(spec, spec.kv_heads or spec.heads, spec.bias)
    found["cross_attention"] = spec.depth * across
    found["norms"] += spec.depth * norms * _norm(spec)
    found["embedding"] = spec.vocabulary * spec.width
    found["unembedding"] = 0 if spec.tie_output else spec.vocabulary * spec.width
    return found


def _stack(spec: StackSpec, depth: int) -> Parts:
    """Layers, with what stands before and behind them: the table of positions and the norms of embeddings and result."""
    found: Parts = {"attention": 0, "feedforward": 0, "norms": 0, "positions": 0}
    known: dict[Any, Parts] = {}
    for layer in range(depth):
        place = layer if layer < spec.depth else 0
        alike = (spec.mixer(place), spec.feedforward_of(place), spec.normalises(place), spec.reads_code(place))
        if alike not in known:
            known[alike] = _layer(spec, place)
        for part, count in known[alike].items():
            found[part] += count
    found["norms"] += (spec.embedding_norm + spec.has_final_norm) * _norm(spec)
    if spec.positions == "learned":
        found["positions"] += (spec.context + spec.position_offset) * spec.width
    if spec.positions == "relative_bias":
        found["positions"] += spec.relative_buckets * spec.heads
    return found


def _layer(spec: StackSpec, layer: int) -> Parts:
    sizes, kind = spec.sizes_of(layer), spec.feedforward_of(layer)
    inner, own = sizes.query_heads * sizes.head_width, spec.mixer(layer)
    has_bias = spec.bias if spec.query_bias is None else spec.query_bias
    code = 2 if spec.reads_code(layer) else 1
    attention = 0
    for choice, heads, times, bias in (
        (spec.query, sizes.query_heads, code, has_bias),
        (spec.key, sizes.kv_heads, code, has_bias),
        (spec.value, sizes.kv_heads, 1, has_bias),
    ):
        if choice == "learned":
            attention += times * _square(spec, heads, bias=False) + (heads * sizes.head_width if bias else 0)
    if spec.output == "learned":
        attention += inner * spec.width + (spec.width if spec.bias else 0)
    attention += sum(number.numel() for number in own.build(sizes).parameters())
    attention += len(own.gate_names) * sizes.kv_heads * (spec.width + 1)
    norms = (1 if kind == "none" else 2) * (2 if spec.norm_placement == "both" else 1) * _norm(spec)
    if spec.query_key_norm == "rms" and spec.normalises(layer):
        norms += 2 * sizes.head_width
    norms += sizes.head_width if spec.head_norm else 0
    # A map of the sinusoids of distances, and a vector of each head for what and for where is read.
    relative = inner * spec.width + 2 * inner if spec.positions == "relative_xl" else 0
    return {"attention": attention, "feedforward": _feedforward(spec, kind), "norms": norms, "positions": relative}


def _feedforward(spec: StackSpec, kind: str) -> int:
    width, hidden = spec.width, spec.width_of_feedforward
    match kind:
        case "none":
            return 0
        case "linear":
            return width * width + (width if spec.bias else 0)
        case "swiglu" | "geglu" | "geglu_tanh":
            return 3 * width * hidden + (2 * hidden + width if spec.bias else 0)
        case _:
            return 2 * width * hidden + (hidden + width if spec.bias else 0)


def _square(spec: StackSpec, heads: int, bias: bool) -> int:
    """Numbers of a map between the stream and so many heads."""
    inner = heads * spec.width_of_head
    return inner * spec.width + (inner if bias else 0)


def _norm(spec: StackSpec) -> int:
    return {"none": 0, "layer": 2 * spec.width, "rms": spec.width}[spec.norm]
