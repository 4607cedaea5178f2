"""The Hugging Face face of the decoder: config, base model, language model, and their registration.

This file must not postpone annotations: the library reads `config: GlassworksConfig` as a class.
"""

from dataclasses import field
from typing import Any, Literal, cast, no_type_check

import torch
from huggingface_hub.dataclasses import strict
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    DynamicCache,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import slice_logits_to_keep
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.mixers import Gates
from glassworks.models.attention import Attention
from glassworks.models.blocks import Block
from glassworks.models.cache import KEYS_LAYER, MEMORY_LAYER, enable_static_caches
from glassworks.models.initialise import initialise
from glassworks.models.norms import build_norm
from glassworks.models.places import left_padded, padding_of, places_of, starts_of
from glassworks.models.positions import PositionTable, rotation_at
from glassworks.models.spec import (
    AnyModel,
    RecurrentMemorySpec,
    StackSpec,
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


# The library's own check sees to the types; a second one would not know the fields it passes on.
@no_type_check
@strict
class GlassworksConfig(PreTrainedConfig):
    """A spec of a decoder as a transformers config; `transformer` is the spec, the rest follows from it."""

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
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    tie_word_embeddings: bool = False
    auto_map: dict[str, Any] = field(default_factory=dict[str, Any])
    """Empty; TRL reads it of every architecture from outside the library."""

    def __post_init__(self, **kwargs: Any) -> None:
        """Derives the sizes that the library and its friends look for."""
        spec = self.spec
        self.vocab_size = spec.vocabulary if isinstance(spec, TransformerSpec) else None
        self.hidden_size = spec.width
        self.num_hidden_layers = spec.depth
        self.num_attention_heads = spec.sizes.query_heads
        self.num_key_value_heads = spec.sizes.kv_heads
        self.head_dim = spec.width_of_head
        self.intermediate_size = spec.width_of_feedforward
        self.max_position_embeddings = spec.context
        self.tie_word_embeddings = isinstance(spec, TransformerSpec) and spec.tie_output
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
    def token_spec(self) -> TransformerSpec:
        """The spec of a model that reads tokens; InvalidInput where this one reads vectors."""
        match self.spec:
            case TransformerSpec() as spec:
                return spec
            case VectorSpec():
                raise no_tokens()

    def validate_layer_type(self) -> None:
        """Replaces the library's check, whose list of layer types is closed."""
        assert set(self.layer_types or ()) <= {KEYS_LAYER, MEMORY_LAYER}


class GlassworksPreTrainedModel(PreTrainedModel):
    """What the library needs to know of every Glassworks model."""

    config: GlassworksConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]  # noqa: RUF012 - the library's own spelling
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012 - the library's own spelling
    _supports_sdpa = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": Block, "attentions": Attention}  # noqa: RUF012 - as above

    def _init_weights(self, module: nn.Module) -> None:
        """Draws from the global generator, as the library does; `build_model` draws from a seed instead."""
        initialise(module, self.config.spec)


