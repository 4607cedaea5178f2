"""The model that a later stage starts from, with its tokenizer and its way of writing conversations."""

from dataclasses import dataclass
from typing import Any, cast

from transformers import GenerationMixin, PreTrainedModel, PreTrainedTokenizerBase

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.models.load import load
from glassworks.training.stages.base import Desk, LearningSpec
from glassworks.training.stages.chat import Chat
from glassworks.training.stages.rewards import positions_of


@dataclass(frozen=True, eq=False)
class Opened:
    """A decoder of text with its tokenizer, ready to be trained in float32."""

    model: PreTrainedModel
    chat: Chat

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, which has a chat template, a padding token and an end."""
        return self.chat.tokenizer


def open_start(spec: LearningSpec, desk: Desk) -> Opened:
    """Loads what a stage starts from. InvalidInput for no decoder, no tokenizer, one that does not fit, or too few positions."""
    if not spec.start:
        raise InvalidInput(
            say("{kind} starts from a model, and none is named", kind=spec.kind),
            right=say("start=FOLDER, or the name of a gallery model"),
            next_command="glassworks models list",
        )
    subject = load(spec.start, device=str(desk.options.device), dtype="float32")
    model = subject.model
    if not isinstance(model, PreTrainedModel) or not isinstance(model, GenerationMixin):
        raise InvalidInput(
            say("this model writes no text after a prompt"), given=type(model).__name__, right=say("a decoder")
        )
    if not isinstance(subject.tokenizer, PreTrainedTokenizerBase):
        raise InvalidInput(
            say("{start} has no tokenizer that writes conversations", start=spec.start),
            right=say("a model with a tokenizer of its own"),
            next_command="glassworks train tokenizer --help",
        )
    chat = Chat(subject.tokenizer)
    check_fit(chat, model, spec.length)
    model.train()
    return Opened(model, chat)


def check_fit(chat: Chat, model: PreTrainedModel, length: int) -> None:
    """InvalidInput where the tokenizer has tokens that the model lacks, or sequences are longer than its positions."""
    rows = cast(Any, model.get_input_embeddings()).weight.shape[0]
    if len(chat.tokenizer) > rows:
        raise InvalidInput(
            say("the tokenizer does not fit the model"),
            given=say("{tokens} tokens, {rows} rows in the embedding", tokens=len(chat.tokenizer), rows=rows),
            right=say("the tokenizer that the model was trained with"),
        )
    positions = positions_of(model)
    if positions is not None and length > positions:
        raise InvalidInput(
            say("sequences are longer than the model's positions"),
            given=say("length {length}, {positions} positions", length=length, positions=positions),
            right=say("length={positions} or less", positions=positions),
        )
    # The library takes these from the model and not from the tokenizer when it generates and pads.
    model.config.pad_token_id = chat.tokenizer.pad_token_id
    habits: Any = model.generation_config
    if habits is not None:
        habits.pad_token_id = chat.tokenizer.pad_token_id
        habits.eos_token_id = chat.tokenizer.eos_token_id
