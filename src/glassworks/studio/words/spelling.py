"""A text as the tokens of one tokenizer, each with the bytes that it spells and the stretch of the text it stands for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedTokenizerBase

from glassworks.anatomy import Alphabet
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.models.text_pieces import Speller
from glassworks.models.token_bytes import TokenBytes
from glassworks.studio.words.pieces import Piece

if TYPE_CHECKING:
    from tiktoken import Encoding

_NUMBER = re.compile(r"\d+")


def spelled_by_model(tokenizer: object, text: str, vocabulary: int) -> list[Piece]:
    """The tokens that a model reads for a text, with those that its tokenizer puts before and after it.

    Without a tokenizer a text is token ids, parted by blanks or commas. Raises InvalidInput for any other text then, and
    for a character that an alphabet does not have.
    """
    match tokenizer:
        case None:
            return _numbers(text, vocabulary)
        case Alphabet() as alphabet:
            ids = alphabet.encode(text)
            return _in_a_row(ids, [alphabet.characters[token].encode() for token in ids], 0)
        case _:
            return _by_tokenizer(tokenizer, text)


def spelled_by_published(encoding: Encoding, text: str) -> list[Piece]:
    """The tokens of a published vocabulary; names of special tokens are read as any other text."""
    ids = encoding.encode_ordinary(text)
    return _in_a_row(ids, [encoding.decode_single_token_bytes(token) for token in ids], 0)


def bytes_of(tokenizer: object) -> TokenBytes:
    """The bytes of every token; special are also the marks that a tokenizer knows beside its named ones (roles of a chat)."""
    spelled = TokenBytes(tokenizer)
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        known: dict[int, Any] = tokenizer.added_tokens_decoder
        spelled.special |= {token for token, added in known.items() if added.special}
    return spelled


def well_formed(text: str) -> str:
    """The text with half surrogates, which no UTF-8 can hold, replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _by_tokenizer(tokenizer: object, text: str) -> list[Piece]:
    speller, spelled = Speller(tokenizer), bytes_of(tokenizer)
    own: Any = tokenizer
    plain = speller.plain(text)
    whole = [int(token) for token in own.encode(text)] if isinstance(own, PreTrainedTokenizerBase) else plain
    first = next((n for n in range(len(whole) - len(plain) + 1) if whole[n : n + len(plain)] == plain), None)
    if first is None:
        # A tokenizer that reads a text otherwise between its own marks: where its tokens lie is not known.
        return [_piece(spelled, own, token, 0, 0) for token in whole]
    size = len(text.encode())
    before = [_piece(spelled, own, token, 0, 0) for token in whole[:first]]
    after = [_piece(spelled, own, token, size, size) for token in whole[first + len(plain) :]]
    return [*before, *_placed(speller, spelled, own, text, plain), *after]


def _placed(speller: Speller, spelled: TokenBytes, own: Any, text: str, ids: Sequence[int]) -> list[Piece]:
    """The tokens of the text itself, each with its stretch."""
    raw, each = text.encode(), [spelled.of(token) for token in ids]
    joined = b"".join(each)
    if joined == raw:
        return _marked(spelled, own, _in_a_row(ids, each, 0))
    if joined == b" " + raw:
        # SentencePiece puts a blank before a text.
        return _marked(spelled, own, _in_a_row(ids, each, -1))
    if not speller.has_offsets:
        return [_piece(spelled, own, token, 0, 0) for token in ids]
    found, offsets = speller.spelled(text)
    if found.tolist() != list(ids):
        return [_piece(spelled, own, token, 0, 0) for token in ids]
    at = [0, *accumulate(len(sign.encode()) for sign in text)]
    return [
        _piece(spelled, own, token, at[start], at[end])
        for token, (start, end) in zip(ids, offsets.tolist(), strict=True)
    ]


def _in_a_row(ids: Sequence[int], each: Sequence[bytes], first: int) -> list[Piece]:
    ends = list(accumulate((len(one) for one in each), initial=first))
    return [
        Piece(int(token), one, max(0, start), max(0, end))
        for token, one, start, end in zip(ids, each, ends[:-1], ends[1:], strict=True)
    ]


def _marked(spelled: TokenBytes, own: Any, pieces: Sequence[Piece]) -> list[Piece]:
    return [_piece(spelled, own, one.token, one.start, one.end) for one in pieces]


def _piece(spelled: TokenBytes, own: Any, token: int, start: int, end: int) -> Piece:
    is_unknown = isinstance(own, PreTrainedTokenizerBase) and token == own.unk_token_id and end > start
    return Piece(token, spelled.of(token), start, end, token in spelled.special and not is_unknown, is_unknown)


def _numbers(text: str, vocabulary: int) -> list[Piece]:
    """Token ids written out, for a model that has no words."""
    right = say("token ids from 0 to {last}, for example {example}", last=vocabulary - 1, example="0 1 2")
    if not text.strip() or _NUMBER.sub("", text).strip(" \t\r\n,;"):
        raise InvalidInput(say("this model has no tokenizer: it reads token ids"), given=text or None, right=right)
    pieces = [Piece(int(found[0]), found[0].encode(), found.start(), found.end()) for found in _NUMBER.finditer(text)]
    beyond = next((piece.token for piece in pieces if piece.token >= vocabulary), None)
    if beyond is not None:
        raise InvalidInput(say("a token id is outside the vocabulary"), given=beyond, right=right)
    return pieces
