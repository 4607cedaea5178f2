import numpy as np
import pytest
import torch

from glassworks.core.errors import InvalidSpec
from glassworks.tasks import TASKS, Passkey, TextWindows
from glassworks.tasks.haystacks import FILLER
from glassworks.tasks.passkey import INTRODUCTION, QUESTION
from glassworks.tensors.seeds import Seed


def texts_of(batch) -> list[bytes]:
    """The whole texts: inputs and the last target."""
    whole = torch.cat((batch.inputs, batch.targets[:, -1:]), 1)
    return [bytes(row) for row in whole.tolist()]


def needle_of(key: bytes) -> bytes:
    return b"The pass key is " + key + b". Remember it. " + key + b" is the pass key. "


@pytest.mark.parametrize("digits", [1, 5, 12])
def test_the_key_of_the_needle_is_the_answer_and_stands_nowhere_else(digits):
    task = Passkey(length=512, digits=digits)
    batch = task.sample(20, Seed(0))
    for text in texts_of(batch):
        key = text[-digits:]
        assert key.isdigit()
        assert text.endswith(QUESTION + key)
        assert text.count(needle_of(key)) == 1
        rest = text[: -len(QUESTION) - digits].replace(needle_of(key), b"")
        # What is left is the filler, from anywhere, as if there had been no needle.
        assert rest in FILLER * 8
        assert len(text) == 513


def test_key_marks_the_positions_whose_target_is_a_digit_of_the_answer():
    batch = Passkey(length=400, digits=4).sample(6, Seed(1))
    assert batch.scored["key"].sum(1).tolist() == [4] * 6
    for row, text in enumerate(texts_of(batch)):
        assert bytes(batch.targets[row][batch.scored["key"][row]].tolist()) == text[-4:]
    assert bool(batch.scored["all"].all())
    assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])


def test_digits_are_uniform_and_phases_and_places_go_everywhere():
    texts = texts_of(Passkey(length=256).sample(3000, Seed(2)))
    counts = np.bincount([int(chr(c)) for text in texts for c in text[-5:]], minlength=10) / 15_000
    # Four standard deviations of a share of 0.1 in 15,000 draws.
    assert np.abs(counts - 0.1).max() < 0.01
    # The question begins at 257 - 43 in the second segment; the needle of 59 bytes ends within the first of 128.
    assert {text.index(b"The pass key is") for text in texts} == set(range(128 - 59 + 1))
    assert len({text[:3] for text in texts if not text.startswith(b"The pass")}) > 60


@pytest.mark.parametrize(("segment", "length"), [(64, 192), (64, 500), (128, 1024), (128, 300)])
@pytest.mark.parametrize("introduction", [False, True])
def test_earlier_keeps_the_needle_out_of_the_segment_of_the_question(segment, length, introduction):
    length += 256 * introduction
    for share in (0.0, 1.0):
        task = Passkey(length=length, segment=segment, earlier=share, introduction=introduction)
        asked = length + 1 - 43
        for text in texts_of(task.sample(200, Seed(3))):
            start = text.index(b"The pass key is ")
            ends_before = start + len(needle_of(text[-5:])) <= asked // segment * segment
            assert ends_before == bool(share)
            assert start + len(needle_of(text[-5:])) <= asked
            assert text.startswith(INTRODUCTION) == introduction


def test_earlier_is_a_share():
    texts = texts_of(Passkey(length=1024, earlier=0.7).sample(1000, Seed(4)))
    found = np.mean([text.index(b"The pass key is ") + 59 <= 896 for text in texts])
    assert found == pytest.approx(0.7, abs=0.06)


@pytest.mark.parametrize(("depth", "place"), [(0.0, 0), (0.5, 462), (1.0, 923)])
def test_depth_places_the_needle_between_the_start_and_the_question(depth, place):
    for text in texts_of(Passkey(length=1024, depth=depth).sample(5, Seed(5))):
        assert text.index(b"The pass key is ") == place


