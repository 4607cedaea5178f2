"""The Hugging Face config of a model: its spec, and the sizes that the library and its friends look for.

This file must not postpone annotations: the library reads those of a config.
"""

from dataclasses import field
from typing import Any, no_type_check

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.models.cache import KEYS_LAYER, MEMORY_LAYER
from glassworks.models.spec import (
    AnyModel,
    EncoderDecoderSpec,
    EncoderSpec,
    StackSpec,
    TokenModel,
    TransformerSpec,
    VectorSpec,
    read_model_spec,
)

SMALLEST = TransformerSpec(vocabulary=2, width=4, depth=1)


def no_tokens() -> InvalidInput:
    """The error for asking a model of vectors about tokens."""
    return InvalidInput(
        say("this model reads vectors of numbers, not tokens"),
        right=say("its class VectorTransformer, or the study that trained it"),
        next_command="glassworks reproduce mesa",
    )


def not_a_decoder(spec: EncoderSpec | EncoderDecoderSpec) -> InvalidInput:
    """The error for asking another kind of model for what only a decoder does."""
    return InvalidInput(
        say("this model is of kind {kind}; only a decoder goes on with a text", kind=spec.kind),
        right=say("a model of kind decoder, or the class that this kind is made for"),
    )


# The library's own check sees to the types; a second one would not know the fields it passes on.
@no_type_check
@strict
class GlassworksConfig(PreTrainedConfig):
    """A spec as a transformers config; `transformer` is the spec, the rest follows from it."""

    model_type = "glassworks"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012 - the library's own spelling

    transformer: dict[str, Any] = field(default_factory=SMALLEST.to_json)
    vocab_size: int | None = None
    hidden_size: int | None = None
    num_hidden_layers: int | None = None
    num_attention_heads: int | None = None
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    intermediate_size: int | None = None
    max_position_embeddings: int | None = None
    layer_types: list[str] | None = None
    use_cache: bool = True
    is_encoder_decoder: bool = False
    decoder_start_token_id: int | None = None
    type_vocab_size: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    tie_word_embeddings: bool = False
    auto_map: dict[str, Any] = field(default_factory=dict[str, Any])
    """Empty; TRL reads it of every architecture from outside the library."""

    def __post_init__(self, **kwargs: Any) -> None:
        """Derives the sizes that the library and its friends look for."""
        spec = self.spec
        self.vocab_size = spec.vocabulary if isinstance(spec, TokenModel) else None
        self.hidden_size = spec.width
        self.num_hidden_layers = spec.depth
        self.num_attention_heads = spec.sizes.query_heads
        self.num_key_value_heads = spec.sizes.kv_heads
        self.head_dim = spec.width_of_head
        self.intermediate_size = spec.width_of_feedforward
        self.max_position_embeddings = spec.context
        self.tie_word_embeddings = isinstance(spec, TokenModel) and spec.tie_output
        self.is_encoder_decoder = isinstance(spec, EncoderDecoderSpec)
        if isinstance(spec, EncoderDecoderSpec):
            self.decoder_start_token_id = spec.start_token
        self.type_vocab_size = spec.token_types if isinstance(spec, EncoderSpec) else None
        self.layer_types = [KEYS_LAYER if spec.keeps_keys(layer) else MEMORY_LAYER for layer in range(spec.depth)]
        super().__post_init__(**kwargs)

    @classmethod
    def from_spec(cls, spec: StackSpec, **fields: Any) -> "GlassworksConfig":
        """The config of a spec; further fields are the library's own, e.g. `eos_token_id`."""
        return cls(transformer=spec.to_json(), **fields)

    @property
    def spec(self) -> AnyModel:
        """The spec; its vocabulary follows `vocab_size`, which resizing the embeddings changes."""
        changed = {} if self.vocab_size is None else {"vocabulary": self.vocab_size}
        return read_model_spec(self.transformer | changed)

    @property
    def token_spec(self) -> TokenModel:
        """The spec of a model that reads tokens; InvalidInput where this one reads vectors."""
        match self.spec:
            case VectorSpec():
                raise no_tokens()
            case spec:
                return spec

    @property
    def decoder_spec(self) -> TransformerSpec:
        """The spec of a decoder of tokens; InvalidInput for every other kind of model."""
        match self.token_spec:
            case TransformerSpec() as spec:
                return spec
            case other:
                raise not_a_decoder(other)

    def validate_layer_type(self) -> None:
        """Replaces the library's check, whose list of layer types is closed."""
        assert set(self.layer_types or ()) <= {KEYS_LAYER, MEMORY_LAYER}
