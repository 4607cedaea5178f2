"""Encoder-decoders: one stack reads a source, the other writes and looks at it; body and language model.

This file must not postpone annotations: the library reads `config: GlassworksConfig` as a class.
"""

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache, GenerationMixin
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
    Seq2SeqLMOutput,
    Seq2SeqModelOutput,
)
from transformers.modeling_utils import slice_logits_to_keep
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.mixers import Softmax
from glassworks.models.attention import Attention
from glassworks.models.blocks import Block
from glassworks.models.cache import MEMORY_LAYER
from glassworks.models.config import GlassworksConfig
from glassworks.models.cross_attention import CrossAttention, CrossBlock, Source
from glassworks.models.hub import GlassworksPreTrainedModel
from glassworks.models.layers import LayerStack, Passage
from glassworks.models.places import padding_of, places_of
from glassworks.models.spec import EncoderDecoderSpec
from glassworks.models.stack import StackSpec

IGNORED = -100
"""The label of positions that are not to be learned."""


class EncoderSide(GlassworksPreTrainedModel, LayerStack):
    """The stack that reads the source: softmax attention in both directions. The body embeds the tokens."""

    main_input_name = "inputs_embeds"

    def __init__(self, config: GlassworksConfig) -> None:
        super().__init__(config)
        self.spec = encoder_stack(encoder_decoder_spec(config))
        self.add_layers(self.spec, [Block(self.spec, layer) for layer in range(self.spec.depth)], ahead=True)
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        inputs_embeds: Float[Tensor, "batch source width"],
        attention_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """The source's vectors; places are counted over real tokens, so padding may stand on either side."""
        length = inputs_embeds.shape[1]
        real = padding_of(attention_mask, length)
        places = places_of(0, length, real, None, self.spec.longest)
        passage = Passage(places, real, ahead=True)
        return BaseModelOutput(self.run(inputs_embeds, passage, output_attentions=bool(output_attentions)))


class DecoderSide(GlassworksPreTrainedModel, LayerStack):
    """The stack that writes: any mixer among its own tokens, softmax attention across to the source."""

    main_input_name = "inputs_embeds"
    _no_split_modules = ["CrossBlock"]  # noqa: RUF012 - the library's own spelling
    _can_record_outputs = {  # noqa: RUF012 - as above
        "hidden_states": CrossBlock,
        "attentions": Attention,
        "cross_attentions": CrossAttention,
    }

    def __init__(self, config: GlassworksConfig) -> None:
        super().__init__(config)
        self.spec = encoder_decoder_spec(config)
        self.add_layers(self.spec, [CrossBlock(self.spec, layer) for layer in range(self.spec.depth)])
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        inputs_embeds: Float[Tensor, "batch position width"],
        source: Source,
        attention_mask: Tensor | None = None,
        position_ids: Int[Tensor, "sequence position"] | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        output_attentions: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """The stream after the last layer. `attention_mask` is 1 at real tokens, remembered ones included."""
        length = inputs_embeds.shape[1]
        seen = 0 if past_key_values is None else int(past_key_values.get_seq_length())
        real = padding_of(attention_mask, seen + length)
        places = places_of(seen, length, real, position_ids, self.spec.longest)
        passage = Passage(places, real)
        hidden = self.run(inputs_embeds, passage, past_key_values, bool(output_attentions), source=source)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=hidden, past_key_values=past_key_values)


