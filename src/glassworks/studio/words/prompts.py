"""What a model reads before it says its next word: the tokens of a text, or of a person's turn in its chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from glassworks.anatomy import Subject, TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.models.conversation import takes_turns, tokens_of_turns
from glassworks.models.text_pieces import Speller
from glassworks.studio.words.pieces import Piece
from glassworks.studio.words.spelling import bytes_of, spelled_by_model, well_formed


@dataclass(frozen=True)
class Prompt:
    """`ids` are what the decoder has read before anything is chosen; `source` what an encoder beside it reads, else empty."""

    ids: tuple[int, ...]
    source: tuple[int, ...] = ()

    @property
    def shown(self) -> tuple[int, ...]:
        """The tokens of the person's own text."""
        return self.source or self.ids

    def batch(self, chosen: Sequence[int] = ()) -> TokenBatch:
        """The model's input after some chosen tokens."""
        source = TokenBatch(torch.tensor([self.source])) if self.source else None
        return TokenBatch(torch.tensor([[*self.ids, *chosen]]), source=source)


def prompt_of(subject: Subject, text: str, *, is_chat: bool = False) -> Prompt:
    """The tokens before the next word. Raises InvalidInput for a model that has none, and for a text it cannot read."""
    check_writes(subject)
    text = well_formed(text)
    if is_chat:
        return Prompt(tuple(_turn(subject, text)))
    if subject.anatomy.has_source:
        batch = subject.batch(text)
        return Prompt(tuple(batch.ids[0].tolist()), tuple(batch.read_by_encoder.ids[0].tolist()))
    if subject.tokenizer is None:
        return Prompt(tuple(piece.token for piece in spelled_by_model(None, text, subject.anatomy.vocabulary)))
    speller = Speller(subject.tokenizer)
    ids = [*speller.beginning(), *(speller.plain(text) if text else [])]
    if not ids:
        raise InvalidInput(say("the prompt is empty"), right=say("at least one character"))
    return Prompt(tuple(ids))


def why_silent(subject: Subject) -> Text | None:
    """Why a model has no next word; None where it has."""
    anatomy = subject.anatomy
    if anatomy.answers_once:
        return say("this model answers once for a whole text, so it has no next word")
    if anatomy.head is None and not anatomy.tied_head:
        return say("this model turns a text into vectors and has no map to words, so it has no next word")
    if not anatomy.causal:
        return say("this model reads a text in both directions at once, so it has no next word")
    return None


def check_writes(subject: Subject) -> None:
    """Raises InvalidInput for a model without a next word."""
    reason = why_silent(subject)
    if reason is not None:
        raise InvalidInput(
            reason, given=type(subject.model).__name__, right=say("a model that writes, for example bundled/duet")
        )


def pieces_of(subject: Subject, ids: Sequence[int]) -> list[Piece]:
    """Tokens with their bytes, where no text is known that they stand for."""
    spelled = bytes_of(subject.tokenizer)
    return [Piece(int(token), spelled.of(int(token)), is_special=int(token) in spelled.special) for token in ids]


def typed_tokens(subject: Subject, typed: str) -> list[int]:
    """The tokens of what a person types behind a text; a blank that a tokenizer would put in front is not doubled."""
    typed = well_formed(typed)
    if subject.tokenizer is None:
        return [piece.token for piece in spelled_by_model(None, typed, subject.anatomy.vocabulary)]
    if not typed:
        raise InvalidInput(say("the text is empty"), right=say("at least one character"))
    speller, spelled = Speller(subject.tokenizer), bytes_of(subject.tokenizer)
    ways = [speller.plain(one) for one in (typed, typed.removeprefix(" ")) if one]
    exact = [ids for ids in ways if spelled.text(ids) == typed.encode()]
    return (exact or ways)[0]


def _turn(subject: Subject, text: str) -> list[int]:
    """A person's turn, and the beginning of the model's, as its template has them."""
    if not takes_turns(subject):
        raise InvalidInput(
            say("this model has no chat template: it was not taught to take turns"), right=say("the switch off")
        )
    if not text.strip():
        raise InvalidInput(say("nothing was said"), right=say("at least one word"))
    return tokens_of_turns(subject, [{"role": "user", "content": text}], say("the switch off"))
