import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from glassworks.anatomy import Alphabet
from glassworks.core.errors import InvalidInput, NotFound
from glassworks.models import text_pieces
from glassworks.models.byte_tokenizer import byte_tokenizer
from glassworks.models.llama2c import read_llama2c_tokenizer
from glassworks.models.text_pieces import Place, Source, Speller, TextPiece, TextPieces
from tests.assets import asset

PROSE = "He said: “Whatever you like…”  and then, well — naïvely! went\n\n\tto 12345 towns; 北京欢迎你。🎉 don't\r\n"


def pieces_of(tokenizer: object, source: Source, place: Place | None = None) -> list[TextPiece]:
    return list(TextPieces(Speller(tokenizer), source, place))


def ids_of(pieces: list[TextPiece]) -> list[int]:
    return np.concatenate([piece.ids for piece in pieces]).tolist()


def gpt2_tokenizer() -> PreTrainedTokenizerFast:
    folder = asset("tokenizers/gpt2")
    vocabulary = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    lines = (folder / "vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]
    tokenizer = Tokenizer(models.BPE(vocabulary, [tuple(line.split()) for line in lines if line]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def tokenizers() -> dict[str, object]:
    stories = read_llama2c_tokenizer(asset("lm/stories260K/tok512.bin"), 512)
    return {"bytes": byte_tokenizer(), "sentence pieces": stories, "words": gpt2_tokenizer()}


@pytest.fixture(scope="module")
def every() -> dict[str, object]:
    return tokenizers()


@pytest.mark.parametrize("kind", ["bytes", "sentence pieces", "words"])
@pytest.mark.parametrize("block", [97, 1024])
def test_pieces_hold_the_tokens_of_the_whole_text(every, kind, block, monkeypatch) -> None:
    text = PROSE * 25 + "北京欢迎你为你开天辟地流动中的魅力充满朝气" * 30 + PROSE * 3
    monkeypatch.setattr(text_pieces, "BLOCK", block)
    pieces = TextPieces(Speller(every[kind]), Source.of_text(text))
    found = list(pieces)
    assert len(found) > 3
    assert ids_of(found) == Speller(every[kind]).plain(text)
    assert pieces.seams == 0
    assert found[-1].end.bytes == len(text.encode())
    assert sum(piece.size for piece in found) == len(text.encode())


def test_a_reading_goes_on_anywhere_in_a_text(every, monkeypatch, tmp_path) -> None:
    text = PROSE * 20
    monkeypatch.setattr(text_pieces, "BLOCK", 700)
    path = tmp_path / "text.txt"
    raw = text.encode()
    path.write_bytes(raw)
    whole = pieces_of(every["words"], Source.of(path))
    tokens = ids_of(whole)
    done = 0
    for piece in whole:
        for wanted in (0, 1, len(piece.ids) // 2, len(piece.ids) - 1, len(piece.ids)):
            count = piece.parted(wanted)
            assert wanted <= count <= wanted + 3
            place = piece.after(count)
            assert raw[: place.bytes].decode().endswith(place.context)
            assert Source.of(path).goes_on_at(place) is (place.until > 0)
            rest = pieces_of(every["words"], Source.of(path), place)
            assert (ids_of(rest) if rest else []) == tokens[done + count :]
        done += len(piece.ids)


def test_a_text_is_known_again_by_what_was_read_of_it(tmp_path) -> None:
    text = PROSE * 400
    piece = pieces_of(byte_tokenizer(), Source.of_text(text))[1]
    place = piece.after(piece.parted(5))
    assert Source.of_text(text).goes_on_at(place)
    assert Source.of_text(text + "more").goes_on_at(place)
    assert not Source.of_text(text[1:]).goes_on_at(place)
    assert not Source.of_text(text[:100]).goes_on_at(place)
    assert not Source.of_text(text).goes_on_at(Place())
    assert not Source("-", None).goes_on_at(place)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path) -> None:
    path = tmp_path / "marked.txt"
    path.write_bytes(b"\xef\xbb\xbfmarked")
    [piece] = pieces_of(byte_tokenizer(), Source.of(path))
    assert bytes(piece.ids.tolist()) == b"marked"
    assert piece.end.bytes == 9
    path.write_bytes(b"\xef\xbb\xbf")
    with pytest.raises(InvalidInput, match="empty"):
        pieces_of(byte_tokenizer(), Source.of(path))


def test_the_first_byte_that_is_no_text_is_named_wherever_it_is(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(text_pieces, "BLOCK", 64)
    path = tmp_path / "latin.txt"
    for before in (0, 1, 63, 64, 65, 200):
        path.write_bytes("ä".encode() * (before // 2) + b"x" * (before % 2) + b"\xe9t\xe9")
        with pytest.raises(InvalidInput, match="not UTF-8") as caught:
            pieces_of(byte_tokenizer(), Source.of(path))
        assert f"offset {before}" in str(caught.value)
    # A character that the file cuts off in its middle is none either.
    path.write_bytes(b"a" * 100 + "界".encode()[:2])
    with pytest.raises(InvalidInput, match="not UTF-8") as caught:
        pieces_of(byte_tokenizer(), Source.of(path))
    assert "offset 100" in str(caught.value)


def test_what_is_no_text_file_is_refused(tmp_path) -> None:
    (tmp_path / "empty.txt").write_bytes(b"")
    for given, problem, says in (
        (tmp_path, InvalidInput, "is a folder"),
        (tmp_path / "nowhere.txt", NotFound, "is not there"),
        (tmp_path / "empty.txt", InvalidInput, "the text is empty"),
    ):
        with pytest.raises(problem, match=says):
            Source.of(given)
    with pytest.raises(InvalidInput, match="the text is empty"):
        Source.of_text("")
    with pytest.raises(InvalidInput, match="no tokenizer"):
        Speller(None)


def test_a_tokenizer_that_tells_no_offsets_is_cut_at_lines(every) -> None:
    speller = Speller(every["words"])
    speller.has_offsets = False
    text = "one two three\nfour\n" * 3000 + "the end"
    pieces = list(TextPieces(speller, Source.of_text(text)))
    assert len(pieces) > 2
    assert all(piece.end.context.endswith("\n") for piece in pieces[:-1])
    assert speller.text_of(ids_of(pieces)) == text


def test_an_alphabet_spells_by_characters() -> None:
    alphabet = Alphabet(tuple("ab "))
    pieces = pieces_of(alphabet, Source.of_text("ab ba " * 10))
    assert ids_of(pieces) == [0, 1, 2, 1, 0, 2] * 10
    assert Speller(alphabet).beginning() == []


def test_what_a_tokenizer_puts_before_a_text_is_known(every) -> None:
    assert Speller(every["sentence pieces"]).beginning() == [1]
    assert Speller(every["words"]).beginning() == []


def test_a_token_over_the_seam_is_noticed(every, monkeypatch) -> None:
    monkeypatch.setattr(text_pieces, "BLOCK", 40)
    source = Source.of_text("word after word after word " * 20)
    end = pieces_of(every["words"], source)[0].end
    # A place within a word, where no token of the whole text begins.
    within = end.bytes + 3
    pieces = TextPieces(Speller(every["words"]), source, replace(end, bytes=within, context=source.text[:within]))
    assert len(list(pieces)) > 1
    assert pieces.seams == 1


def test_standard_input_is_read_as_it_comes(monkeypatch) -> None:
    import io

    class Piped:
        buffer = io.BytesIO(PROSE.encode())

    monkeypatch.setattr("sys.stdin", Piped)
    pieces = pieces_of(byte_tokenizer(), Source.of("-"))
    assert bytes(ids_of(pieces)) == PROSE.encode()
    assert Path("-").name == Source.of("-").name
