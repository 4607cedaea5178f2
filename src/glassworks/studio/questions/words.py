"""What the walk-through asks about words: tokens side by side, the next word, and what would change it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from glassworks.core.errors import InvalidInput
from glassworks.core.spec import Spec
from glassworks.core.text import say
from glassworks.studio.questions.base import Answer, Question

if TYPE_CHECKING:
    from glassworks.models.candidates import Sampling
    from glassworks.studio.questions.desk import Desk

LONGEST_TEXT = 200_000


class TokensBeside(Question):
    """A text as the tokens of a model and of the published vocabularies gpt2, cl100k and o200k, byte-true."""

    kind: Literal["words_tokens"] = "words_tokens"
    model: str
    """An identifier of the listing."""
    text: str = Field(max_length=LONGEST_TEXT)
    most: int = Field(default=1000, ge=1, le=50_000)
    """Tokens of each tokenizer that are told one by one; the counts are always of the whole text."""

    def answer(self, desk: Desk) -> Answer:
        """`tokenizers`: the model's own first; each with count, characters per token and groups of tokens."""
        from glassworks.studio.words.beside import tokens_beside

        return tokens_beside(desk.subject(self.model), self.model, self.text, self.most, desk.language)


class NextWord(Question):
    """All logits of the next word after a text and some chosen tokens; with `draw`, one more token is taken first."""

    kind: Literal["words_next"] = "words_next"
    model: str
    """An identifier of the listing."""
    text: str = Field(default="", max_length=LONGEST_TEXT)
    chosen: tuple[int, ...] = Field(default=(), max_length=4096)
    """Tokens that were chosen after the text."""
    typed: str = Field(default="", max_length=2000)
    """Further text of the person's own, put after them."""
    chat: bool = False
    """Whether the text is a person's turn in the model's chat template."""
    draw: bool = False
    temperature: float = Field(default=0.8, ge=0, le=100)
    """0 takes the likeliest token."""
    top_k: int | None = Field(default=None, ge=1)
    """Draws among so many likeliest tokens only."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Draws among the likeliest tokens that together have this probability."""
    seed: int = Field(default=0, ge=0, lt=2**53)
    rows: int = Field(default=50, ge=1, le=1000)
    """Candidates that are told by name."""

    def answer(self, desk: Desk) -> Answer:
        """`logits` in falling order, `rows` for the first, `path` of what was chosen, `drawn` where one was taken."""
        from glassworks.studio.words.next_word import next_word
        from glassworks.studio.words.prompts import typed_tokens

        subject = desk.subject(self.model)
        more = typed_tokens(subject, self.typed) if self.typed else []
        return next_word(
            subject, self.text, [*self.chosen, *more], is_chat=self.chat, draw=self._choice(), rows=self.rows
        )

    def _choice(self) -> Sampling | None:
        from glassworks.models.candidates import Sampling

        if not self.draw:
            return None
        if self.temperature == 0:
            return Sampling(seed=self.seed)
        return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, seed=self.seed)


class NextWordLens(Question):
    """How the chance of one next token grew from layer to layer: the stream behind each, read as the last one is."""

    kind: Literal["words_lens"] = "words_lens"
    model: str
    """An identifier of the listing."""
    text: str = Field(default="", max_length=LONGEST_TEXT)
    chosen: tuple[int, ...] = Field(default=(), max_length=4096)
    chat: bool = False
    token: int = Field(ge=0)
    """The token that is followed."""

    def answer(self, desk: Desk) -> Answer:
        """Arrays by stage (embedding, then each layer): `chance`, `rank`; and who leads there."""
        from glassworks.studio.words.next_word import lens_of

        return lens_of(desk.subject(self.model), self.text, self.chosen, self.token, is_chat=self.chat)


class Instead(Spec):
    """Words in the place of one token of the text."""

    kind: Literal["instead"] = "instead"
    place: int = Field(ge=0)
    """Counted from 0, marks of the beginning included."""
    typed: str = Field(max_length=200)
    """Empty takes the token out."""


class WhatIf(Question):
    """The next word with something changed, beside the plain one: heads, layers, words, temperature, text or model."""

    kind: Literal["words_if"] = "words_if"
    model: str
    """An identifier of the listing."""
    text: str = Field(max_length=LONGEST_TEXT)
    heads: tuple[str, ...] = Field(default=(), max_length=4096)
    """Silenced heads: L0H1; of an encoder EL0H1, of the attention to it CL0H1."""
    method: Literal["zero", "mean"] = "zero"
    """What stands in their place: zero, or their mean over the text."""
    skip: tuple[str, ...] = Field(default=(), max_length=1024)
    """Layers that hand on what they are given: 2; of an encoder E2."""
    instead: tuple[Instead, ...] = Field(default=(), max_length=200)
    temperature: float = Field(default=1.0, gt=0, le=100)
    other_temperature: float = Field(default=1.0, gt=0, le=100)
    other_text: str | None = Field(default=None, max_length=LONGEST_TEXT)
    """Another text on the changed side."""
    other_model: str | None = None
    """Another model on the changed side."""
    token: int | None = Field(default=None, ge=0)
    """A token that is listed in any case."""
    rows: int = Field(default=15, ge=1, le=200)
    """Likeliest words of each side, and words that moved most."""

    def answer(self, desk: Desk) -> Answer:
        """`rows` of both sides, divergences and entropies in bits, the tokens of both with their surprise.

        Where one of the models has no next word only `silent`, the reason.
        """
        from glassworks.studio.words.prompts import why_silent
        from glassworks.studio.words.what_if import Operation, compared, parts_of, passed

        subject = desk.subject(self.model)
        other = desk.subject(self.other_model) if self.other_model else subject
        reason = why_silent(subject) or why_silent(other)
        if reason is not None:
            return {"silent": reason}
        if self.token is not None and self.token >= subject.anatomy.vocabulary:
            raise InvalidInput(say("a token id is outside the vocabulary"), given=self.token)
        plain = passed(subject, self.text, Operation(temperature=self.temperature))
        instead = tuple((one.place, one.typed) for one in self.instead)
        operation = Operation(self.heads, self.method, self.skip, instead, self.other_temperature)
        changed = passed(other, self.text if self.other_text is None else self.other_text, operation)
        return compared(plain, changed, self.rows, self.token) | {"parts": parts_of(other)}


class HeadsAlone(Question):
    """What each head does for the next word: the distribution without it, one head at a time."""

    kind: Literal["words_heads"] = "words_heads"
    seconds: ClassVar[float] = 900.0
    model: str
    """An identifier of the listing."""
    text: str = Field(max_length=20_000)
    method: Literal["zero", "mean"] = "zero"
    stack: Literal["", "encoder", "cross"] = ""

    def answer(self, desk: Desk) -> Answer:
        """Matrices [layer, head]: `divergence_bits` from the plain model, `logit_change` of its likeliest word."""
        from glassworks.studio.words.what_if import heads_alone

        label = say("silencing heads one by one").in_language(desk.language)
        subject = desk.subject(self.model)
        return heads_alone(
            subject, self.text, self.method, self.stack, lambda done, total: desk.tell(label, done, total)
        )


ALL: tuple[type[Question], ...] = (TokensBeside, NextWord, NextWordLens, WhatIf, HeadsAlone)