class EncoderDecoderModel(GlassworksPreTrainedModel):
    """Both stacks around one embedding, without the unembedding."""

    _no_split_modules = ["Block", "CrossBlock"]  # noqa: RUF012 - the library's own spelling

    def __init__(self, config: GlassworksConfig) -> None:
        super().__init__(config)
        self.spec = encoder_decoder_spec(config)
        self.embed_tokens = nn.Embedding(self.spec.vocabulary, self.spec.width)
        self.encoder = EncoderSide(config)
        self.decoder = DecoderSide(config)
        self._is_stateful = MEMORY_LAYER in (config.layer_types or ())
        self.post_init()

    def read(
        self,
        input_ids: Int[Tensor, "batch source"] | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Float[Tensor, "batch source width"] | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """What the encoder makes of a source."""
        if (input_ids is None) == (inputs_embeds is None):
            raise InvalidInput(say("a model reads either input_ids or inputs_embeds"), right=say("exactly one of them"))
        embedded = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        return self.encoder(inputs_embeds=embedded, attention_mask=attention_mask, **kwargs)

    @can_return_tuple
    @merge_with_config_defaults
    def forward(
        self,
        input_ids: Int[Tensor, "batch source"] | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Int[Tensor, "batch position"] | None = None,
        encoder_outputs: Any = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqModelOutput:
        """The decoder's stream after its last layer, and what the encoder read; `attention_mask` is that of the source.

        Further keywords of the library: `inputs_embeds`, and `decoder_` before `inputs_embeds`, `attention_mask` and
        `position_ids`.
        """
        written = kwargs.pop("decoder_inputs_embeds", None)
        own = {name: kwargs.pop(f"decoder_{name}", None) for name in ("attention_mask", "position_ids")}
        inputs_embeds = kwargs.pop("inputs_embeds", None)
        if (decoder_input_ids is None) == (written is None):
            raise InvalidInput(
                say("the decoder has nothing to read"),
                right=say("decoder_input_ids, or labels, from which they follow"),
            )
        if encoder_outputs is None:
            encoder_outputs = self.read(input_ids, attention_mask, inputs_embeds, **kwargs)
        elif not isinstance(encoder_outputs, BaseModelOutput):
            encoder_outputs = BaseModelOutput(*encoder_outputs)
        vectors = cast(Tensor, encoder_outputs.last_hidden_state)
        outputs = self.decoder(
            inputs_embeds=self.embed_tokens(decoder_input_ids) if written is None else written,
            source=Source(vectors, padding_of(attention_mask, vectors.shape[1])),
            past_key_values=self._cache(past_key_values, bool(use_cache)),
            **own,
            **kwargs,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=outputs.past_key_values,
            decoder_hidden_states=outputs.hidden_states,
            decoder_attentions=outputs.attentions,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=encoder_outputs.last_hidden_state,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
        )

    def _cache(self, given: Cache | None, use_cache: bool) -> EncoderDecoderCache | None:
        if isinstance(given, EncoderDecoderCache):
            return given
        if given is None and not use_cache:
            return None
        own = DynamicCache(config=self.config) if given is None else given
        # Keys of the source are plain keys, whatever memory the decoder's own mixers have.
        return EncoderDecoderCache(own, DynamicCache())


class GlassworksForSeq2SeqLM(GlassworksPreTrainedModel, GenerationMixin):
    """The encoder-decoder with its unembedding: translates, summarises, fills in; trains and generates by the library."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 - the library's own spelling

    def __init__(self, config: GlassworksConfig) -> None:
        super().__init__(config)
        spec = encoder_decoder_spec(config)
        self.model = EncoderDecoderModel(config)
        self.lm_head = nn.Linear(spec.width, spec.vocabulary, bias=False)
        self.factor = spec.width**-0.5 if spec.tied_factor == "inverse_sqrt_width" else 1.0
        self._is_stateful = self.model._is_stateful
        # Labels stand where they are predicted; the library's loss for this kind of name moves them by one.
        self.loss_type = "ForMaskedLM"
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Int[Tensor, "batch source"] | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Int[Tensor, "batch position"] | None = None,
        decoder_inputs_embeds: Float[Tensor, "batch position width"] | None = None,
        labels: Int[Tensor, "batch position"] | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Logits of the next token, and the mean loss in nats over `labels` (-100: none).

        Where labels are given and no decoder_input_ids, the decoder reads the labels moved right behind the start token.
        """
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_inputs_embeds=decoder_inputs_embeds,
            **kwargs,
        )
        logits = self.lm_head(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep) * self.factor)
        loss = None
        if labels is not None:
            loss = cast(Any, self.loss_function)(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        seen = {name: value for name, value in outputs.items() if name != "last_hidden_state"}
        return Seq2SeqLMOutput(loss=loss, logits=logits, **seen)

    def generate(self, inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """The library's `generate`: the start token and what follows for each source, padded on either side."""
        library_generate: Any = cast(Any, GenerationMixin).generate
        return library_generate(self, inputs, *args, **kwargs)

    def prepare_decoder_input_ids_from_labels(self, labels: Int[Tensor, "batch position"]) -> Tensor:
        """What the decoder reads to predict `labels`: the start token, then all labels but the last."""
        return moved_right(labels, self.model.spec.start_token, self.config.pad_token_id)

    def _prepare_text_encoder_decoder_kwargs_for_generation(
        self, inputs_tensor: Tensor, model_kwargs: dict[str, Any], model_input_name: str | None, generation_config: Any
    ) -> dict[str, Any]:
        """The library would hand tokens to the encoder, whose embedding is the body's."""
        read = self.model.read(
            attention_mask=model_kwargs.get("attention_mask"),
            output_attentions=generation_config.output_attentions,
            output_hidden_states=generation_config.output_hidden_states,
            **{model_input_name or "input_ids": inputs_tensor},
        )
        return model_kwargs | {"encoder_outputs": read}

    def _prepare_cache_for_generation(
        self, generation_config: Any, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        """The library's cache, but plain keys of the source, whatever memory the decoder's own mixers have."""
        library: Any = super()
        made = library._prepare_cache_for_generation(generation_config, model_kwargs, *args, **kwargs)
        cache = model_kwargs.get("past_key_values")
        if isinstance(cache, EncoderDecoderCache) and not any(cache.is_updated.values()):
            cache.cross_attention_cache = DynamicCache()
        return made

    @staticmethod
    def create_masks_for_generate(attention_mask: Tensor | None, **kwargs: Any) -> Tensor | None:
        """The mask as it came: mixers make what they need of it."""
        return attention_mask


def moved_right(
    labels: Int[Tensor, "batch position"], start: int, padding: int | None
) -> Int[Tensor, "batch position"]:
    """The start token, then all labels but the last; positions without a label are padding."""
    moved = torch.cat([torch.full_like(labels[:, :1], start), labels[:, :-1]], 1)
    return moved.masked_fill(moved == IGNORED, start if padding is None else padding)


def encoder_stack(spec: EncoderDecoderSpec) -> StackSpec:
    """The layers of the encoder: as the decoder's, in their own number, with softmax attention."""
    depth = spec.depth_of_encoder
    if len(spec.feedforward) > 1 and depth != spec.depth:
        raise InvalidInput(
            say("{given} kinds of feed-forward for {depth} layers of an encoder", given=spec.depth, depth=depth),
            right=say("one kind for all layers, or as many layers on both sides"),
        )
    fields = {name: value for name, value in spec if name in StackSpec.model_fields}
    fields |= {"depth": depth, "mixers": (Softmax(),)}
    for name in ("rotary_layers", "query_key_norm_layers"):
        if fields[name] is not None:
            fields[name] = tuple(layer for layer in fields[name] if layer < depth)
    return StackSpec(**fields)


def encoder_decoder_spec(config: GlassworksConfig) -> EncoderDecoderSpec:
    """The spec of an encoder-decoder; InvalidInput for every other kind of model."""
    match config.token_spec:
        case EncoderDecoderSpec() as spec:
            return spec
        case other:
            raise InvalidInput(
                say(
                    "this model is of kind {kind}; only an encoder-decoder turns a source into a text", kind=other.kind
                ),
                right=say("a model of kind encoder_decoder, or the class that this kind is made for"),
            )
