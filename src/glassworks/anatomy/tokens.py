"""TokenBatch: token ids with their padding and the legible text of each token."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say

# What a tensor of ids can hold.
LARGEST_ID = 2**63 - 1


@runtime_checkable
class Tokenizer(Protocol):
    """What is asked of a tokenizer; those of transformers do."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text."""
        ...

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Text of token ids."""
        ...

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """The tokenizer's own spelling of each token."""
        ...


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Token ids with padding and labels.

    `mask` is True on real tokens (None: no padding); `labels` are the legible texts of the
    first sequence's tokens, the one that figures show. For an encoder-decoder `ids` are what the decoder
    reads, `source` what the encoder reads; without a source both read `ids`.
    """

    ids: Int[Tensor, "batch position"]
    mask: Bool[Tensor, "batch position"] | None = None
    labels: tuple[str, ...] = ()
    source: "TokenBatch | None" = None

    def __post_init__(self) -> None:
        if not self.labels:
            object.__setattr__(self, "labels", tuple(str(int(token)) for token in self.ids[0]))

    @property
    def real(self) -> Bool[Tensor, "batch position"]:
        """True on real tokens, also where nothing is padded."""
        return torch.ones_like(self.ids, dtype=torch.bool) if self.mask is None else self.mask

    def to(self, device: torch.device) -> "TokenBatch":
        """The same batch on a device."""
        mask = None if self.mask is None else self.mask.to(device)
        return TokenBatch(self.ids.to(device), mask, self.labels, self.source and self.source.to(device))

    @property
    def read_by_encoder(self) -> "TokenBatch":
        """What the encoder of an encoder-decoder reads: the source, or the same tokens where there is none."""
        return self.source or self


def padded(rows: Sequence[Sequence[int]], *, side: str = "right", filler: int = 0) -> TokenBatch:
    """A batch of sequences of different lengths.

    `side` is where the filler goes. Raises InvalidInput for an empty one.
    """
    if not rows or any(len(row) == 0 for row in rows):
        raise InvalidInput(say("the prompt is empty"), right=say("at least one token"))
    beyond = next((token for row in rows for token in row if not -LARGEST_ID <= token <= LARGEST_ID), None)
    if beyond is not None:
        raise InvalidInput(say("a token id is outside the vocabulary"), given=beyond)
    length = max(len(row) for row in rows)
    ids = torch.full((len(rows), length), filler, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for index, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(length - len(row), length)
        ids[index, place] = torch.tensor(list(row))
        mask[index, place] = True
    return TokenBatch(ids, None if bool(mask.all()) else mask)


def with_beginning(tokenizer: Tokenizer, text: str, wanted: bool | None) -> list[int]:
    """Token ids of a text, with or without the beginning-of-sequence token; None leaves it to the tokenizer."""
    if wanted is None:
        return tokenizer.encode(text)
    ids = tokenizer.encode(text, add_special_tokens=False)
    if not wanted:
        return ids
    beginning: Any = getattr(tokenizer, "bos_token_id", None)
    if beginning is None:
        raise InvalidInput(say("this tokenizer has no beginning-of-sequence token"), right=say("prepend_bos=False"))
    return [int(beginning), *ids]


def encode_target(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of what a decoder writes, without the end token, which comes after the last one it reads.

    Tokenizers of translators have a vocabulary of their own for it.
    """
    called: Any = tokenizer
    ids = [int(t) for t in called(text_target=text)["input_ids"]] if callable(tokenizer) else tokenizer.encode(text)
    end: Any = getattr(tokenizer, "eos_token_id", None)
    return ids[:-1] if end is not None and ids[-1:] == [end] else ids


def rows_of(prompt: Any, encode: Callable[[str], list[int]]) -> list[list[int]]:
    """One list of ids per sequence, from a text, several texts, ids, or several lists of ids; else InvalidInput."""
    match prompt:
        case str(text):
            return [encode(text)]
        case [*parts] if parts and all(isinstance(part, str) for part in parts):
            return [encode(part) for part in parts]
        case [*parts] if all(isinstance(part, Integral) for part in parts):
            return [[int(part) for part in parts]]
        case [*parts] if all(_is_ids(part) for part in parts):
            return [[int(token) for token in part] for part in parts]
        case _:
            raise InvalidInput(
                say("a prompt is a text, token ids, or several of one kind"),
                given=f"{type(prompt).__name__}: {prompt}",
                right=say("for example {example}", example="'the cat', [1, 2, 3] or [[1, 2], [3]]"),
            )


def _is_ids(part: Any) -> bool:
    match part:
        case [*tokens]:
            return all(isinstance(token, Integral) for token in tokens)
        case _:
            return False


def paragraphs(text: str, characters: int = 64_000) -> Iterator[str]:
    """A long text in parts of about so many characters that end with a line or, where none ends, with a word."""
    start = 0
    while start < len(text):
        end = start + characters
        if end < len(text):
            line, word = (text.rfind(sign, start, end) + 1 for sign in ("\n", " "))
            end = line or word or end
        yield text[start:end]
        start = end


def token_count(count: int) -> Text:
    """A number of tokens in words."""
    return say("1 token") if count == 1 else say("{count} tokens", count=count)


def check_tokens(ids: Tensor, vocabulary: int, context: int | None) -> None:
    """Raises InvalidInput for no tokens, ids outside the vocabulary, or more than fit the context."""
    if ids.ndim != 2 or ids.numel() == 0:
        raise InvalidInput(
            say("the prompt is empty") if ids.numel() == 0 else say("token ids must have two dimensions"),
            given=tuple(ids.shape),
            right=say("ids of shape (batch, position), at least one token"),
        )
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocabulary:
        raise InvalidInput(
            say("a token id is outside the vocabulary"),
            given=low if low < 0 else high,
            right=say("0 to {last}", last=vocabulary - 1),
        )
    if context is not None and ids.shape[1] > context:
        raise InvalidInput(
            say("the text is longer than the model's context"),
            given=token_count(ids.shape[1]),
            right=say("at most {count}", count=token_count(context)),
        )
