"""Conversations as tokens: who speaks is marked, and which tokens are the answers is known token by token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from glassworks.core.errors import GlassworksError, InvalidInput, known_names
from glassworks.core.text import Text, say
from glassworks.tensors.seeds import Seed

ROLES = ("system", "user", "assistant")
CHAT_MARKS = ("<|system|>", "<|user|>", "<|assistant|>")
"""What stands before a turn. Tokens of their own in our tokenizers; any other tokenizer spells them."""

# An answer ends with the token that ends texts, so that a model stops by itself after answering.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{ '<|assistant|>' }}{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{%- else -%}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)
IGNORED = -100
"""The label of a token that is not learned from."""
ROUNDING = 1e-4
"""Of the largest logit: sums in another order stay below, a text that is seen through does not."""


@dataclass(frozen=True)
class Turn:
    """What one speaker says."""

    role: str
    text: str

    def to_message(self) -> dict[str, str]:
        """The turn as chat templates read it."""
        return {"role": self.role, "content": self.text}


Conversation = tuple[Turn, ...]


@dataclass(frozen=True)
class Encoded:
    """A conversation in tokens; `answers` is true at the tokens that the assistant says, their end included."""

    ids: tuple[int, ...]
    answers: tuple[bool, ...]

    @property
    def labels(self) -> list[int]:
        """The tokens to learn, -100 elsewhere."""
        return [token if said else IGNORED for token, said in zip(self.ids, self.answers, strict=True)]


def read_conversation(found: object) -> Conversation:
    """A checked conversation from a list of {role, content}; InvalidInput says what is wrong with it."""
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise InvalidInput(say("a conversation is a list of turns"), given=found, right=_example())
    turns: list[Turn] = []
    for entry in cast(Sequence[object], found):
        match entry:
            case {"role": str(role), "content": str(text)}:
                turns.append(Turn(role, text))
            case {"from": str(role), "value": str(text)}:
                turns.append(Turn({"human": "user", "gpt": "assistant"}.get(role, role), text))
            case _:
                raise InvalidInput(say("a turn has a role and a content"), given=entry, right=_example())
    return checked(tuple(turns))


def checked(conversation: Conversation) -> Conversation:
    """The conversation itself; InvalidInput for an unknown role, an empty turn, a wrong order or none at all."""
    if not conversation:
        raise InvalidInput(say("a conversation has no turns"), right=_example())
    for place, turn in enumerate(conversation, 1):
        if turn.role not in ROLES:
            raise InvalidInput(
                say("unknown role in turn {place}", place=place), given=turn.role, right=known_names(turn.role, ROLES)
            )
        if not turn.text.strip():
            raise InvalidInput(
                say("turn {place} of the {role} is empty", place=place, role=turn.role), right=say("some text")
            )
    spoken = [turn.role for turn in conversation]
    talk = spoken[1:] if spoken[0] == "system" else spoken
    if not talk or talk != ["user", "assistant"] * (len(talk) // 2) + ["user"] * (len(talk) % 2):
        raise InvalidInput(
            say("the turns of a conversation are in no order that a model answers in"),
            given=", ".join(spoken),
            right=say("system at most once and first, then user and assistant in turn"),
        )
    return conversation


def _example() -> Text:
    return say(
        "for example {example}", example='[{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]'
    )


class Chat:
    """How a tokenizer writes conversations: by its own template, or by ours where it has none."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if tokenizer.eos_token is None:
            raise InvalidInput(
                say("this tokenizer has no token that ends an answer"),
                given=type(tokenizer).__name__,
                right=say("a tokenizer with an eos_token"),
                next_command="glassworks train tokenizer --help",
            )
        self.tokenizer = tokenizer
        self.end = str(tokenizer.eos_token)
        """What an answer ends with, in letters."""
        if tokenizer.chat_template is None:
            tokenizer.chat_template = _without_missing(tokenizer)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        marks = [*CHAT_MARKS, *tokenizer.all_special_tokens]
        # The empty mark would be found in every text.
        self.marks = tuple(mark for mark in dict.fromkeys(marks) if mark)

    def encode(self, conversation: Conversation) -> Encoded:
        """A whole conversation, which ends with an answer; InvalidInput otherwise."""
        if conversation[-1].role != "assistant":
            raise InvalidInput(
                say("the conversation ends without an answer"),
                given=conversation[-1].role,
                right=say("a last turn of the assistant"),
            )
        self._check_marks(conversation)
        whole = self._written(conversation)
        spans = [
            self._span(conversation, place, whole)
            for place, turn in enumerate(conversation)
            if turn.role == "assistant"
        ]
        return self._spelled(whole, spans)

    def prompt(self, conversation: Conversation) -> tuple[int, ...]:
        """A conversation that the assistant is to go on with, which ends with the user's turn."""
        if conversation[-1].role == "assistant":
            raise InvalidInput(
                say("the conversation already ends with an answer"), right=say("a last turn of the user")
            )
        self._check_marks(conversation)
        text = self._written(conversation, asks=True)
        return tuple(cast(list[int], self.tokenizer(text, add_special_tokens=False)["input_ids"]))

    def answer(self, conversation: Conversation, text: str) -> Encoded:
        """A conversation with one more answer, of which alone `answers` is true; the text may be empty."""
        whole = (*conversation, Turn("assistant", text))
        self._check_marks(whole)
        written = self._written(whole)
        return self._spelled(written, [self._span(whole, len(conversation), written)])

    def without_marks(self, text: str) -> str:
        """A text with everything left out that would be read as a mark."""
        while any(mark in text for mark in self.marks):
            for mark in self.marks:
                text = text.replace(mark, "")
        return text

    def _spelled(self, text: str, spans: Sequence[tuple[int, int]]) -> Encoded:
        """The tokens of a text; those that lie inside a span are the assistant's."""
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = cast(list[int], found["input_ids"])
        offsets = cast(list[tuple[int, int]], found["offset_mapping"])
        said = [any(begin <= start and stop <= end and start < stop for begin, end in spans) for start, stop in offsets]
        return Encoded(tuple(ids), tuple(said))

    def _span(self, conversation: Conversation, place: int, whole: str) -> tuple[int, int]:
        """Where in the written text an answer stands: what is added to the question when it is answered."""
        before = self._written(conversation[:place], asks=True)
        after = self._written(conversation[: place + 1])
        if not after.startswith(before) or not whole.startswith(_trimmed(after, self.end)):
            raise _shifting()
        return len(before), len(_trimmed(after, self.end))

    def _written(self, conversation: Conversation, *, asks: bool = False) -> str:
        messages = [turn.to_message() for turn in conversation]
        return cast(str, self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks))

    def _check_marks(self, conversation: Conversation) -> None:
        """A turn that spells a mark could speak for another."""
        for turn in conversation:
            for mark in self.marks:
                if mark in turn.text:
                    raise InvalidInput(
                        say("a turn of the {role} contains {mark}, which marks turns", role=turn.role, mark=mark),
                        given=turn.text,
                        right=say("the text without it"),
                    )


