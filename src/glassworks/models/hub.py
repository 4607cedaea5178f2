"""The Hugging Face face of the decoder: config, base model, language model, and their registration.

This file must not postpone annotations: the library reads `config: GlassworksConfig` as a class.
"""

from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    DynamicCache,
    GenerationMixin,
    PreTrainedModel,
)
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import slice_logits_to_keep
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.models.attention import Attention
from glassworks.models.blocks import Block
from glassworks.models.cache import MEMORY_LAYER, enable_static_caches
from glassworks.models.config import GlassworksConfig, no_tokens, not_a_decoder
from glassworks.models.initialise import initialise
from glassworks.models.layers import LayerStack, Passage
from glassworks.models.places import known_starts_of, left_padded, padding_of, places_of, prefix_of
from glassworks.models.spec import (
    AnyModel,
    RecurrentMemorySpec,
    TransformerSpec,
    VectorSpec,
)


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


class GlassworksModel(GlassworksPreTrainedModel, LayerStack):
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
        self.add_layers(self.spec, [Block(self.spec, layer) for layer in range(self.spec.depth)])
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
        prefix: Int[Tensor, " batch"] | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """The stream after the last layer. `attention_mask` is 1 at real tokens, remembered ones included.

        `written` is how many times each token counts in memories that add up (1 unless given). Where `position_ids` start
        again from 0 a new text begins, which needs mixers that can keep texts apart. `prefix` counts the real tokens at each
        sequence's beginning that see each other, for a spec that reads="prefix"; they are read in one call.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise InvalidInput(say("a model reads either input_ids or inputs_embeds"), right=say("exactly one of them"))
        hidden = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        seen = int(past_key_values.get_seq_length()) if past_key_values is not None else 0
        length = hidden.shape[1]
        padding = padding_of(attention_mask, seen + length)
        starts = known_starts_of(position_ids, padding, seen, len(hidden)) if self.spec.resets else None
        places = places_of(seen, length, padding, position_ids, self.spec.longest, packs=self.spec.resets)
        beginning = None if prefix is None else prefix_of(prefix, padding, seen, self.spec)
        passage = Passage(places, padding, starts, written, prefix=beginning)
        hidden = self.run(hidden, passage, past_key_values, bool(output_attentions))
        return BaseModelOutputWithPast(last_hidden_state=hidden, past_key_values=past_key_values)


def _embedding(spec: AnyModel) -> nn.Module:
    match spec:
        case TransformerSpec():
            return nn.Embedding(spec.vocabulary, spec.width)
        case VectorSpec():
            return nn.Linear(spec.inputs, spec.width, bias=False) if spec.embedding == "linear" else nn.Identity()
        case _:
            raise not_a_decoder(spec)


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
        spec = config.decoder_spec
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
        prefix: Int[Tensor, " batch"] | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits of the next token at every position, and the mean loss in nats where labels are given.

        `prefix` is the body's. Where it is given, labels within it should be -100: those tokens see their successors.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            # A body that knows no prefix is not told of one.
            **(kwargs if prefix is None else kwargs | {"prefix": prefix}),
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

        New tokens can only follow the last column, so the returned sequences then begin with the padding. Where the spec
        reads="prefix", all tokens of a fresh prompt see each other unless `prefix` says how many of them.
        """
        ids = kwargs.pop("input_ids", None) if inputs is None else inputs
        mask = kwargs.get("attention_mask")
        if ids is not None and mask is not None and kwargs.get("past_key_values") is None:
            ids, kwargs["attention_mask"] = left_padded(ids, mask)
        if self.config.decoder_spec.reads == "prefix" and ids is not None and kwargs.get("past_key_values") is None:
            # Given, so that the library does not take a token of the prompt for padding and count otherwise.
            kwargs["attention_mask"] = real = torch.ones_like(ids) if mask is None else kwargs["attention_mask"]
            if kwargs.get("prefix") is None:
                kwargs["prefix"] = (real != 0).sum(1)
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
