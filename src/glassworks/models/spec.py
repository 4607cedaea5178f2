"""TransformerSpec: every choice of the one decoder, with the impossible combinations refused."""

from typing import Literal

from pydantic import Field, model_validator

from glassworks.core.spec import ImpossibleValue, Spec
from glassworks.core.text import say
from glassworks.mixers import AnyMixer, Heads, Softmax

Feedforward = Literal["none", "linear", "relu", "gelu", "gelu_tanh", "swiglu"]
Projection = Literal["learned", "identity"]
Norm = Literal["none", "layer", "rms"]
PositionKind = Literal["none", "learned", "random", "sinusoidal", "rotary"]


class TransformerSpec(Spec):
    """A causal decoder: embedding, layers of mixing and feed-forward on a residual stream, unembedding."""

    kind: Literal["decoder"] = "decoder"
    vocabulary: int = Field(ge=1)
    """Number of tokens of the alphabet."""
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
    """How a token knows its place: a table (learned, random and frozen, sinusoidal), rotation, or none."""
    rotary_layers: tuple[int, ...] | None = None
    """Layers whose queries and keys are rotated; all unless given."""
    rotary_base: float = Field(default=10000.0, gt=1)
    """Base of the rotation's wavelengths."""
    tie_output: bool = False
    """Whether the unembedding is the embedding."""
    embedding_scale: float = Field(default=1.0, gt=0)
    """Standard deviation of token embeddings and of learned or random positions at the start."""
    score_scale: Literal["inverse_sqrt", "none"] = "inverse_sqrt"
    """Factor on query-key products: 1/sqrt(head width), or 1."""

    @model_validator(mode="after")
    def _check_heads(self) -> "TransformerSpec":
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
    def _check_layers(self) -> "TransformerSpec":
        for name, given in (("mixers", len(self.mixers)), ("feedforward", len(self.feedforward))):
            if given not in (1, self.depth):
                raise ImpossibleValue(
                    say("{given} {name} for {depth} layers", given=given, name=name, depth=self.depth),
                    say("one for all layers, or {depth}", depth=self.depth),
                )
        beyond = [layer for layer in self.rotary_layers or () if not 0 <= layer < self.depth]
        if beyond:
            raise ImpossibleValue(
                say("no layer {layer} to rotate", layer=beyond[0]),
                say("layers from 0 to {last}", last=self.depth - 1),
            )
        if self.rotary_layers is not None and self.positions != "rotary":
            raise ImpossibleValue(
                say("rotary_layers are named, but positions are {positions}", positions=self.positions),
                say("positions=rotary, or no rotary_layers"),
            )
        if self.positions == "rotary" and self.width_of_head % 2:
            raise ImpossibleValue(
                say("a head of width {head_width} cannot be rotated in pairs", head_width=self.width_of_head),
                say("an even head width"),
            )
        return self

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
        """What the mixers are built for."""
        scale = self.width_of_head**-0.5 if self.score_scale == "inverse_sqrt" else 1.0
        return Heads(self.heads, self.kv_heads or self.heads, self.width_of_head, float(scale))

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

    def rotates(self, layer: int) -> bool:
        """Whether queries and keys of a layer are rotated by position."""
        return self.positions == "rotary" and (self.rotary_layers is None or layer in self.rotary_layers)


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)
