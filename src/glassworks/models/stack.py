"""The stack of layers that every model here has: mixing and feed-forward on a residual stream."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from glassworks.core.spec import ImpossibleValue, Spec
from glassworks.core.text import say
from glassworks.mixers import AnyMixer, Heads, SlidingWindow, Softmax

Feedforward = Literal["none", "linear", "relu", "gelu", "gelu_tanh", "swiglu", "geglu", "geglu_tanh"]
Projection = Literal["learned", "identity"]
Norm = Literal["none", "layer", "rms"]
PositionKind = Literal[
    "none", "learned", "random", "sinusoidal", "rotary", "concatenated", "relative_bias", "alibi", "relative_xl"
]


class RotaryScaling(Spec):
    """How a rotation that was learned for short texts is stretched over longer ones."""

    kind: Literal["linear", "ntk", "llama3"] = "llama3"
    """linear: every angle divided by `factor`; ntk: the base raised so that only slow pairs are stretched; llama3: slow
    pairs stretched, fast ones left, a smooth step between."""
    factor: float = Field(default=8.0, ge=1)
    """How many times longer the texts become."""
    low: float = Field(default=1.0, gt=0)
    """llama3: pairs that turn fewer times than this over `original` tokens are stretched in full."""
    high: float = Field(default=4.0, gt=0)
    """llama3: pairs that turn more often than this are left."""
    original: int = Field(default=8192, ge=1)
    """llama3: the context that the rotation was learned for, in tokens."""


class StackSpec(Spec):
    """Layers on a residual stream, each of mixing and feed-forward."""

    later: ClassVar[frozenset[str]] = frozenset(
        {
            "query_key_norm",
            "query_key_norm_layers",
            "head_norm",
            "stream_limit",
            "weight_scale",
            "position_period",
            "query_bias",
            "embedding_norm",
            "embedding_factor",
            "residual_factor",
            "position_offset",
            "rotary_share",
            "rotary_local_base",
            "rotary_scaling",
            "relative_buckets",
            "relative_distance",
            "deep_output_scale",
            "dropout",
        }
    )

    width: int = Field(ge=1)
    """Numbers in the residual stream."""
    depth: int = Field(ge=0)
    """Number of layers."""
    heads: int = Field(default=4, ge=1)
    """Query heads of each layer."""
    kv_heads: int | None = Field(default=None, ge=1)
    """Key-value heads, shared by query heads in equal groups; as many as query heads unless given."""
    head_width: int | None = Field(default=None, ge=1)
    """Numbers per head; width / heads unless given."""
    context: int = Field(default=256, ge=1)
    """Longest sequence, in tokens."""
    mixers: tuple[AnyMixer, ...] = (Softmax(),)
    """How tokens exchange information: one for all layers, or one per layer."""
    query: Projection = "learned"
    """Map from the stream to queries; identity uses the stream itself."""
    key: Projection = "learned"
    """Map from the stream to keys."""
    value: Projection = "learned"
    """Map from the stream to values."""
    output: Projection = "learned"
    """Map from the mixed values back to the stream."""
    bias: bool = False
    """Whether projections and feed-forward maps add a learned constant."""
    query_bias: bool | None = None
    """Whether the maps to queries, keys and values do; as `bias` says unless given (Qwen 2)."""
    norm: Norm = "layer"
    """Normalisation: none, layer norm (with gain and offset), or root mean square (with gain)."""
    norm_placement: Literal["pre", "post", "both"] = "pre"
    """Before each part of a layer (pre), after its result is added to the stream (post, as in 2017), or before the part and
    on its result before that is added (both, as in Gemma 3)."""
    norm_epsilon: float = Field(default=1e-5, gt=0)
    """Added to the variance inside the norm."""
    final_norm: bool = True
    """A norm before the unembedding, where there are norms at all."""
    embedding_norm: bool = False
    """A norm of the embeddings, before the first layer (BERT, BART, BLOOM)."""
    embedding_factor: float = Field(default=1.0, gt=0)
    """Embeddings of tokens are multiplied by this: sqrt(width) in 2017 and in Gemma."""
    residual_factor: float = Field(default=1.0, gt=0)
    """The stream is multiplied by this before a part's result is added (DeepNorm of GLM)."""
    feedforward: tuple[Feedforward, ...] = ("relu",)
    """The map of each token by itself: one kind for all layers, or one per layer."""
    feedforward_width: int | None = Field(default=None, ge=1)
    """Hidden numbers of the feed-forward; 4 x width unless given."""
    feedforward_reads: Literal["mixed", "block_input"] = "mixed"
    """What the feed-forward reads: the stream after mixing, or the stream as the layer received it."""
    positions: PositionKind = "learned"
    """How a token knows its place: a table added to the stream (learned, random and frozen, sinusoidal), rotation, none,
    or a sinusoidal code set beside the stream where the first layer's queries and keys read it (concatenated, mesa.md 3).
    Or something added to scores: a learned number for each head and bucket of distances, shared by all layers (relative_bias,
    T5), a fixed slope per head (alibi), or products with a projected sinusoid of the distance in each layer (relative_xl,
    Transformer-XL and Gopher)."""
    position_offset: int = Field(default=0, ge=0)
    """Rows of a learned table that stand before the one of the first position (2 in RoBERTa and BART); `context` counts them not."""
    position_period: int | None = Field(default=None, ge=1)
    """Tokens after which a table of positions begins again, so that it serves texts of any length; never unless given."""
    rotary_layers: tuple[int, ...] | None = None
    """Layers whose queries and keys are rotated; all unless given."""
    rotary_base: float = Field(default=10000.0, gt=1)
    """Base of the rotation's wavelengths."""
    rotary_local_base: float | None = Field(default=None, gt=1)
    """The base in layers whose mixer is a sliding window (Gemma 3); `rotary_base` unless given."""
    rotary_share: float = Field(default=1.0, gt=0, le=1)
    """Share of a head's numbers, the first ones, that are turned."""
    rotary_scaling: RotaryScaling | None = None
    """How the rotation is stretched over longer texts; not at all unless given."""
    relative_buckets: int = Field(default=32, ge=2)
    """Buckets of distances of a relative bias."""
    relative_distance: int = Field(default=128, ge=2)
    """Distance, in tokens, from which all share the last bucket."""
    embedding_scale: float = Field(default=1.0, gt=0)
    """Standard deviation of token embeddings and of learned or random positions at the start."""
    score_scale: Literal["inverse_sqrt", "none", "softmax_only", "inverse_sqrt_width"] = "inverse_sqrt"
    """Factor on query-key products: 1/sqrt(head width), 1, the former for softmax mixers and 1 for all others, or
    1/sqrt(width), as the Infini-attention paper prints it (infini.md 1)."""
    query_key_norm: Literal["none", "l2", "rms"] = "none"
    """Whether queries and keys are normalised head by head before they are turned and mixed: divided by their length (l2), or
    by their root mean square with a learned gain (rms, Qwen 3 and Gemma 3)."""
    query_key_norm_layers: tuple[int, ...] | None = None
    """Layers where they are; all unless given."""
    head_norm: bool = False
    """A root mean square norm (with gain) of each head's result before the output map, as MesaNet has it."""
    stream_limit: float | None = Field(default=None, gt=0)
    """Largest absolute number in the stream after a layer; what exceeds it is cut off (mesa.md 3)."""
    weight_scale: float | None = Field(default=None, gt=0)
    """Standard deviation of all maps at the start; PyTorch's uniform default unless given."""
    deep_output_scale: bool = False
    """Whether maps back to the stream start smaller by sqrt(2 x depth), as GPT-2's do."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the numbers of embeddings and of each part's result that are set to zero while training."""

    @model_validator(mode="after")
    def _check_heads(self) -> "StackSpec":
        if self.head_width is None and self.width % self.heads:
            raise ImpossibleValue(
                say("{heads} heads do not divide width {width}", heads=self.heads, width=self.width),
                say("one of {known} heads, or a head_width", known=_divisors(self.width)),
            )
        kv_heads = self.kv_heads or self.heads
        if self.heads % kv_heads:
            raise ImpossibleValue(
                say(
                    "{kv_heads} key-value heads do not divide {heads} heads",
                    kv_heads=kv_heads,
                    heads=self.heads,
                ),
                say("one of {known} key-value heads", known=_divisors(self.heads)),
            )
        for name, choice, heads in (
            ("query", self.query, self.heads),
            ("key", self.key, kv_heads),
            ("value", self.value, kv_heads),
            ("output", self.output, self.heads),
        ):
            if choice == "identity" and heads * self.width_of_head != self.width:
                raise ImpossibleValue(
                    say(
                        "{name} cannot be the identity: {heads} heads of {head_width} are not width {width}",
                        name=name,
                        heads=heads,
                        head_width=self.width_of_head,
                        width=self.width,
                    ),
                    say("{name}=learned, or heads that fill the width", name=name),
                )
        return self

    @model_validator(mode="after")
    def _check_layers(self) -> "StackSpec":
        for name, given in (("mixers", len(self.mixers)), ("feedforward", len(self.feedforward))):
            if given not in (1, self.depth):
                raise ImpossibleValue(
                    say("{given} {name} for {depth} layers", given=given, name=name, depth=self.depth),
                    say("one for all layers, or {depth}", depth=self.depth),
                )
        for layer in (*(self.rotary_layers or ()), *(self.query_key_norm_layers or ())):
            if not 0 <= layer < self.depth:
                raise ImpossibleValue(
                    say("there is no layer {layer}", layer=layer), say("layers from 0 to {last}", last=self.depth - 1)
                )
        return self

    @model_validator(mode="after")
    def _check_places(self) -> "StackSpec":
        if self.rotary_layers is not None and self.positions != "rotary":
            raise ImpossibleValue(
                say("rotary_layers are named, but positions are {positions}", positions=self.positions),
                say("positions=rotary, or no rotary_layers"),
            )
        if self.position_period is not None and self.position_period > self.context:
            raise ImpossibleValue(
                say(
                    "a table of {count} positions has no period of {period}",
                    count=self.context,
                    period=self.position_period,
                ),
                say("position_period={count} or less", count=self.context),
            )
        if self.positions == "rotary" and (self.width_of_head % 2 or self.width_turned % 2 or not self.width_turned):
            raise ImpossibleValue(
                say("a head of width {head_width} cannot be rotated in pairs", head_width=self.width_of_head),
                say("an even head width"),
            )
        if self.has_relative_places and not all(isinstance(mixer, Softmax) for mixer in self.mixers):
            raise ImpossibleValue(
                say(
                    "positions={positions} is added to scores, which only softmax attention has",
                    positions=self.positions,
                ),
                say("mixers=softmax, or another kind of positions"),
            )
        if self.positions == "relative_bias" and (
            self.relative_buckets < 4 or self.relative_distance <= self.relative_buckets // 2
        ):
            raise ImpossibleValue(
                say(
                    "{buckets} buckets cannot hold distances up to {distance} by logarithm",
                    buckets=self.relative_buckets,
                    distance=self.relative_distance,
                ),
                say("4 buckets or more, and a distance beyond half of them"),
            )
        return self

    @model_validator(mode="after")
    def _check_inner_rotation(self) -> "StackSpec":
        is_plain = self.rotary_share == 1 and self.rotary_scaling is None
        if self.positions != "rotary" or is_plain:
            return self
        for layer in range(self.depth):
            mixer = self.mixer(layer)
            if not mixer.rotates_inside or not self._is_rotary(layer):
                continue
            # A base of its own says that windows are not stretched with the other layers.
            if not (isinstance(mixer, SlidingWindow) and self.rotary_local_base and self.rotary_share == 1):
                raise ImpossibleValue(
                    say(
                        "layer {layer} turns queries and keys inside its mixer ({mixer}), whole and unscaled",
                        layer=layer,
                        mixer=mixer.kind,
                    ),
                    say("no rotary_share and no rotary_scaling, a rotary_local_base for windows, or other mixers"),
                )
        return self

    @property
    def longest(self) -> int | None:
        """Tokens after which the positions end; None where they never do."""
        return self.context if self.has_table and self.position_period is None else None

    @property
    def has_table(self) -> bool:
        """Whether places are vectors of a table."""
        return self.positions in ("learned", "random", "sinusoidal", "concatenated")

    @property
    def width_of_head(self) -> int:
        """Numbers per head, given or derived."""
        return self.head_width or self.width // self.heads

    @property
    def width_turned(self) -> int:
        """Numbers of a head that the rotation turns."""
        return int(self.width_of_head * self.rotary_share)

    @property
    def has_relative_places(self) -> bool:
        """Whether distances change scores, so that texts may have any length."""
        return self.positions in ("relative_bias", "alibi", "relative_xl")

    @property
    def width_of_feedforward(self) -> int:
        """Hidden numbers of the feed-forward, given or derived."""
        return self.feedforward_width or 4 * self.width

    @property
    def sizes(self) -> Heads:
        """What the mixer of the first layer is built for; the numbers of heads are those of every layer."""
        return self.sizes_of(0)

    def sizes_of(self, layer: int) -> Heads:
        """What the mixer of a layer is built for."""
        mixer = self.mixer(layer)
        match self.score_scale:
            case "inverse_sqrt_width":
                scale = self.width**-0.5
            case "none":
                scale = 1.0
            case choice:
                is_scaled = choice == "inverse_sqrt" or mixer.uses_softmax
                scale = self.width_of_head**-0.5 if is_scaled else 1.0
        base = self.rotary_base if mixer.rotates_inside and self._is_rotary(layer) else None
        if base is not None and self.rotary_local_base is not None and isinstance(mixer, SlidingWindow):
            base = self.rotary_local_base
        return Heads(self.heads, self.kv_heads or self.heads, self.width_of_head, float(scale), base)

    @property
    def has_final_norm(self) -> bool:
        """Whether a norm stands before the unembedding."""
        return self.final_norm and self.norm != "none"

    def mixer(self, layer: int) -> AnyMixer:
        """The mixer of a layer."""
        return self.mixers[layer if len(self.mixers) > 1 else 0]

    def feedforward_of(self, layer: int) -> Feedforward:
        """The feed-forward of a layer."""
        return self.feedforward[layer if len(self.feedforward) > 1 else 0]

    def normalises(self, layer: int) -> bool:
        """Whether queries and keys of a layer are divided by their length."""
        layers = self.query_key_norm_layers
        return self.query_key_norm != "none" and (layers is None or layer in layers)

    def reads_code(self, layer: int) -> bool:
        """Whether queries and keys of a layer read a position code beside the stream."""
        return self.positions == "concatenated" and layer == 0

    def rotates(self, layer: int) -> bool:
        """Whether queries and keys of a layer are rotated by position before its mixer sees them."""
        return self._is_rotary(layer) and not self.mixer(layer).rotates_inside

    def keeps_keys(self, layer: int) -> bool:
        """Whether a layer's cache holds the keys and values of the whole text, one by one."""
        return self.mixer(layer).keeps_keys

    @property
    def resets(self) -> bool:
        """Whether every layer can keep texts apart that are packed into one sequence."""
        return all(mixer.resets for mixer in self.mixers)

    def _is_rotary(self, layer: int) -> bool:
        return self.positions == "rotary" and (self.rotary_layers is None or layer in self.rotary_layers)


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)