class GlassworksModel(GlassworksPreTrainedModel):
    """The decoder without its unembedding."""

    def __init__(self, config: GlassworksConfig) -> None:
        super().__init__(config)
        self.spec = config.spec
        if isinstance(self.spec, RecurrentMemorySpec) and type(self) is GlassworksModel:
            raise InvalidInput(
                say("this model reads segment by segment; its body alone is a RecurrentMemoryModel"),
                right=say("AutoModelForCausalLM, or the class RecurrentMemoryModel"),
            )
        self.embed_tokens = _embedding(self.spec)
        self.embed_positions = PositionTable(self.spec) if self.spec.has_table else None
        self.layers = nn.ModuleList([Block(self.spec, layer) for layer in range(self.spec.depth)])
        self.norm = build_norm(self.spec) if self.spec.has_final_norm else None
        self.gradient_checkpointing = False
        self._is_stateful = MEMORY_LAYER in (config.layer_types or ())
        self.post_init()

    @property
    def token_vectors(self) -> Float[Tensor, "token width"]:
        """The embedding of every token; InvalidInput in a model that reads vectors."""
        match self.embed_tokens:
            case nn.Embedding(weight=weight):
                return weight
            case _:
                raise no_tokens()

    def block(self, layer: int) -> Block:
        """A layer, counted from 0."""
        return cast(Block, self.layers[layer])

    def matrix(self, layer: int, name: Literal["query", "key", "value", "output"]) -> Tensor:
        """A layer's projection (output x input): its weight, or a new identity matrix."""
        attention = self.block(layer).self_attn
        projections = {
            "query": attention.q_proj,
            "key": attention.k_proj,
            "value": attention.v_proj,
            "output": attention.o_proj,
        }
        match projections[name]:
            case nn.Linear(weight=weight):
                return weight
            case _:
                stream = next(self.parameters())
                return torch.eye(self.spec.width, dtype=stream.dtype, device=stream.device)

    def position_vectors(self, length: int) -> Float[Tensor, "position width"]:
        """The vectors added at the first `length` positions; InvalidInput where positions are not a table."""
        if self.embed_positions is None:
            raise InvalidInput(
                say(
                    "this model adds no position vectors; its positions are {positions}",
                    positions=self.spec.positions,
                ),
                right=say("learned, random or sinusoidal positions"),
            )
        return self.embed_positions(places_of(0, length, None, None, self.spec.context))[0]

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Int[Tensor, "batch position"] | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Int[Tensor, "sequence position"] | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Float[Tensor, "batch position width"] | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        written: Float[Tensor, "batch position"] | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """The stream after the last layer. `attention_mask` is 1 at real tokens, remembered ones included.

        `written` is how many times each token counts in memories that add up (1 unless given). Where `position_ids` start
        again from 0 a new text begins, which needs mixers that can keep texts apart.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise InvalidInput(say("a model reads either input_ids or inputs_embeds"), right=say("exactly one of them"))
        hidden = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        seen = int(past_key_values.get_seq_length()) if past_key_values is not None else 0
        length = hidden.shape[1]
        padding = padding_of(attention_mask, seen + length)
        starts = starts_of(position_ids, padding, seen) if self.spec.resets else None
        places = places_of(seen, length, padding, position_ids, self.spec.longest, packs=self.spec.resets)
        period = self.spec.position_period
        table = None if self.embed_positions is None else self.embed_positions(places.within(period, hidden.device))
        code = table if self.spec.positions == "concatenated" else None
        if table is not None and code is None:
            hidden = hidden + table
        rotation = rotation_at(places, self.spec, hidden.device) if self.spec.positions == "rotary" else None
        # One strength per token serves all key-value heads.
        write = None if written is None else written[:, None].expand(-1, self.spec.sizes.kv_heads, -1)
        starts = None if starts is None else starts.expand(hidden.shape[0], -1)
        gates = None if padding is None and starts is None and write is None else Gates(padding, None, write, starts)
        for layer in self.layers:
            hidden = layer(
                hidden,
                gates=gates,
                rotation=rotation,
                past_key_values=past_key_values,
                output_attentions=bool(output_attentions),
                code=code,
            )
        if self.norm is not None:
            hidden = self.norm(hidden)
        return BaseModelOutputWithPast(last_hidden_state=hidden, past_key_values=past_key_values)


def _embedding(spec: AnyModel) -> nn.Module:
    match spec:
        case TransformerSpec():
            return nn.Embedding(spec.vocabulary, spec.width)
        case VectorSpec():
            return nn.Linear(spec.inputs, spec.width, bias=False) if spec.embedding == "linear" else nn.Identity()


def _body(config: GlassworksConfig) -> GlassworksModel:
    if not isinstance(config.spec, RecurrentMemorySpec):
        return GlassworksModel(config)
    # It builds on this module.
    from glassworks.models.recurrent_memory import RecurrentMemoryModel

    return RecurrentMemoryModel(config)


class GlassworksForCausalLM(GlassworksPreTrainedModel, GenerationMixin):
    """The decoder with its unembedding: trains, generates, saves and loads as any model of the library."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 - as above

    def __init__(self, config: GlassworksConfig) -> None:
        super().__init__(config)
        spec = config.token_spec
        self.model = _body(config)
        self.lm_head = nn.Linear(spec.width, spec.vocabulary, bias=False)
        self._is_stateful = self.model._is_stateful
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Int[Tensor, "batch position"] | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Int[Tensor, "sequence position"] | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Float[Tensor, "batch position width"] | None = None,
        labels: Int[Tensor, "batch position"] | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits of the next token at every position, and the mean loss in nats where labels are given."""
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        logits = self.lm_head(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            loss = cast(Any, self.loss_function)(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def generate(self, inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """The library's `generate`; prompts padded on the right are moved to the right edge first.

        New tokens can only follow the last column, so the returned sequences then begin with the padding.
        """
        ids = kwargs.pop("input_ids", None) if inputs is None else inputs
        mask = kwargs.get("attention_mask")
        if ids is not None and mask is not None and kwargs.get("past_key_values") is None:
            ids, kwargs["attention_mask"] = left_padded(ids, mask)
        library_generate: Any = cast(Any, GenerationMixin).generate
        return library_generate(self, ids, *args, **kwargs)

    @staticmethod
    def create_masks_for_generate(attention_mask: Tensor | None, **kwargs: Any) -> Tensor | None:
        """The mask as it came: mixers make what they need of it."""
        return attention_mask


class FirstNumbers(nn.Module):
    """The first numbers of the stream, as they are."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch output"]:
        """The first `count` numbers."""
        return x[..., : self.count]


class VectorTransformer(GlassworksPreTrainedModel):
    """The decoder of vectors: reads numbers at each position and predicts numbers there; no tokens anywhere."""

    main_input_name = "inputs_embeds"

    def __init__(self, config: GlassworksConfig) -> None:
        super().__init__(config)
        spec = config.spec
        assert isinstance(spec, VectorSpec), "the config of a decoder of vectors"
        self.model = GlassworksModel(config)
        linear = spec.readout == "linear"
        self.readout = nn.Linear(spec.width, spec.outputs, bias=False) if linear else FirstNumbers(spec.outputs)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        inputs_embeds: Float[Tensor, "batch position input"],
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Predictions (`logits`, batch x position x outputs) at every position."""
        stream = self.model.embed_tokens(inputs_embeds)
        outputs = self.model(inputs_embeds=stream, past_key_values=past_key_values, use_cache=use_cache, **kwargs)
        return CausalLMOutputWithPast(
            logits=self.readout(outputs.last_hidden_state),
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def register() -> None:
    """Enters the architecture in the library's tables, so that the Auto classes know its folders."""
    enable_static_caches()
    AutoConfig.register(GlassworksConfig.model_type, GlassworksConfig, exist_ok=True)
    AutoModel.register(GlassworksConfig, GlassworksModel, exist_ok=True)
    AutoModelForCausalLM.register(GlassworksConfig, GlassworksForCausalLM, exist_ok=True)
