import re
from collections.abc import Sequence

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from glassworks.anatomy import Alphabet, Subject
from glassworks.core.errors import InvalidInput
from glassworks.instruments.alignment import align, read_characters, shared_ends, shared_vocabulary

TEXT = "The cat, the dog."
CHARACTERS = Alphabet(tuple(sorted(set(TEXT + "Zz"))))


class Words:
    """One token a word with the blank before it, a beginning token, and small letters only."""

    words = ("<s>", "the", " cat", ",", " the", " dog", ".", "<unk>")

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        found = [self.words.index(word) if word in self.words else 7 for word in re.findall(r" ?\w+|\W", text.lower())]
        return [0, *found] if add_special_tokens else found

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        shown = [self.words[token] for token in token_ids]
        return "".join(word for word in shown if not (skip_special_tokens and word.startswith("<")))

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [self.words[token] for token in ids]


class Bytes:
    """One token a byte, so that a character may take several."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return list(text.encode())

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        return bytes(token_ids).decode(errors="replace")

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [f"<0x{token:02X}>" for token in ids]


def subject(tokenizer: object, vocabulary: int = 256) -> Subject:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    return Subject.of(LlamaForCausalLM(config).eval(), tokenizer)


def test_places_are_matched_where_both_have_read_the_same_characters() -> None:
    words, letters = subject(Words(), 8), subject(CHARACTERS, len(CHARACTERS))
    found = align(words, letters, [TEXT], (words.batch(TEXT), letters.batch(TEXT)))
    assert not found.same_tokens
    # After "the", " cat", ",", " the", " dog" and "."; the beginning token has no partner.
    assert found.first == ((1, 2, 3, 4, 5, 6),)
    assert found.second == ((2, 6, 7, 11, 15, 16),)
    assert "6 places" in found.says.en


def test_a_character_is_read_with_its_last_byte() -> None:
    read = read_characters(subject(Bytes()), "é世!", list("é世!".encode()))
    assert read == [None, 1, None, None, 2, 3]


def test_reading_goes_on_behind_an_unknown_token() -> None:
    text = "the bird, the dog."
    words = subject(Words(), 8)
    assert read_characters(words, text, Words().encode(text)) == [None, 3, None, 8, 11, 14, 15]


def test_ends_are_matched_by_their_number_of_characters() -> None:
    assert shared_ends([None, 3, 5, 9], [2, 3, None, 9]) == [(1, 1), (3, 3)]


def test_equal_tokens_are_matched_one_by_one_and_a_text_without_a_shared_place_is_refused() -> None:
    words = subject(Words(), 8)
    batch = words.batch([TEXT, "the cat"])
    same = align(words, words, [TEXT, "the cat"], (batch, batch))
    assert same.same_tokens
    assert same.first == same.second == (tuple(range(7)), (0, 1, 2))
    letters = subject(CHARACTERS, len(CHARACTERS))
    with pytest.raises(InvalidInput, match="share no place"):
        align(words, letters, ["Zz"], (words.batch("Zz"), letters.batch("Zz")))


def test_ids_mean_the_same_only_where_the_tokens_are_spelled_alike() -> None:
    words, wider = subject(Words(), 8), subject(Words(), 7)
    assert shared_vocabulary(words, words) == 8
    assert shared_vocabulary(words, wider) == 7
    assert shared_vocabulary(words, subject(CHARACTERS, len(CHARACTERS))) == 0
    assert shared_vocabulary(words, subject(None, 8)) == 8
    assert shared_vocabulary(words, subject(None, 9)) == 0
