"""A conversation with a decoder: turns in the model's own chat template, what was read kept from turn to turn."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.models.candidates import Sampling, Step
from glassworks.models.generating import Engine, Word, longest_of, writer_of

USER, ASSISTANT = "User:", "Assistant:"


class _TurnOver(Exception):
    """Ends an answer in which the model began to speak for the person."""


@dataclass
class _Heard:
    """What has come of an answer so far."""

    tokens: list[int] = field(default_factory=list[int])
    text: str = ""
    steps: list[Step] = field(default_factory=list[Step])


@dataclass(frozen=True)
class Answer:
    """What the model said in one turn."""

    text: str
    ids: tuple[int, ...]
    prompt_tokens: int
    """Of the whole conversation up to the answer, as the template has it."""
    context: int | None
    """Tokens that the model can hold in mind; None where there is no end."""
    is_ended: bool
    """Whether the model ended its turn itself."""
    is_stopped: bool
    """Whether it was stopped from outside."""
    seconds: float
    steps: tuple[Step, ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        found = {
            "answer": self.text,
            "ids": list(self.ids),
            "prompt_tokens": self.prompt_tokens,
            "context": self.context,
            "ended": self.is_ended,
            "stopped": self.is_stopped,
            "seconds": round(self.seconds, 3),
            "tokens_per_second": round(len(self.ids) / max(self.seconds, 1e-9), 2),
        }
        return found | ({"steps": [step.to_json() for step in self.steps]} if self.steps else {})


class Conversation:
    """Turns of a person and a model; `messages` are those so far, as chat templates take them.

    `is_plain` takes a form of its own (User: …, Assistant: …) where the model has no template. Raises InvalidInput for a
    model without one otherwise, and for one that writes no text.
    """

    def __init__(
        self, subject: Subject, system: str | None = None, *, engine: Engine = "auto", is_plain: bool = False
    ) -> None:
        self._subject = subject
        self._writer = writer_of(subject, engine)
        self.engine = self._writer.engine
        tokenizer = subject.tokenizer
        has_template = takes_turns(subject)
        if not has_template and not is_plain:
            raise InvalidInput(
                say("this model has no chat template: it was not taught to take turns"),
                given=subject.origin.name,
                right=say("a model that was, or --plain for the form User: … Assistant: …"),
            )
        self._is_plain = not has_template
        if isinstance(tokenizer, PreTrainedTokenizerBase) and isinstance(tokenizer.eos_token_id, int):
            # Turns end with the tokenizer's end token, which a base model's config may not name.
            self._writer.ends |= {tokenizer.eos_token_id}
        self.system = system
        self.messages: list[dict[str, str]] = []
        self.reset()

    def reset(self) -> None:
        """Begins again: only what the model was told before the conversation stays."""
        self.messages = [] if self.system is None else [{"role": "system", "content": self.system}]
        self._writer.forget()

    def answer(
        self, said: str, choice: Sampling, hear: Callable[[Word], object] = lambda _: None, candidates: int = 0
    ) -> Answer:
        """The model's turn after a person's; an interrupt (Ctrl-C) ends the answer, of which what was said stays.

        Raises InvalidInput for an empty turn, and where the conversation is longer than the model's context; it then stands
        as before.
        """
        if not said.strip():
            raise InvalidInput(say("nothing was said"), right=say("at least one word"))
        messages = [*self.messages, {"role": "user", "content": said}]
        ids = self._tokens(messages)
        context, heard = longest_of(self._subject, self._writer.model), _Heard()
        room = choice.max_new_tokens if context is None else min(choice.max_new_tokens, context - len(ids))
        if room < 1:
            raise InvalidInput(
                say("the conversation is longer than the model's context"),
                given=say("{given} tokens, of {count}", given=len(ids), count=context),
                right=say("/reset, which begins a new one, or a shorter turn"),
            )

        def listen(word: Word) -> None:
            if word.token >= 0:
                heard.tokens.append(word.token)
            if word.step is not None:
                heard.steps.append(word.step)
            heard.text += word.text
            if self._is_plain and USER in heard.text:
                raise _TurnOver
            hear(word)

        begun, is_stopped, is_over = time.perf_counter(), False, False
        try:
            self._writer.write(ids, _with_room(choice, room), listen, candidates)
        except _TurnOver:
            is_over = True
        except KeyboardInterrupt:
            is_stopped = True
        text = heard.text.split(USER)[0].rstrip() if self._is_plain else heard.text
        self.messages = [*messages, {"role": "assistant", "content": text}]
        is_ended = is_over or (bool(heard.tokens) and heard.tokens[-1] in self._writer.ends)
        return Answer(
            text.strip(), tuple(heard.tokens), len(ids), context, is_ended, is_stopped, time.perf_counter() - begun,
            tuple(heard.steps),
        )  # fmt: skip

    def _tokens(self, messages: list[dict[str, str]]) -> list[int]:
        if self._is_plain:
            return [*self._writer.speller.beginning(), *self._writer.speller.plain(_plain_form(messages))]
        return tokens_of_turns(self._subject, messages, say("without --system, if the model knows no such role"))


def takes_turns(subject: Subject) -> bool:
    """Whether the model was taught to take turns: its tokenizer has a chat template."""
    tokenizer = subject.tokenizer
    return isinstance(tokenizer, PreTrainedTokenizerBase) and tokenizer.chat_template is not None


def tokens_of_turns(subject: Subject, messages: list[dict[str, str]], right: Text) -> list[int]:
    """Turns in the model's own template, and the beginning of the model's next one.

    Raises InvalidInput, with `right` as the way out, where the template does not take them.
    """
    from jinja2 import TemplateError

    tokenizer: Any = subject.tokenizer
    try:
        found = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    except (TemplateError, ValueError) as problem:
        raise InvalidInput(
            say("the model's chat template does not take this conversation: {reason}", reason=str(problem)), right=right
        ) from None
    return [int(token) for token in found]


def _with_room(choice: Sampling, count: int) -> Sampling:
    """The same choice with another number of new tokens at most."""
    return choice.model_copy(update={"max_new_tokens": count})


def _plain_form(messages: list[dict[str, str]]) -> str:
    """Turns one below the other, the next one begun."""
    names = {"user": f"{USER} ", "assistant": f"{ASSISTANT} ", "system": ""}
    lines = [f"{names[one['role']]}{one['content'].strip()}" for one in messages]
    return "\n".join([*lines, ASSISTANT])
