"""Pairs, labelled sentences, hidden bytes and continuations: what is shown, what is asked, and what is refused."""

import gzip

import pytest
import torch

from glassworks.core.errors import BrokenFile, InvalidInput, InvalidSpec, NotFound
from glassworks.tasks import Continuations, MaskedText, Pairs, Sentences, TextWindows
from glassworks.tasks.text import BYTES
from glassworks.tasks.word_pieces import END, PAD, SEPARATOR, learned_from, padded
from glassworks.tensors.seeds import Seed

ENGLISH = [f"a {animal} sees {number} birds" for animal in ("cat", "dog", "fox") for number in ("two", "ten", "no")]
GERMAN = [f"ein {tier} sieht {zahl} Vögel" for tier in ("Kater", "Hund", "Fuchs") for zahl in ("zwei", "zehn", "keine")]


@pytest.fixture
def pairs(tmp_path):
    for name, lines in (("en", ENGLISH), ("de", GERMAN)):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
        (tmp_path / f"held.{name}").write_text("".join(f"{line}\n" for line in lines[:3]), encoding="utf-8")
    files = (tmp_path / "en.gz", tmp_path / "de.gz", tmp_path / "held.en", tmp_path / "held.de")
    return Pairs.of(files, pieces=320, source_length=40, target_length=44)


@pytest.fixture
def windows(tmp_path):
    (tmp_path / "text").write_bytes(bytes(range(32, 127)) * 30)
    return TextWindows.of(tmp_path / "text", length=40)


class TestWordPieces:
    def test_any_text_is_read_back_exactly_and_ends_at_the_end(self):
        words = learned_from(tuple(ENGLISH + GERMAN), 320)
        (ids,) = words.ids(("Größe 7 日本 of a cat",))
        assert words.text(ids) == "Größe 7 日本 of a cat"
        assert words.text([*ids, END, *ids]) == words.text(ids)
        assert len(words.alphabet) == 320
        assert words.alphabet[:3] == ("<pad>", "<sep>", "<end>")

    def test_a_short_text_still_gives_as_many_tokens_as_asked_for(self):
        assert len(set(learned_from(("ab",), 300).alphabet)) == 300

    def test_padding_stands_on_the_side_asked_for(self):
        table, real = padded([[5], [6, 7]], 3, in_front=True)
        assert table.tolist() == [[PAD, PAD, 5], [PAD, 6, 7]]
        assert real.tolist() == [[False, False, True], [False, True, True]]
        assert padded([[5], [6, 7]], 3)[0].tolist() == [[5, PAD, PAD], [6, 7, PAD]]


class TestPairs:
    def test_source_separator_target_end_stand_in_their_places(self, pairs):
        batch, words = pairs.first(9), pairs.words()
        assert batch.given == 40
        assert (batch.inputs[:, 39] == SEPARATOR).all()
        for row, (source, target) in enumerate(pairs.texts(9)):
            assert words.text(batch.inputs[row, :39][batch.real[row, :39]].tolist()) == source
            assert words.text(batch.targets[row, 39:].tolist()) == target
            assert batch.prefix[row] == len(words.ids((source,))[0]) + 1

    def test_only_the_target_and_its_end_are_asked_for(self, pairs):
        batch, words = pairs.first(9), pairs.words()
        for row, (_, target) in enumerate(pairs.texts(9)):
            assert batch.targets[row][batch.scored["all"][row]].tolist() == [*words.ids((target,))[0], END]
        assert bool(batch.real[batch.scored["all"]].all())

    def test_the_held_out_files_share_the_vocabulary(self, pairs):
        held = pairs.replaced("split", "held_out")
        assert [source for source, _ in held.texts(99)] == ENGLISH[:3]
        assert held.alphabet == pairs.alphabet

    def test_pairs_that_do_not_fit_are_left_out_and_counted(self, pairs):
        lengths = [len(ids) for ids in pairs.words().ids(tuple(ENGLISH))]
        short = pairs.replaced("source_length", sorted(lengths)[4] + 1)
        assert short.share_that_fits() == sum(length <= sorted(lengths)[4] for length in lengths) / 9
        with pytest.raises(InvalidInput, match="no pair fits"):
            pairs.replaced("source_length", 2).sample(1, Seed(0))

    def test_other_contents_and_unequal_sides_are_refused(self, pairs, tmp_path):
        (tmp_path / "held.de").write_text("ein Satz\n", encoding="utf-8")
        with pytest.raises(BrokenFile, match="another text"):
            pairs.replaced("split", "held_out").sample(1, Seed(0))
        with pytest.raises(InvalidInput, match="differ in their lines"):
            pairs.replaced_all({"split": "held_out", "sha256": None, "pieces": 321}).sample(1, Seed(0))

    def test_a_damaged_archive_and_a_missing_file_are_named(self, tmp_path):
        with pytest.raises(NotFound):
            Pairs.of((tmp_path / "none",) * 4)
        (tmp_path / "bad.gz").write_bytes(b"no archive")
        with pytest.raises(BrokenFile, match="cannot be unpacked"):
            Pairs.of((tmp_path / "bad.gz",) * 4).sample(1, Seed(0))

    def test_places_of_files_are_no_part_of_the_digest(self, pairs, tmp_path):
        (tmp_path / "moved").mkdir()
        names = ("en.gz", "de.gz", "held.en", "held.de")
        moved = [(tmp_path / name).rename(tmp_path / "moved" / name) for name in names]
        again = Pairs.of(tuple(moved), pieces=320, source_length=40, target_length=44)
        assert again.digest() == pairs.digest()