def _without_missing(tokenizer: PreTrainedTokenizerBase) -> str:
    """Our template; without the beginning where the tokenizer knows none."""
    return CHAT_TEMPLATE if tokenizer.bos_token is not None else CHAT_TEMPLATE.removeprefix("{{ bos_token }}")


def _trimmed(text: str, end: str) -> str:
    """The text up to its last end mark: blanks that a template writes behind it are never said by the assistant."""
    bare = text.rstrip()
    return bare if bare.endswith(end) else text


def _shifting() -> InvalidInput:
    return InvalidInput(
        say("the tokenizer's chat template writes a question differently once it is answered"),
        right=say("a template that only adds to what it wrote before"),
    )


def padded(
    rows: Sequence[Sequence[int]], fill: int, side: Literal["left", "right"]
) -> tuple[Int[Tensor, "row position"], Bool[Tensor, "row position"]]:
    """Rows of equal length and a mask of what is real. Training pads on the right, generating on the left."""
    longest = max((len(row) for row in rows), default=0)
    ids = torch.full((len(rows), longest), fill, dtype=torch.long)
    real = torch.zeros((len(rows), longest), dtype=torch.bool)
    for place, row in enumerate(rows):
        here = slice(0, len(row)) if side == "right" else slice(longest - len(row), longest)
        ids[place, here] = torch.tensor(list(row), dtype=torch.long)
        real[place, here] = True
    return ids, real


@dataclass(frozen=True)
class Fitted:
    """Conversations that fit a length, and how many were cut or left out for it."""

    rows: tuple[Encoded, ...]
    cut: int
    dropped: int


def fitted(rows: Sequence[Encoded], length: int) -> Fitted:
    """Every row within `length` tokens: a prompt loses its oldest tokens, a row whose answers alone are too long is dropped.

    The first token stays, for texts begin with it.
    """
    kept: list[Encoded] = []
    cut = dropped = 0
    for row in rows:
        excess = len(row.ids) - length
        first = row.answers.index(True) if True in row.answers else len(row.ids)
        if excess <= 0:
            kept.append(row)
        elif first - 1 >= excess:
            kept.append(Encoded(row.ids[:1] + row.ids[1 + excess :], row.answers[:1] + row.answers[1 + excess :]))
            cut += 1
        else:
            dropped += 1
    return Fitted(tuple(kept), cut, dropped)


@torch.no_grad()
def keeps_texts_apart(model: PreTrainedModel) -> bool:
    """Whether two texts in one row, told apart by `position_ids` alone, get the logits that each gets by itself.

    Found by trying, not by the model's name: layers that hand on a memory may have no way to begin anew.
    """
    rows: int = cast(Any, model.get_input_embeddings()).weight.shape[0]
    chance = Seed(0).child("packing").generator()
    first, second = (torch.randint(rows, (1, size), generator=chance).to(model.device) for size in (7, 9))
    places = torch.cat([torch.arange(7), torch.arange(9)])[None].to(model.device)
    was_training = model.training
    model.eval()
    try:
        together = cast(Any, model)(input_ids=torch.cat([first, second], 1), position_ids=places, use_cache=False)
        alone = cast(Any, model)(input_ids=second, use_cache=False).logits
    except GlassworksError:
        # Our own models refuse what they would get wrong.
        return False
    finally:
        model.train(was_training)
    return bool(torch.allclose(together.logits[:, 7:], alone, rtol=0, atol=ROUNDING * float(alone.abs().max())))
