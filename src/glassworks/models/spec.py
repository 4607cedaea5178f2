"""What a model is made of: decoders of tokens and of vectors, encoders, and encoder-decoders around the same stack."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from glassworks.core.shelf import Shelf
from glassworks.core.spec import ImpossibleValue
from glassworks.core.text import Text, say
from glassworks.mixers import Softmax
from glassworks.models.stack import StackSpec


class TransformerSpec(StackSpec):
    """A decoder of tokens: embedding, layers on a residual stream, unembedding."""

    later: ClassVar[frozenset[str]] = StackSpec.later | {"reads"}

    kind: Literal["decoder"] = "decoder"
    vocabulary: int = Field(ge=1)
    """Number of tokens of the alphabet."""
    tie_output: bool = False
    """Whether the unembedding is the embedding."""
    reads: Literal["past", "prefix"] = "past"
    """Whether each token sees only those before it, or tokens of a given beginning also see each other (prefix decoder, GLM)."""

    @model_validator(mode="after")
    def _check_prefix(self) -> "TransformerSpec":
        if self.reads == "prefix":
            need_softmax(self, say("a beginning whose tokens see each other"))
        return self


class EncoderSpec(StackSpec):
    """An encoder of tokens: every token sees every other; a masked language model, a classifier or a source of vectors (BERT)."""

    kind: Literal["encoder"] = "encoder"
    vocabulary: int = Field(ge=1)
    """Number of tokens of the alphabet."""
    tie_output: bool = True
    """Whether a masked language model's unembedding is the embedding."""
    token_types: int = Field(default=0, ge=0)
    """Kinds of tokens (sentence A, sentence B) that have a vector of their own added to the embedding; none for 0."""
    pooler: bool = False
    """A learned map and tanh on the first token's vector (BERT)."""
    prediction_transform: bool = True
    """Whether a masked language model has a map, nonlinearity and norm before its unembedding, and a bias behind (BERT)."""

    @model_validator(mode="after")
    def _check_sight(self) -> "EncoderSpec":
        need_softmax(self, say("an encoder, whose tokens see each other"))
        return self

    @property
    def resets(self) -> bool:
        """False: texts packed into one sequence would see each other."""
        return False

    def keeps_keys(self, layer: int) -> bool:
        """False: an encoder reads a text at once and keeps nothing."""
        return False


class EncoderDecoderSpec(StackSpec):
    """An encoder that reads a source and a decoder that writes, layer by layer looking at what was read (T5, BART).

    `depth` counts the decoder's layers. `mixers` are the decoder's own; the encoder and the looks across are softmax attention.
    """

    kind: Literal["encoder_decoder"] = "encoder_decoder"
    vocabulary: int = Field(ge=1)
    """Number of tokens of the alphabet, of both sides."""
    encoder_depth: int | None = Field(default=None, ge=1)
    """Layers of the encoder; as many as of the decoder unless given."""
    tie_output: bool = True
    """Whether the unembedding is the embedding, which both sides share anyway."""
    tied_factor: Literal["none", "inverse_sqrt_width"] = "none"
    """Factor on the stream before a tied unembedding: 1/sqrt(width) in T5 1.0."""
    start_token: int = Field(default=0, ge=0)
    """The token that the decoder's first step reads."""

    @property
    def depth_of_encoder(self) -> int:
        """Layers of the encoder, given or derived."""
        return self.encoder_depth or self.depth

    @property
    def resets(self) -> bool:
        """False: texts packed into one sequence would look at one source."""
        return False


def need_softmax(spec: StackSpec, what: Text) -> None:
    """Raises ImpossibleValue unless every mixer is full softmax attention, the only one that can look ahead."""
    if not all(isinstance(mixer, Softmax) for mixer in spec.mixers):
        raise ImpossibleValue(
            say("{what} needs softmax attention in every layer; other mixers read the past only", what=what),
            say("mixers=softmax"),
        )


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


TokenModel = TransformerSpec | EncoderSpec | EncoderDecoderSpec
AnyModel = Annotated[
    TransformerSpec | RecurrentMemorySpec | VectorSpec | EncoderSpec | EncoderDecoderSpec, Field(discriminator="kind")
]
MODEL_SPECS: Shelf[StackSpec] = Shelf(
    "model", TransformerSpec, RecurrentMemorySpec, VectorSpec, EncoderSpec, EncoderDecoderSpec
)


def read_model_spec(found: object) -> TransformerSpec | VectorSpec | EncoderSpec | EncoderDecoderSpec:
    """The spec of a model from plain data; a folder that names no kind holds a decoder of tokens."""
    spec = MODEL_SPECS.parse({"kind": "decoder"} | found if isinstance(found, dict) else found)
    assert isinstance(spec, TransformerSpec | VectorSpec | EncoderSpec | EncoderDecoderSpec)
    return spec
