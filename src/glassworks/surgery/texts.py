"""Texts to fit on and texts to judge by, which share nothing: what was chosen on a text cannot be praised on it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.evaluation import Item, MaskedLanguage, Perplexity, Prepared
from glassworks.evaluation.data import needed_file
from glassworks.surgery.specs import TextSplit

FIT, HELD_OUT = "wikitext2-valid.txt", "wikitext2-test.txt"


@dataclass(frozen=True, eq=False)
class Split:
    """Items to fit on and items to judge by; an item in both raises InvalidInput, and so does an empty side."""

    fit: tuple[Item, ...]
    held_out: tuple[Item, ...]

    def __post_init__(self) -> None:
        if not self.fit or not self.held_out:
            raise InvalidInput(
                say("there is nothing to fit on or nothing to judge by"), right=say("at least one window")
            )
        common = len({_read(item) for item in self.fit} & {_read(item) for item in self.held_out})
        if common:
            raise InvalidInput(
                say("{count} windows are both fitted on and judged by", count=common), right=say("two different texts")
            )

    @classmethod
    def of_windows(cls, fit: Int[Tensor, "window position"], held_out: Int[Tensor, "other other_position"]) -> Split:
        """Windows of token ids for a model that reads from left to right: every token but the first is a target."""
        return cls(tuple(_window(row) for row in fit.tolist()), tuple(_window(row) for row in held_out.tolist()))

    @classmethod
    def of(cls, fit: Prepared, held_out: Prepared) -> Split:
        """The items of two prepared benchmarks."""
        return cls(fit.items, held_out.items)

    def digest(self) -> str:
        """Sixteen hexadecimal digits of all its tokens."""
        return hashlib.sha256(repr((self.fit, self.held_out)).encode()).hexdigest()[:16]


def split_of(subject: Subject, texts: TextSplit) -> Split:
    """The windows: next tokens for a model that reads from left to right, hidden tokens for an encoder.

    Raises NotFound for an absent file, InvalidInput for a model that reads a source (give it a `Split` of pairs).
    """
    if subject.anatomy.has_source:
        raise InvalidInput(
            say("this model reads a source, so windows of one text are no question to it"),
            right=say("a split of pairs of source and target"),
        )
    fit = _prepared(subject, texts.window, texts.fit_file or str(needed_file(FIT)), texts.fit)
    held_out = _prepared(subject, texts.window, texts.held_out_file or str(needed_file(HELD_OUT)), texts.held_out)
    # Texts repeat themselves (lists, licences): what is judged by is not fitted on.
    judged = {_read(item) for item in held_out.items}
    return Split(tuple(item for item in fit.items if _read(item) not in judged), held_out.items)


def _prepared(subject: Subject, window: int, file: str, limit: int | None) -> Prepared:
    kind = Perplexity if subject.anatomy.causal else MaskedLanguage
    return kind(text_file=file, window=window, limit=limit).prepare(subject)


def _read(item: Item) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What an item is: the tokens read and those asked for."""
    return item.ids, item.targets


def _window(ids: Sequence[int]) -> Item:
    return Item(tuple(ids[:-1]), tuple(range(len(ids) - 1)), tuple(ids[1:]))
