"""Where two models have read the same: position by position under one tokenization, else where their characters meet."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glassworks.anatomy.alphabet import Alphabet
from glassworks.anatomy.subject import Prompt, Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say

# How far a token's text may lie ahead of what was read so far: behind a character that became an unknown token.
FARTHEST = 16


@dataclass(frozen=True)
class Alignment:
    """For each text the places of both models where they have read the same characters, as columns of their batches.

    `same_tokens` is true where both see the same token ids, so that every place has its partner.
    """

    first: tuple[tuple[int, ...], ...]
    second: tuple[tuple[int, ...], ...]
    same_tokens: bool

    @property
    def count(self) -> int:
        """How many places have a partner, over all texts."""
        return sum(len(columns) for columns in self.first)

    @property
    def says(self) -> Text:
        """How places were matched, in words."""
        if self.same_tokens:
            return say("Both models see the same tokens, so they are compared position by position.")
        return say(
            "The two tokenizers cut the text differently, so the models are compared at the {count} places where both have read the same characters.",
            count=self.count,
        )


def align(first: Subject, second: Subject, texts: Sequence[str], batches: Sequence[TokenBatch]) -> Alignment:
    """Matches the places of two batches of the same texts; InvalidInput where no place of them is shared.

    Without texts both must have been given the same token ids.
    """
    one, other = batches
    same_shape = one.ids.shape == other.ids.shape
    if same_shape and torch.equal(one.ids, other.ids) and torch.equal(one.real, other.real):
        columns = tuple(_columns(one, row) for row in range(len(one.ids)))
        return Alignment(columns, columns, same_tokens=True)
    assert len(texts) == len(one.ids), "token ids are the same for both models"
    pairs = [
        shared_ends(read_characters(first, text, _real(one, row)), read_characters(second, text, _real(other, row)))
        for row, text in enumerate(texts)
    ]
    if not any(pairs):
        raise InvalidInput(
            say("the two tokenizers share no place in this text"),
            given=texts[0],
            right=say("a text that both can read, or the same token ids for both"),
        )
    places = [[(_columns(one, row)[i], _columns(other, row)[j]) for i, j in pair] for row, pair in enumerate(pairs)]
    first_columns, second_columns = (tuple(tuple(pair[side] for pair in row) for row in places) for side in (0, 1))
    return Alignment(first_columns, second_columns, same_tokens=False)


def texts_of(prompt: Prompt) -> tuple[str, ...]:
    """The texts of a prompt; none where it is given as token ids."""
    match prompt:
        case str(text):
            return (text,)
        case [*parts]:
            return tuple(part for part in parts if isinstance(part, str))
        case _:
            return ()


def _columns(batch: TokenBatch, row: int) -> tuple[int, ...]:
    return tuple(batch.real[row].nonzero()[:, 0].tolist())


def _real(batch: TokenBatch, row: int) -> list[int]:
    return batch.ids[row][batch.real[row]].tolist()


def shared_ends(first: Sequence[int | None], second: Sequence[int | None]) -> list[tuple[int, int]]:
    """The tokens, as pairs of their numbers, after which both have read equally many characters."""
    at = {end: number for number, end in enumerate(second) if end is not None}
    return [(number, at[end]) for number, end in enumerate(first) if end is not None and end in at]


def read_characters(subject: Subject, text: str, ids: Sequence[int]) -> list[int | None]:
    """After each token, how many characters of the text are read; None within a character and at added tokens.

    Counted without blanks, case and accents, which some tokenizers move or drop.
    """
    whole = _plain(text)
    found: list[int | None] = []
    cursor, whole_until = 0, 0
    for number in range(len(ids)):
        # The last token that ended a character is decoded again: alone, a piece of a word may be spelled otherwise.
        before = _plain(_decoded(subject, ids[whole_until : whole_until + 1])) if cursor else ""
        both = _plain(_decoded(subject, ids[whole_until : number + 1]))
        piece = both.removeprefix(before)
        place = whole.find(piece, cursor, cursor + len(piece) + FARTHEST) if piece else -1
        if place < 0 or not both.startswith(before):
            found.append(None)
            continue
        cursor, whole_until = place + len(piece), number
        found.append(cursor)
    return found


def written(subject: Subject, ids: Tensor) -> str:
    """The text of token ids without the tokens that only mark a beginning or an end."""
    return _decoded(subject, ids.tolist())


def _decoded(subject: Subject, ids: Sequence[int]) -> str:
    match subject.tokenizer:
        case Alphabet() as alphabet:
            return alphabet.decode(ids)
        case None:
            return ""
        case tokenizer:
            return tokenizer.decode(list(ids), skip_special_tokens=True)


def _plain(text: str) -> str:
    """Small letters without accents and without blanks."""
    apart = unicodedata.normalize("NFKD", text).lower()
    return "".join(sign for sign in apart if not sign.isspace() and not unicodedata.combining(sign))


def shared_vocabulary(first: Subject, second: Subject) -> int:
    """How many ids, from 0, mean the same token to both models; 0 where their vocabularies differ.

    Models of one tokenizer may have heads of different widths: the smaller counts then. Without a tokenizer on
    either side only equally many ids can be taken for the same.
    """
    sizes = first.anatomy.vocabulary, second.anatomy.vocabulary
    if first.tokenizer is None or second.tokenizer is None:
        return sizes[0] if sizes[0] == sizes[1] else 0
    one, other = (_spellings(subject, min(sizes)) for subject in (first, second))
    return min(sizes) if one == other else 0


def _spellings(subject: Subject, count: int) -> list[str]:
    match subject.tokenizer:
        case Alphabet() as alphabet:
            return list(alphabet.characters[:count])
        case None:
            return []
        case tokenizer:
            return tokenizer.convert_ids_to_tokens(list(range(count)))
