"""What a decoder is made of: the stack of layers, and the decoders of tokens and of vectors around it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from glassworks.core.shelf import Shelf
from glassworks.core.spec import ImpossibleValue, Spec
from glassworks.core.text import say
from glassworks.mixers import AnyMixer, Heads, Softmax

Feedforward = Literal["none", "linear", "relu", "gelu", "gelu_tanh", "swiglu"]
Projection = Literal["learned", "identity"]
Norm = Literal["none", "layer", "rms"]
PositionKind = Literal["none", "learned", "random", "sinusoidal", "rotary", "concatenated"]


class StackSpec(Spec):
    """The layers of a causal decoder: mixing and feed-forward on a residual stream."""

    later: ClassVar[frozenset[str]] = frozenset(
        {"query_key_norm", "query_key_norm_layers", "head_norm", "stream_limit", "weight_scale", "position_period"}
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
    norm: Norm = "layer"
    """Normalisation: none, layer norm (with gain and offset), or root mean square (with gain)."""
    norm_placement: Literal["pre", "post"] = "pre"
    """Before each part of a layer, or after its result is added to the stream."""
    norm_epsilon: float = Field(default=1e-5, gt=0)
    """Added to the variance inside the norm."""
    final_norm: bool = True
    """A norm before the unembedding, where there are norms at all."""
    feedforward: tuple[Feedforward, ...] = ("relu",)
    """The map of each token by itself: one kind for all layers, or one per layer."""
    feedforward_width: int | None = Field(default=None, ge=1)
    """Hidden numbers of the feed-forward; 4 x width unless given."""
    feedforward_reads: Literal["mixed", "block_input"] = "mixed"
    """What the feed-forward reads: the stream after mixing, or the stream as the layer received it."""
    positions: PositionKind = "learned"
    """How a token knows its place: a table added to the stream (learned, random and frozen, sinusoidal), rotation, none,
    or a sinusoidal code set beside the stream where the first layer's queries and keys read it (concatenated, mesa.md 3)."""
    position_period: int | None = Field(default=None, ge=1)
    """Tokens after which a table of positions begins again, so that it serves texts of any length; never unless given."""
    rotary_layers: tuple[int, ...] | None = None
    """Layers whose queries and keys are rotated; all unless given."""
    rotary_base: float = Field(default=10000.0, gt=1)
    """Base of the rotation's wavelengths."""
    embedding_scale: float = Field(default=1.0, gt=0)
    """Standard deviation of token embeddings and of learned or random positions at the start."""
    score_scale: Literal["inverse_sqrt", "none", "softmax_only", "inverse_sqrt_width"] = "inverse_sqrt"
    """Factor on query-key products: 1/sqrt(head width), 1, the former for softmax mixers and 1 for all others, or
    1/sqrt(width), as the Infini-attention paper prints it (infini.md 1)."""
    query_key_norm: Literal["none", "l2"] = "none"
    """Whether queries and keys are divided by their length, head by head, before they are mixed."""
    query_key_norm_layers: tuple[int, ...] | None = None
    """Layers where they are; all unless given."""
    head_norm: bool = False
    """A root mean square norm (with gain) of each head's result before the output map, as MesaNet has it."""
    stream_limit: float | None = Field(default=None, gt=0)
    """Largest absolute number in the stream after a layer; what exceeds it is cut off (mesa.md 3)."""
    weight_scale: float | None = Field(default=None, gt=0)
    """Standard deviation of all maps at the start; PyTorch's uniform default unless given."""

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
        if self.positions == "rotary" and self.width_of_head % 2:
            raise ImpossibleValue(
                say("a head of width {head_width} cannot be rotated in pairs", head_width=self.width_of_head),
                say("an even head width"),
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
        return self.query_key_norm == "l2" and (layers is None or layer in layers)

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


class TransformerSpec(StackSpec):
    """A causal decoder of tokens: embedding, layers on a residual stream, unembedding."""

    kind: Literal["decoder"] = "decoder"
    vocabulary: int = Field(ge=1)
    """Number of tokens of the alphabet."""
    tie_output: bool = False
    """Whether the unembedding is the embedding."""


class RecurrentMemorySpec(TransformerSpec):
    """A decoder of tokens read in segments, which hands vectors of its stream from segment to segment.

    The same `memory_tokens` vectors stand before a segment, where its tokens read them, and after it, where they read
    the segment; what the last layer makes of those behind is the next segment's memory (infini.md 1.1, RMT). The first
    memory is learned. Places are counted inside memory, segment, memory. The layers are softmax attention, which sees
    one segment at a time and keeps no more.
    """

    kind: Literal["recurrent_memory"] = "recurrent_memory"
    segment: int = Field(default=128, ge=1)
    """Tokens of a segment."""
    memory_tokens: int = Field(default=8, ge=1)
    """Vectors handed on."""
    unroll: int | None = Field(default=None, ge=1)
    """Segments that a gradient flows through before it is stopped; all unless given."""

    @model_validator(mode="after")
    def _check_segment(self) -> "RecurrentMemorySpec":
        if not all(isinstance(mixer, Softmax) for mixer in self.mixers):
            raise ImpossibleValue(
                say("a segment and its memory are read by softmax attention"),
                say("mixers=softmax; other mixers have a memory of their own and need kind=decoder"),
            )
        places = self.segment + 2 * self.memory_tokens
        if self.has_table and self.context < places:
            raise ImpossibleValue(
                say(
                    "a segment and its memory take {places} places, the table has {context}",
                    places=places,
                    context=self.context,
                ),
                say("context={places} or more, or positions=rotary", places=places),
            )
        if self.position_period is not None:
            raise ImpossibleValue(
                say("places begin again with every segment, so they have no period of their own"),
                say("no position_period"),
            )
        return self

    @property
    def longest(self) -> int | None:
        """None: places begin again with every segment."""
        return None

    @property
    def resets(self) -> bool:
        """False: texts packed into one sequence would read each other's memory."""
        return False

    def keeps_keys(self, layer: int) -> bool:
        """False: keys of a segment are forgotten with it."""
        return False


class VectorSpec(StackSpec):
    """A causal decoder of vectors: reads numbers, predicts numbers, learns by squared error (mesa.md 3)."""

    kind: Literal["vector_decoder"] = "vector_decoder"
    inputs: int = Field(ge=1)
    """Numbers per token."""
    outputs: int = Field(ge=1)
    """Numbers predicted at each token."""
    embedding: Literal["linear", "none"] = "linear"
    """The way into the stream: a linear map without bias, or none, for tokens as wide as the stream."""
    readout: Literal["linear", "first"] = "linear"
    """The way out of it: a linear map without bias, or the stream's first numbers as they are."""

    @model_validator(mode="after")
    def _check_ends(self) -> "VectorSpec":
        if self.embedding == "none" and self.inputs != self.width:
            raise ImpossibleValue(
                say("tokens of {inputs} numbers do not fill a stream of {width}", inputs=self.inputs, width=self.width),
                say("embedding=linear, or width={inputs}", inputs=self.inputs),
            )
        if self.readout == "first" and self.outputs > self.width:
            raise ImpossibleValue(
                say("the first {outputs} numbers of a stream of {width}", outputs=self.outputs, width=self.width),
                say("readout=linear, or width at least {outputs}", outputs=self.outputs),
            )
        return self


AnyModel = Annotated[TransformerSpec | RecurrentMemorySpec | VectorSpec, Field(discriminator="kind")]
MODEL_SPECS: Shelf[StackSpec] = Shelf("model", TransformerSpec, RecurrentMemorySpec, VectorSpec)


def read_model_spec(found: object) -> TransformerSpec | VectorSpec:
    """The spec of a decoder from plain data; a folder that names no kind holds a decoder of tokens."""
    spec = MODEL_SPECS.parse({"kind": "decoder"} | found if isinstance(found, dict) else found)
    assert isinstance(spec, TransformerSpec | VectorSpec)
    return spec


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)
