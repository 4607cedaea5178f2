import numpy as np
import pytest
import torch

from glassworks.core.errors import BrokenFile, InvalidInput, InvalidSpec, NotFound
from glassworks.tasks import TASKS, TextWindows
from glassworks.tensors.seeds import Seed


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "text.bin"
    path.write_bytes(np.random.default_rng(0).integers(0, 256, 1000, dtype=np.uint8).tobytes())
    return path


def test_windows_are_stretches_of_the_file_and_targets_the_next_bytes(file):
    batch = TextWindows.of(file, length=20).sample(50, Seed(0))
    content = file.read_bytes()
    for given, wanted in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        assert given[1:] == wanted[:-1]
        assert bytes([*given, wanted[-1]]) in content
    assert batch.inputs.dtype == torch.long


def test_the_last_tenth_is_held_out_and_no_window_crosses(file):
    content = file.read_bytes()
    drawn = {split: TextWindows.of(file, length=9, split=split).sample(400, Seed(1)) for split in ("train", "held_out")}
    found = {
        split: [
            content.index(bytes([*row, last]))
            for row, last in zip(b.inputs.tolist(), b.targets[:, -1].tolist(), strict=True)
        ]
        for split, b in drawn.items()
    }
    assert max(found["train"]) + 10 <= 900 <= min(found["held_out"])
    # 91 places of a window of ten in the last hundred bytes: the first and the last are among 400 draws.
    assert (min(found["held_out"]), max(found["held_out"])) == (900, 990)


def test_a_part_of_exactly_one_window_gives_that_window(tmp_path):
    path = tmp_path / "short"
    path.write_bytes(bytes(range(10)))
    batch = TextWindows(path=str(path), length=8).sample(3, Seed(0))
    assert batch.inputs.tolist() == [list(range(8))] * 3
    assert batch.targets[:, -1].tolist() == [8] * 3


def test_equal_seeds_give_equal_windows(file):
    one, again, other = (TextWindows.of(file, length=31).sample(4, Seed(s)) for s in (3, 3, 4))
    assert torch.equal(one.inputs, again.inputs)
    assert not torch.equal(one.inputs, other.inputs)


def test_the_digest_follows_the_content_and_not_the_place(file, tmp_path):
    copy = tmp_path / "elsewhere"
    copy.write_bytes(file.read_bytes())
    assert TextWindows.of(file).digest() == TextWindows.of(copy).digest()
    assert TextWindows(path=str(file)).digest() != TextWindows(path=str(copy)).digest()
    copy.write_bytes(file.read_bytes()[:-1])
    assert TextWindows.of(file).digest() != TextWindows.of(copy).digest()


def test_another_content_is_noticed_even_after_a_first_batch(file):
    task = TextWindows.of(file, length=5)
    task.sample(1, Seed(0))
    file.write_bytes(b"quite another text" * 10)
    with pytest.raises(BrokenFile, match="another text"):
        task.sample(1, Seed(0))


def test_missing_empty_and_short_files_are_named(tmp_path):
    empty, short = tmp_path / "empty", tmp_path / "short"
    empty.write_bytes(b"")
    short.write_bytes(b"0123456789")
    with pytest.raises(NotFound, match="nowhere"):
        TextWindows.of(tmp_path / "nowhere")
    with pytest.raises(InvalidInput, match="is empty"):
        TextWindows.of(empty)
    with pytest.raises(InvalidInput, match="cannot be read"):
        TextWindows.of(tmp_path)
    with pytest.raises(InvalidInput, match="shorter than a window"):
        TextWindows.of(short, length=9).sample(1, Seed(0))
    with pytest.raises(InvalidInput, match="shorter than a window"):
        TextWindows.of(short, length=2, split="held_out").sample(1, Seed(0))


@pytest.mark.parametrize("fields", [{"path": ""}, {"path": "a", "sha256": "12"}, {"path": "a", "length": 0}])
def test_impossible_fields_are_refused(fields):
    with pytest.raises(InvalidSpec):
        TextWindows(**fields)


def test_any_bytes_can_be_written_and_told_apart(file):
    task = TextWindows.of(file)
    assert len(set(task.alphabet)) == task.vocabulary == 256
    assert task.alphabet[ord("a")] == "a"
    assert task.alphabet[0xE4] == "<0xE4>"
    assert task.ideal(task.sample(1, Seed(0))) is None
    assert TASKS.parse(task.to_json()) == task


def test_a_batch_of_a_large_file_reads_its_windows_only(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as sparse:
        sparse.truncate(10**12)
    # A terabyte of zeros that takes no disk: reading it would neither fit into memory nor end.
    batch = TextWindows(path=str(path), length=64).sample(4, Seed(0))
    assert batch.inputs.shape == (4, 64)
