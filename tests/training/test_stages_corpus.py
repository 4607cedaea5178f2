"""Texts, tokens and windows: what is read, how it is parted, and that the same comes again."""

import gzip
import json

import numpy as np
import pytest

from glassworks.core.errors import BrokenFile, InvalidInput, InvalidSpec, NotFound
from glassworks.models.byte_tokenizer import byte_tokenizer
from glassworks.tensors.seeds import Seed
from glassworks.training.stages.chat import IGNORED
from glassworks.training.stages.corpus import BACK, BLOCK, Corpus, cut_before, files_of
from glassworks.training.stages.tokenizer import BOS, EOS, PAD, TokenizerSpec, checked, finished, made, plain_ids
from glassworks.training.stages.tokens import bytes_per_token, tokens_of
from glassworks.training.stages.windows import Gaps, HiddenTokens, NextToken, RestOfWindow, Windows, spread_over

SENTENCE = "the cat sat on a mat, né café 界. "


def documents(corpus: Corpus) -> list[str]:
    found, open_one = [], ""
    for piece in corpus:
        open_one += piece.text
        if piece.ends:
            found.append(open_one)
            open_one = ""
    assert not open_one, "the last piece of a document says so"
    return found


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(SENTENCE * 200, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pairs():
    spec = TokenizerSpec(vocabulary=300)
    return made(spec, _Given([SENTENCE * 50]))


class _Given(Corpus):
    """Texts that are in no file."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__(())
        object.__setattr__(self, "texts", texts)

    def __iter__(self):
        from glassworks.training.stages.corpus import Piece

        return (Piece(text, ends=True) for text in self.texts)


def test_a_text_file_is_parted_at_its_marks_and_an_object_or_row_is_a_document(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("one\n<|endoftext|>\ntwo<|endoftext|>", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "three"}\n\n{"text": "four\\nlines"}\n', encoding="utf-8")
    with gzip.open(tmp_path / "c.json.gz", "wt", encoding="utf-8") as file:
        json.dump([{"text": "five"}], file)
    assert documents(Corpus(tuple(files_of([str(tmp_path)])))) == ["one", "two", "three", "four\nlines", "five"]
    assert documents(Corpus((tmp_path / "a.txt",), separator=""))[0].startswith("one\n<|endoftext|>")


def test_tables_are_read_by_column(tmp_path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"body": ["one", None, "two"]}), tmp_path / "t.parquet")
    assert documents(Corpus((tmp_path / "t.parquet",), field="body")) == ["one", "two"]
    with pytest.raises(BrokenFile, match="no column text"):
        documents(Corpus((tmp_path / "t.parquet",)))


@pytest.mark.parametrize("unit", ["word ", "界", "x"])
def test_a_line_of_any_length_comes_in_pieces_of_bounded_length(tmp_path, unit) -> None:
    whole = unit * (3 * BLOCK // len(unit) + 7)
    (tmp_path / "long.txt").write_text(whole, encoding="utf-8")
    pieces = list(Corpus((tmp_path / "long.txt",)))
    assert "".join(piece.text for piece in pieces) == whole
    assert max(len(piece.text) for piece in pieces) <= BLOCK + BACK + 1
    assert [piece.ends for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_a_long_document_keeps_the_line_ends_at_which_it_is_cut(tmp_path) -> None:
    long = "\n".join(f"字字字字字{number:05d}" for number in range(10_000))
    path = tmp_path / "long.txt"
    path.write_text(f"{long}<|endoftext|>\nshort\n<|endoftext|>last", encoding="utf-8")
    assert documents(Corpus((path,))) == [long, "short", "last"]


def test_a_cut_at_a_single_blank_changes_no_token(pairs) -> None:
    whole = (SENTENCE + "\n\n  two  blanks ") * 9
    for limit in range(20, 200, 7):
        place = cut_before(whole, limit)
        apart = plain_ids(pairs, [whole[:place], whole[place:]])
        assert apart[0] + apart[1] == plain_ids(pairs, [whole])[0]


def test_bytes_that_are_no_text_are_named_or_replaced(tmp_path) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(b"good \xff bad")
    with pytest.raises(BrokenFile, match="byte 5"):
        documents(Corpus((path,)))
    assert documents(Corpus((path,), damaged="replace")) == ["good \ufffd bad"]
    path.write_bytes(b"a\0b")
    with pytest.raises(BrokenFile, match="NUL"):
        documents(Corpus((path,)))
    assert documents(Corpus((path,), damaged="replace")) == ["ab"]


def test_nothing_to_read_is_said(tmp_path) -> None:
    (tmp_path / "empty.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(InvalidInput, match="empty"):
        documents(Corpus((tmp_path / "empty.txt",)))
    with pytest.raises(NotFound):
        files_of([str(tmp_path / "absent.txt")])
    with pytest.raises(InvalidInput, match="no text lies"):
        files_of([str(tmp_path / "*.parquet")])
    (tmp_path / "x.jsonl").write_text('{"body": "a"}\n', encoding="utf-8")
    with pytest.raises(BrokenFile, match="no text in text"):
        documents(Corpus((tmp_path / "x.jsonl",)))
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n{', encoding="utf-8")
    with pytest.raises(BrokenFile, match="line 2"):
        documents(Corpus((tmp_path / "x.jsonl",)))


def test_special_tokens_come_first_and_any_text_comes_back(pairs) -> None:
    assert pairs.convert_tokens_to_ids([PAD, BOS, EOS]) == [0, 1, 2]
    assert len(pairs) <= 300
    found = checked(pairs, _Given([SENTENCE, "完全 unseen 🙂 text <|eos|>"]))
    assert (found.differing, found.unknown) == (0, 0)
    # What only looks like a special token is spelled.
    assert 2 not in plain_ids(pairs, ["a <|eos|> b"])[0]


def test_characters_that_are_unknown_are_counted() -> None:
    spec = TokenizerSpec(algorithm="characters", vocabulary=20)
    tokenizer = made(spec, _Given(["abcabc ab"]))
    found = checked(tokenizer, _Given(["abz a"]))
    assert (found.tokens, found.unknown, found.differing) == (5, 1, 1)
    assert checked(tokenizer, _Given(["abc"])).differing == 0


def test_too_few_tokens_are_refused() -> None:
    with pytest.raises(InvalidSpec, match="at least"):
        TokenizerSpec(vocabulary=100)


def test_bytes_of_tokens_sum_to_the_text(pairs) -> None:
    for tokenizer in (pairs, finished(byte_tokenizer().backend_tokenizer)):
        ids = plain_ids(tokenizer, [SENTENCE])[0]
        assert bytes_per_token(tokenizer)[ids].sum() == len(SENTENCE.encode())
        assert bytes_per_token(tokenizer)[tokenizer.eos_token_id] == 0


def test_a_text_is_spelled_once_and_a_tenth_held_out(text, tmp_path, pairs) -> None:
    spec = TokenizerSpec(data=(str(text),))
    found = tokens_of(spec, pairs, tmp_path)
    whole = plain_ids(pairs, [text.read_text(encoding="utf-8")])[0]
    assert [*found.fit.tolist(), *found.held_out.tolist()] == [*whole, 2]
    assert len(found.held_out) == (len(whole) + 1) // 10
    moved = tmp_path / "elsewhere.txt"
    text.rename(moved)
    again = tokens_of(TokenizerSpec(data=(str(moved),)), pairs, tmp_path)
    assert again.path == found.path


def test_every_tenth_of_many_documents_is_held_out(tmp_path, pairs) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps({"text": f"document {n}"}) + "\n" for n in range(40)), encoding="utf-8")
    found = tokens_of(TokenizerSpec(data=(str(path),)), pairs, tmp_path)
    held_out = pairs.decode(found.held_out.tolist()).split(EOS)
    assert held_out[:4] == ["document 9", "document 19", "document 29", "document 39"]
    assert found.documents == 40


def test_windows_cover_every_token_of_an_epoch_and_come_again() -> None:
    ids = np.arange(103, dtype=np.uint16)
    windows = Windows(ids, 8, 40, NextToken(), Seed(3))
    again = Windows(ids, 8, 40, NextToken(), Seed(3))
    drawn = [windows.window(n) for n in range(windows.per_epoch)]
    assert all((again.window(n) == drawn[n]).all() for n in reversed(range(windows.per_epoch)))
    predicted = np.concatenate([row[1:] for row in drawn])
    assert len(np.unique(predicted)) == len(predicted), "each token is asked for once an epoch"
    assert len(predicted) >= len(ids) - 2 * 8
    assert not np.array_equal(windows.window(0), windows.window(windows.per_epoch))
    with pytest.raises(InvalidInput, match="shorter than one window"):
        Windows(ids, 200, 1, NextToken(), Seed(0))


def test_documents_kept_apart_begin_at_place_zero() -> None:
    row = NextToken(end=2).ask(np.array([5, 6, 2, 7, 8, 2, 9]), Seed(0).numpy())
    assert row["position_ids"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert row["labels"].tolist() == [IGNORED, 6, 2, IGNORED, 8, 2, IGNORED]


def test_a_beginning_is_read_and_the_rest_asked() -> None:
    row = RestOfWindow().ask(np.arange(10, 20), Seed(1).numpy())
    prefix = int(row["prefix"])
    assert 1 <= prefix < 10
    assert row["labels"].tolist() == [IGNORED] * prefix + list(range(10 + prefix, 20))


def test_hidden_tokens_have_the_published_shares() -> None:
    ids = np.full(20_000, 7)
    row = HiddenTokens(mask=3, vocabulary=50, special=frozenset({0})).ask(ids, Seed(0).numpy())
    asked = (row["labels"] != IGNORED).numpy()
    inputs = row["input_ids"].numpy()[asked]
    assert asked.mean() == pytest.approx(0.15, abs=0.01)
    assert (inputs == 3).mean() == pytest.approx(0.8 + 0.1 / 50, abs=0.02)
    assert (inputs == 7).mean() == pytest.approx(0.1 + 0.1 / 50, abs=0.02)
    assert (row["input_ids"].numpy()[~asked] == 7).all()


@pytest.mark.parametrize("length", [2, 7, 63])
def test_gaps_and_what_stood_in_them_make_the_window_again(length) -> None:
    sentinels = tuple(range(1000, 1040))
    question = Gaps(sentinels, end=1)
    ids = np.arange(100, 100 + length)
    row = question.ask(ids, Seed(length).numpy())
    source, target = row["input_ids"].tolist(), row["labels"].tolist()
    assert (source[-1], target[-1]) == (1, 1)
    gone: dict[int, list[int]] = {}
    for token in target[:-1]:
        if token >= 1000:
            gone[last := token] = []
        else:
            gone[last].append(token)
    told = [one for token in source[:-1] for one in (gone[token] if token >= 1000 else [token])]
    assert told == ids.tolist()
    assert sum(map(len, gone.values())) == question.count(length)[0]


def test_windows_to_judge_by_lie_apart() -> None:
    rows = spread_over(np.arange(100, dtype=np.uint16), 9, 5)
    assert rows.shape == (5, 9)
    assert len(np.unique(rows)) == rows.numel()
    assert spread_over(np.arange(5, dtype=np.uint16), 9, 5).shape == (1, 5)


def test_what_is_asked_with_names_its_highest_token() -> None:
    assert NextToken().highest == RestOfWindow().highest == -1
    assert HiddenTokens(mask=9, vocabulary=8).highest == 9
    assert HiddenTokens(mask=3, vocabulary=8).highest == 7
    assert Gaps((5, 12, 6), end=2).highest == 12
