"""Greedy continuations of texts, stopped where a task says."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from glassworks.anatomy import Subject
from glassworks.anatomy.tokens import check_tokens, padded
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.evaluation.spelling import Spelling

PROMPTS_PER_BATCH = 8


def generate_texts(
    subject: Subject,
    prompts: Sequence[str],
    until: Sequence[str] = (),
    max_new_tokens: int = 256,
    batch: int = PROMPTS_PER_BATCH,
    first_token: str = "auto",
) -> list[str]:
    """The model's greedy continuation of each prompt by its own `generate`, up to the first of the `until` texts.

    Prompts of like length are run together, padded on the left; one too long for the context loses its beginning, as in
    the harness. Raises InvalidInput where the context has no room for the new tokens.
    """
    if not isinstance(subject.model, GenerationMixin):
        raise InvalidInput(say("this model has no generate()"), given=type(subject.model).__name__)
    model: Any = subject.model
    rows = _spelled(subject, prompts, max_new_tokens, first_token)
    order = sorted(range(len(rows)), key=lambda number: -len(rows[number]))
    found: dict[int, str] = {}
    translates = subject.anatomy.has_source
    for first in range(0, len(order), batch):
        group = order[first : first + batch]
        made = padded([rows[number] for number in group], side="right" if translates else "left").to(subject.device)
        check_tokens(made.ids, subject.anatomy.vocabulary, None)
        # An encoder-decoder answers with its own start token first, a decoder with the prompt.
        start = 1 if translates else made.ids.shape[1]
        with torch.no_grad():
            ids: Tensor = model.generate(
                made.ids,
                attention_mask=made.real.long(),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                pad_token_id=0,
                stopping_criteria=StoppingCriteriaList([_UntilText(subject, until, start)]),
            )
        for number, new in zip(group, ids[:, start:].tolist(), strict=True):
            found[number] = cut_at(text_of(subject, new), until)
    return [found[number] for number in range(len(prompts))]


def cut_at(text: str, until: Sequence[str]) -> str:
    """The text before the first of the stop texts in it."""
    return text[: min((place for stop in until if stop and (place := text.find(stop)) >= 0), default=len(text))]


class _UntilText(StoppingCriteria):
    """Ends a row once its new text holds a stop text."""

    def __init__(self, subject: Subject, until: Sequence[str], start: int) -> None:
        self._subject, self._until, self._start = subject, tuple(until), start

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Which rows of [batch, position] ids have ended, [batch]."""
        texts = [text_of(self._subject, row) for row in input_ids[:, self._start :].tolist()]
        ended = [any(stop in text for stop in self._until if stop) for text in texts]
        return torch.tensor(ended, device=input_ids.device)


def _spelled(subject: Subject, prompts: Sequence[str], max_new_tokens: int, first_token: str) -> list[list[int]]:
    spelling = Spelling.of(subject, first_token)
    room = None if subject.anatomy.context is None else subject.anatomy.context - max_new_tokens - len(spelling.front)
    if room is not None and room < 1:
        raise InvalidInput(
            say("the model's context has no room for {count} new tokens", count=max_new_tokens),
            right=say("at most {count} tokens", count=max_new_tokens + room - 1),
        )
    back = spelling.back if subject.anatomy.has_source else ()
    return [[*spelling.front, *_last(spelling.plain(prompt), room), *back] for prompt in prompts]


def _last(ids: list[int], room: int | None) -> list[int]:
    return ids if room is None else ids[-room:]


def text_of(subject: Subject, ids: Sequence[int]) -> str:
    """The text of new tokens, without special ones, as the harness reads it."""
    tokenizer: Any = subject.tokenizer
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        return str(tokenizer.decode(list(ids), skip_special_tokens=True))  # pyright: ignore[reportCallIssue] - the base declares it through **kwargs
    return subject.to_string(ids)
