"""The model that a later stage starts from, with its tokenizer and its way of writing conversations."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from torch import nn
from transformers import GenerationMixin, PreTrainedModel, PreTrainedTokenizerBase

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.models.load import load
from glassworks.training.stages.base import Desk, LearningSpec
from glassworks.training.stages.chat import Chat
from glassworks.training.stages.laying import Manner, Source, is_laid
from glassworks.training.stages.rewards import positions_of
from glassworks.training.stages.sharding import with_start
from glassworks.training.stages.trainer import with_adapters


@dataclass(frozen=True, eq=False)
class Opened:
    """A decoder of text with its tokenizer, ready to be trained in float32."""

    model: PreTrainedModel
    chat: Chat
    source: Source | None = None
    """Where a model that is cut into shards came from; None for a whole one."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, which has a chat template, a padding token and an end."""
        return self.chat.tokenizer

    def reference(self, manner: Manner) -> PreTrainedModel:
        """A copy of the model as it was opened, which is never trained, in evaluation mode; cut where the model is."""
        copied = copy.deepcopy(self.model) if self.source is None else self.source.laid(manner).model
        return copied.eval().requires_grad_(False)


def open_start(spec: LearningSpec, desk: Desk, *, add: bool = False, lays: bool = True) -> Opened:
    """Loads what a stage starts from. InvalidInput for no decoder, no tokenizer, one that does not fit, or too few positions.

    Where the stage is sharded each process makes room for its own part of the model alone, whose gradients are averaged, or
    added up where `add` is true. A stage that builds another model of it (`lays` false) gets it without its numbers.
    """
    if not spec.start:
        raise InvalidInput(
            say("{kind} starts from a model, and none is named", kind=spec.kind),
            right=say("start=FOLDER, or the name of a gallery model"),
            next_command="glassworks models list",
        )
    source = Source(spec.start, desk.options.device) if is_laid(desk) else None
    if source is None:
        subject = load(spec.start, device=str(desk.options.device), dtype="float32")
        model, tokenizer = subject.model, subject.tokenizer
    else:
        model, tokenizer = source.form, source.about.tokenizer
    if not isinstance(model, PreTrainedModel) or not isinstance(model, GenerationMixin):
        raise InvalidInput(
            say("this model writes no text after a prompt"), given=type(model).__name__, right=say("a decoder")
        )
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise InvalidInput(
            say("{start} has no tokenizer that writes conversations", start=spec.start),
            right=say("a model with a tokenizer of its own"),
            next_command="glassworks train tokenizer --help",
        )
    chat = Chat(tokenizer)
    check_fit(chat, model, spec.length)
    if source is not None and lays:
        model = lay_down(source, spec, desk, add=add)
    # A new copy of the library's settings for each model that is laid.
    _settle(chat, model)
    model.train()
    return Opened(model, chat, source)


def lay_down(
    source: Source, spec: LearningSpec, desk: Desk, *, add: bool = False, made: Callable[[Any], nn.Module] | None = None
) -> Any:
    """The model that a sharded stage trains, or what `made` builds of it, cut, with its adapters at the desk."""
    manner = Manner(desk.options.device, partial(_adapted, spec=spec), add)
    laid = source.laid(manner, made)
    desk.learner, desk.hollow = laid.learner, laid.hollow
    return laid.model


def _adapted(model: Any, spec: LearningSpec) -> Any:
    adapted = with_adapters(model, spec)
    return with_start(adapted) if spec.lora and spec.has_reference else adapted


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


def _settle(chat: Chat, model: PreTrainedModel) -> None:
    # The library takes these from the model and not from the tokenizer when it generates and pads.
    model.config.pad_token_id = chat.tokenizer.pad_token_id
    habits: Any = model.generation_config
    if habits is not None:
        habits.pad_token_id = chat.tokenizer.pad_token_id
        habits.eos_token_id = chat.tokenizer.eos_token_id
