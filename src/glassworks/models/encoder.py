"""Encoders: every token sees every other; vectors of tokens and texts, and the masked language model.

This file must not postpone annotations: the library reads `config: GlassworksConfig` as a class.
"""

from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling, MaskedLMOutput
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.models.blocks import Block
from glassworks.models.config import GlassworksConfig
from glassworks.models.hub import GlassworksPreTrainedModel
from glassworks.models.layers import LayerStack, Passage
from glassworks.models.places import padding_of, places_of
from glassworks.models.prediction import Pooler, Prediction
from glassworks.models.spec import EncoderSpec


class EncoderModel(GlassworksPreTrainedModel, LayerStack):
    """The encoder without a head; with a pooler where the spec has one and `with_pooler` lets it."""

    def __init__(self, config: GlassworksConfig, with_pooler: bool = True) -> None:
        super().__init__(config)
        spec = encoder_spec(config)
        self.spec: EncoderSpec = spec
        self.embed_tokens = nn.Embedding(spec.vocabulary, spec.width)
        self.embed_types = nn.Embedding(spec.token_types, spec.width) if spec.token_types else None
        self.add_layers(spec, [Block(spec, layer) for layer in range(spec.depth)], ahead=True)
        self.pooler = Pooler(spec) if spec.pooler and with_pooler else None
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Int[Tensor, "batch position"] | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Int[Tensor, "batch position"] | None = None,
        position_ids: Int[Tensor, "sequence position"] | None = None,
        inputs_embeds: Float[Tensor, "batch position width"] | None = None,
        output_attentions: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """The vectors of all tokens, and of the text where there is a pooler; `attention_mask` is 1 at real tokens.

        Places are counted over real tokens, so padding may stand on either side.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise InvalidInput(say("a model reads either input_ids or inputs_embeds"), right=say("exactly one of them"))
        hidden = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        length = hidden.shape[1]
        real = padding_of(attention_mask, length)
        places = places_of(0, length, real, position_ids, self.spec.longest)
        hidden = self._typed(hidden, token_type_ids)
        hidden = self.run(hidden, Passage(places, real, ahead=True), output_attentions=bool(output_attentions))
        pooled = None if self.pooler is None else self.pooler(first_vector(hidden, real))
        return BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=pooled)

    def _typed(self, hidden: Tensor, types: Tensor | None) -> Tensor:
        """The embeddings with the vectors of the tokens' kinds, the first kind unless told."""
        known = self.spec.token_types
        if types is not None and not torch.compiler.is_compiling() and int(types.max()) >= max(known, 1):
            raise InvalidInput(
                say("a token of kind {kind}; this encoder knows {known} kinds", kind=int(types.max()), known=known),
                right=say("token_type_ids below {known}, or none", known=max(known, 1)),
            )
        if self.embed_types is None:
            return hidden
        return hidden + (self.embed_types.weight[0] if types is None else self.embed_types(types))


class GlassworksForMaskedLM(GlassworksPreTrainedModel):
    """The encoder with an unembedding: rebuilds the tokens that were hidden from it. It has no pooler."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 - the library's own spelling

    def __init__(self, config: GlassworksConfig) -> None:
        super().__init__(config)
        spec = encoder_spec(config)
        self.model = EncoderModel(config, with_pooler=False)
        self.prediction = Prediction(spec, spec.vocabulary) if spec.prediction_transform else None
        self.lm_head = nn.Linear(spec.width, spec.vocabulary, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Int[Tensor, "batch position"] | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Int[Tensor, "batch position"] | None = None,
        position_ids: Int[Tensor, "sequence position"] | None = None,
        inputs_embeds: Float[Tensor, "batch position width"] | None = None,
        labels: Int[Tensor, "batch position"] | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Logits of the token at every position, and the mean loss in nats over those with a label (-100: none)."""
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        if self.prediction is None:
            logits = self.lm_head(hidden)
        else:
            logits = self.lm_head(self.prediction(hidden)) + self.prediction.bias
        loss = None
        if labels is not None:
            loss = cast(Any, self.loss_function)(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Embedding:
        """The library's, with one constant for each token; those of new tokens are 0."""
        embedding: nn.Embedding = super().resize_token_embeddings(new_num_tokens, *args, **kwargs)
        if self.prediction is not None:
            bias = self.prediction.bias.data
            longer = bias.new_zeros(embedding.num_embeddings)
            kept = min(len(bias), len(longer))
            longer[:kept] = bias[:kept]
            self.prediction.bias = nn.Parameter(longer)
        return embedding


def first_vector(
    vectors: Float[Tensor, "batch position width"], real: Bool[Tensor, "batch position"] | None
) -> Float[Tensor, "batch width"]:
    """The vector of each text's first real token."""
    if real is None:
        return vectors[:, 0]
    first = real.long().argmax(1)
    return vectors[torch.arange(len(vectors), device=vectors.device), first]


def encoder_spec(config: GlassworksConfig) -> EncoderSpec:
    """The spec of an encoder; InvalidInput for every other kind of model."""
    match config.token_spec:
        case EncoderSpec() as spec:
            return spec
        case other:
            raise InvalidInput(
                say("this model is of kind {kind}; only an encoder rebuilds hidden tokens", kind=other.kind),
                right=say("a model of kind encoder, or the class that this kind is made for"),
            )
