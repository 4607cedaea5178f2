"""A small vocabulary of word pieces, learned from a task's own training text: the same text, the same pieces."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int
from torch import Tensor

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, SEPARATOR, END = 0, 1, 2
SPECIAL = ("<pad>", "<sep>", "<end>")
# All bytes and the special tokens: below this there is no room for a single merge.
SMALLEST = 256 + len(SPECIAL)


class WordPieces:
    """Byte-level pairs: any text can be written, and is read back exactly."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @property
    def alphabet(self) -> tuple[str, ...]:
        """How each piece is written; a space as the byte-level alphabet has it."""
        return tuple(str(self._tokenizer.id_to_token(i)) for i in range(self._tokenizer.get_vocab_size()))

    def ids(self, texts: tuple[str, ...]) -> list[list[int]]:
        """The pieces of each text, without special tokens."""
        return [found.ids for found in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def text(self, ids: list[int]) -> str:
        """What pieces spell, up to the first end; special tokens are left out."""
        until = ids.index(END) if END in ids else len(ids)
        return self._tokenizer.decode(ids[:until], skip_special_tokens=True).strip()


@cache
def learned_from(texts: tuple[str, ...], size: int) -> WordPieces:
    """The pieces that byte-pair encoding finds in these texts; `size` counts bytes and special tokens too.

    A text too short for so many merges still gives `size` tokens: what is missing is named <unused...>.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    missing = size - tokenizer.get_vocab_size()
    tokenizer.add_special_tokens([AddedToken(f"<unused{i}>", special=True) for i in range(missing)])
    return WordPieces(tokenizer)


def padded(
    rows: list[list[int]], length: int, *, in_front: bool = False
) -> tuple[Int[Tensor, "row position"], Bool[Tensor, "row position"]]:
    """Rows of at most `length` tokens in one table, and where it holds real ones; padding behind unless in front."""
    table = torch.full((len(rows), length), PAD, dtype=torch.long)
    real = torch.zeros(len(rows), length, dtype=torch.bool)
    for place, row in enumerate(rows):
        here = slice(length - len(row), length) if in_front else slice(0, len(row))
        table[place, here] = torch.tensor(row, dtype=torch.long)
        real[place, here] = True
    return table, real