class TestSentences:
    def test_the_label_is_asked_for_at_the_last_real_token(self, tmp_path):
        (tmp_path / "lines").write_bytes(
            "1 a film, très bon\n0 no\n2 a very very long sentence indeed\n".encode("latin-1")
        )
        task = Sentences.of(tmp_path / "lines", tmp_path / "lines", labels=3, pieces=300, length=6)
        batch = task.first(9)
        assert batch.targets[batch.scored["all"]].tolist() == [1, 0, 2]
        assert (batch.inputs[batch.scored["all"]] == END).all()
        assert batch.scored["all"].sum(1).tolist() == [1, 1, 1]
        assert batch.real[1].sum() < batch.real[2].sum() == 6
        assert task.lines()[1][0] == "a film, très bon"

    @pytest.mark.parametrize("line", ["3 a label too high", "no label", "1 "])
    def test_a_line_without_a_label_is_named(self, tmp_path, line):
        (tmp_path / "lines").write_text(f"1 fine\n{line}\n")
        with pytest.raises(BrokenFile, match="line 2"):
            Sentences.of(tmp_path / "lines", tmp_path / "lines", labels=3, pieces=300).sample(1, Seed(0))


class TestMaskedText:
    def test_fifteen_per_cent_of_every_window_are_asked_for(self, windows):
        batch = MaskedText(text=windows).sample(500, Seed(0))
        assert (batch.scored["all"].sum(1) == 6).all()
        assert torch.equal(batch.inputs[~batch.scored["all"]], batch.targets[~batch.scored["all"]])
        assert torch.equal(batch.targets, windows.sample(500, Seed(0)).inputs)

    def test_of_those_eight_in_ten_are_masked_one_random_one_shown(self, windows):
        batch = MaskedText(text=windows).sample(2000, Seed(1))
        shown, right = batch.inputs[batch.scored["all"]], batch.targets[batch.scored["all"]]
        masked, same = (shown == BYTES).float().mean(), (shown == right).float().mean()
        assert float(masked) == pytest.approx(0.8, abs=0.015)
        assert float(same) == pytest.approx(0.1 + 0.1 / 256, abs=0.012)

    def test_a_window_of_one_byte_asks_for_it(self, windows):
        assert bool(MaskedText(text=windows.replaced("length", 1)).sample(3, Seed(0)).scored["all"].all())


class TestContinuations:
    def test_the_beginning_is_given_and_the_rest_asked_for(self, windows):
        task = Continuations(text=windows, given=15)
        batch = task.sample(2, Seed(0))
        # The first byte to be written is the target of the last one that is given.
        assert batch.scored["all"][0].tolist() == [False] * 14 + [True] * 26
        assert bool(batch.scored["text"].all())
        assert batch.prefix.tolist() == [15, 15]

    def test_nothing_left_to_write_is_refused(self, windows):
        with pytest.raises(InvalidSpec, match="nothing is left to write"):
            Continuations(text=windows, given=41)
