"""The classifier of texts on every kind of body, which is also the regression head and the reward model; the Auto classes.

This file must not postpone annotations: the library reads `config: GlassworksConfig` as a class.
"""

from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils.generic import can_return_tuple

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.models.config import GlassworksConfig
from glassworks.models.encoder import EncoderModel, GlassworksForMaskedLM, first_vector
from glassworks.models.hub import GlassworksModel, GlassworksPreTrainedModel
from glassworks.models.places import padding_of
from glassworks.models.recurrent_memory import RecurrentMemoryModel
from glassworks.models.seq2seq import EncoderDecoderModel, GlassworksForSeq2SeqLM, moved_right
from glassworks.models.spec import AnyModel, EncoderDecoderSpec, EncoderSpec, RecurrentMemorySpec


class GlassworksForSequenceClassification(GlassworksPreTrainedModel):
    """A body and one linear map of one vector per text: `num_labels` scores, or one number for a regression or a reward.

    The vector is a decoder's last real token's; an encoder's pooled one, or its first real token's; and, of an
    encoder-decoder, that of the decoder at the last token while it reads the same text moved right (BART).
    """

    def __init__(self, config: GlassworksConfig) -> None:
        super().__init__(config)
        spec = config.token_spec
        self.num_labels = cast(int, config.num_labels)
        self.model: Any = body_class(spec)(config)
        self.score = nn.Linear(spec.width, self.num_labels, bias=isinstance(spec, EncoderSpec))
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Int[Tensor, "batch position"] | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Float[Tensor, "batch position width"] | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Scores of the text (batch x labels), and the loss where labels are given: a class, a number, or one per label.

        Without a mask, tokens that are the config's padding token at the end of a text count as padding.
        """
        mask = self._mask(input_ids) if attention_mask is None else attention_mask
        read = {"input_ids": input_ids, "attention_mask": mask, "inputs_embeds": inputs_embeds} | kwargs
        match self.config.spec:
            case EncoderSpec():
                outputs = self.model(**read)
                vectors = outputs.last_hidden_state
                pooled = outputs.pooler_output
                pooled = first_vector(vectors, _real(mask, vectors)) if pooled is None else pooled
            case EncoderDecoderSpec() as spec:
                outputs, pooled = self._written(spec, read)
            case _:
                # A classifier never goes on with a text, so nothing is remembered unless asked for.
                outputs = self.model(use_cache=bool(use_cache), **read)
                pooled = last_vector(outputs.last_hidden_state, _real(mask, outputs.last_hidden_state))
        logits = self.score(pooled)
        loss = None if labels is None else self._loss(logits, labels)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=_shown(outputs, "hidden_states"),
            attentions=_shown(outputs, "attentions"),
        )  # fmt: skip

    def _mask(self, input_ids: Tensor | None) -> Tensor | None:
        padding = self.config.pad_token_id
        if padding is None or input_ids is None:
            return None
        # Only what stands behind the last other token, or before the first one, is padding.
        other = (input_ids != padding).long()
        return ((other.cumsum(1) > 0) & (other.flip(1).cumsum(1).flip(1) > 0)).long()

    def _written(self, spec: EncoderDecoderSpec, read: dict[str, Any]) -> tuple[Any, Tensor]:
        ids, mask = read["input_ids"], read["attention_mask"]
        if ids is None:
            raise InvalidInput(
                say("the decoder of a classifier reads the text's tokens, not vectors"), right=say("input_ids")
            )
        if mask is not None:
            # The text to be written begins at once and ends in its padding, on whichever side the source has it.
            order = (mask == 0).long().argsort(dim=1, stable=True)
            ids, mask = ids.gather(1, order), mask.gather(1, order)
        written = moved_right(ids, spec.start_token, self.config.pad_token_id)
        outputs = self.model(**read, decoder_input_ids=written, decoder_attention_mask=mask, use_cache=False)
        return outputs, last_vector(outputs.last_hidden_state, _real(mask, outputs.last_hidden_state))

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.config.problem_type == "regression" or (self.config.problem_type is None and self.num_labels == 1):
            labels = labels.to(logits.dtype)
        return cast(Any, self.loss_function)(labels=labels, pooled_logits=logits, config=self.config)


class AnyBody(GlassworksPreTrainedModel):
    """The door by which `AutoModel` finds the body that a spec asks for; never built itself."""

    @classmethod
    def from_pretrained(cls, source: Any, *args: Any, config: Any = None, **kwargs: Any) -> Any:
        """The body in a folder, of the class for its kind."""
        config = GlassworksConfig.from_pretrained(source) if config is None else config
        return body_class(config.spec).from_pretrained(source, *args, config=config, **kwargs)

    @classmethod
    def _from_config(cls, config: Any, **kwargs: Any) -> Any:
        return cast(Any, body_class(config.spec))._from_config(config, **kwargs)


def body_class(spec: AnyModel) -> type[GlassworksPreTrainedModel]:
    """The class of the body for a kind of model."""
    match spec:
        case EncoderSpec():
            return EncoderModel
        case EncoderDecoderSpec():
            return EncoderDecoderModel
        case RecurrentMemorySpec():
            return RecurrentMemoryModel
        case _:
            return GlassworksModel


def last_vector(
    vectors: Float[Tensor, "batch position width"], real: Bool[Tensor, "batch position"] | None
) -> Float[Tensor, "batch width"]:
    """The vector of each text's last real token, on whichever side its padding stands."""
    if real is None:
        return vectors[:, -1]
    last = real.shape[1] - 1 - real.long().flip(1).argmax(1)
    return vectors[torch.arange(len(vectors), device=vectors.device), last]


def register_heads() -> None:
    """Enters the classes of encoders, encoder-decoders and classifiers in the library's tables."""
    for auto, kind in (
        (AutoModel, AnyBody),
        (AutoModelForMaskedLM, GlassworksForMaskedLM),
        (AutoModelForSeq2SeqLM, GlassworksForSeq2SeqLM),
        (AutoModelForSequenceClassification, GlassworksForSequenceClassification),
    ):
        auto.register(GlassworksConfig, kind, exist_ok=True)


def _real(mask: Tensor | None, vectors: Tensor) -> Tensor | None:
    return padding_of(mask, vectors.shape[1])


def _shown(outputs: Any, name: str) -> Any:
    """What the body recorded; of an encoder-decoder, what its decoder did."""
    return outputs.get(name, outputs.get(f"decoder_{name}"))