def test_only_segments_of_filler_count_more_than_once():
    task = Passkey(length=1024, segment=64, virtual=4.0)
    batch = task.sample(300, Seed(6))
    assert batch.written is not None
    assert batch.written.shape == batch.inputs.shape
    exponents = []
    for row, text in enumerate(texts_of(batch)):
        times = batch.written[row].unflatten(0, (-1, 64))
        assert torch.equal(times, times[:, :1].expand_as(times))
        start, asked = text.index(b"The pass key is "), 1025 - 43
        needle = set(range(start // 64, (start + 58) // 64 + 1))
        plain = [s for s in range(16) if s in needle or s >= asked // 64]
        assert bool((times[plain] == 1).all())
        grown = times[[s for s in range(16) if s not in plain]]
        assert bool((grown == grown[0, 0]).all())
        exponents.append(float(grown[0, 0].log10()))
    assert 0 <= min(exponents) < 0.1
    assert 3.9 < max(exponents) <= 4
    assert np.mean(exponents) == pytest.approx(2, abs=0.3)


def test_virtual_length_leaves_the_texts_alone():
    plain, grown = (Passkey(length=512, virtual=u).sample(8, Seed(7)) for u in (0.0, 3.0))
    assert plain.written is None
    assert torch.equal(plain.inputs, grown.inputs)


def test_a_stream_is_the_sample_in_blocks():
    task = Passkey(length=1000, introduction=True, segment=64)
    batch = task.sample(4, Seed(8))
    blocks, answers = task.stream(4, Seed(8), block=77)
    found = list(blocks)
    assert [b.shape[1] for b in found] == [77] * 12 + [76]
    assert torch.equal(torch.cat(found, 1).long(), batch.inputs)
    assert torch.equal(answers.long(), batch.targets[batch.scored["key"]].view(4, 5))
    longer, _ = task.stream(4, Seed(8), length=3000, depth=1.0)
    expected = task.replaced_all({"length": 3000, "depth": 1.0}).sample(4, Seed(8)).inputs
    assert torch.equal(torch.cat(list(longer), 1).long(), expected)


def test_a_million_bytes_are_written_out_a_block_at_a_time():
    texts = Passkey(length=256, depth=0.5).texts(2, Seed(9), length=2**20)
    place = int(texts.places[0, 0])
    assert place == round(0.5 * (2**20 + 1 - 43 - 59))
    around = texts.between(place - 5, place + 59)
    for row, key in zip(around, texts.answers, strict=True):
        assert bytes(row[5:].tolist()) == needle_of(bytes(key.tolist()))
    end = texts.between(2**20 - 42, 2**20 + 1)
    assert bytes(end[1].tolist()) == QUESTION + bytes(texts.answers[1].tolist())
    far = bytes(texts.between(900_000, 900_300)[0].tolist())
    assert far in FILLER * 5


def test_passages_of_a_book_can_be_the_filler(tmp_path):
    content = bytes(np.random.default_rng(0).integers(97, 123, 3000, dtype=np.uint8))
    path = tmp_path / "book.txt"
    path.write_bytes(content)
    task = Passkey(length=600, book=TextWindows.of(path, length=1))
    # The last tenth is held out; the text goes round its end.
    round_the_end = content[:2700] * 2
    begins = set()
    for text in texts_of(task.sample(30, Seed(10))):
        key = text[-5:]
        rest = text[:-43].replace(needle_of(key), b"")
        assert rest in round_the_end
        begins.add(rest[:8])
    assert len(begins) > 20


def test_equal_seeds_give_equal_texts():
    one, again, other = (Passkey().sample(3, Seed(s)) for s in (1, 1, 2))
    assert torch.equal(one.inputs, again.inputs)
    assert not torch.equal(one.inputs, other.inputs)


def test_texts_that_do_not_fit_are_refused():
    # Needle of 59 and question of 43: 101 inputs and the last digit.
    assert Passkey(length=101, earlier=0).sample(1, Seed(0)).inputs.shape == (1, 101)
    with pytest.raises(InvalidSpec, match="do not fit into 100 bytes"):
        Passkey(length=100, earlier=0)
    with pytest.raises(InvalidSpec, match="no needle fits before the segment"):
        Passkey(length=101)
    with pytest.raises(InvalidSpec, match="do not fit into 50 bytes"):
        Passkey().texts(1, Seed(0), length=50)
    with pytest.raises(InvalidSpec, match="no needle fits before the segment"):
        Passkey().stream(1, Seed(0), length=150)
    with pytest.raises(InvalidSpec, match="depth"):
        Passkey().stream(1, Seed(0), depth=1.5)


def test_it_stands_on_the_shelf():
    task = TASKS.parse({"kind": "passkey", "length": 300})
    assert isinstance(task, Passkey)
    assert task.vocabulary == 256
    assert task.longest == 300
