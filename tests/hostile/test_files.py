"""Files that others wrote, read whole or in pieces: never a wait, never more memory than was said."""

import gzip
import json
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from glassworks.core import reading
from glassworks.core.errors import BrokenFile, GlassworksError, InvalidInput, NotFound
from glassworks.core.files import read_json
from glassworks.core.reading import has_half_characters, opened, read_bytes, whole_of
from glassworks.models.gallery.gguf_header import check_gguf
from glassworks.models.llama2c import read_llama2c, read_llama2c_tokenizer
from glassworks.models.taming import growth_of
from glassworks.training.stages.corpus import Corpus
from glassworks.training.stages.examples import entries_of
from glassworks.training.stages.folder import stages_behind

MEGABYTE = 1 << 20


@pytest.mark.parametrize("name", ["pipe", "device", "folder", "circle", "a\0b", "x" * 5000])
def test_what_is_no_file_is_never_opened(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "pipe":
        os.mkfifo(path)
    elif name == "device":
        path.symlink_to("/dev/zero")
    elif name == "folder":
        path.mkdir()
    elif name == "circle":
        path.symlink_to(path)
    for read in (read_bytes, lambda path: whole_of(opened(path).__enter__(), path)):
        with pytest.raises((InvalidInput, NotFound)):
            read(path)
    with pytest.raises((BrokenFile, NotFound)):
        read_json(path)


def test_a_file_is_read_up_to_its_bound_and_no_further(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 1 << 40)
    tracemalloc.start()
    with pytest.raises(BrokenFile, match="holds more than"):
        read_bytes(path, 4 * MEGABYTE)
    assert tracemalloc.get_traced_memory()[1] < 16 * MEGABYTE
    tracemalloc.stop()


def test_a_bomb_is_refused_as_soon_as_it_is_known_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_SURELY_SMALL", MEGABYTE)
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(16):
            file.write(b" " * MEGABYTE)
    tracemalloc.start()
    with pytest.raises(BrokenFile, match="more than 200 times its size"):
        list(entries_of(path))
    # Of the sixteen that it holds.
    assert tracemalloc.get_traced_memory()[1] < 13 * MEGABYTE + 200 * path.stat().st_size
    tracemalloc.stop()


def test_a_text_that_was_packed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "abc"}\n' * 1000))
    assert len(list(entries_of(path))) == 1000
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BrokenFile, match="cannot be unpacked"):
        list(entries_of(path))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"text": "\\ud83d x"}\n', "half a character"),
        ("a.jsonl", b'{"text": "a\\u0000b"}\n', "half a character"),
        ("a.jsonl", b"[" * 100_000 + b"\n", "no JSON object"),
        ("a.jsonl", b'{"text": ' + b"9" * 10_000 + b"}\n", "no JSON object"),
        ("a.jsonl", b'{"text": "a", "text": 5}\n', "no text in text"),
        ("a.json", b"{" * 10, "no JSON object"),
        ("a.txt", b"abc\xff", "no UTF-8"),
        ("a.txt", b"\0" * 100, "NUL"),
        ("a.txt", b"\xed\xa0\xbd" * 9, "no UTF-8"),
        ("a.txt", b"\n" * 9, "empty"),
        ("a.parquet", b"PAR1" + b"\0" * 90 + b"PAR1", "no table"),
        ("a.txt.gz", b"not packed", "unpacked"),
    ],
)
def test_a_corpus_that_is_none_is_named_with_its_place(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(GlassworksError, match=words):
        list(Corpus((path,)))


def test_what_is_no_character_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a\\u0000b\\ud83d"}\n')
    [piece] = Corpus((path,), damaged="replace")
    assert piece.text == "ab?"
    assert not has_half_characters(piece.text)


def test_examples_with_half_a_character_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "\\udc00"}\n')
    with pytest.raises(BrokenFile, match=r"example 2 of .* half a character"):
        list(entries_of(path))


def gguf(
    shape: tuple[int, ...] = (32, 2),
    kind: int = 2,
    offset: int = 0,
    room: int = 36,
    alignment: int = 32,
    again: bool = False,
) -> bytes:
    """A GGUF file with one tensor of Q4_0 (18 bytes for 32 numbers), or the same one twice."""

    def named(name: bytes) -> bytes:
        return struct.pack("<Q", len(name)) + name

    values = named(b"general.alignment") + struct.pack("<II", 4, alignment)
    tensor = named(b"x") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1 + again, 1) + values + tensor * (1 + again)
    return head + bytes(-len(head) % 32) + bytes(room)


def test_a_gguf_file_whose_tensors_fill_it_to_the_end_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(gguf())
    check_gguf(tmp_path / "a.gguf")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (gguf(room=35), "x lies outside the file"),
        (gguf(offset=32), "x lies outside the file"),
        (gguf(offset=1 << 63), "x lies outside the file"),
        (gguf(shape=(32, 1 << 60)), "x lies outside the file"),
        (gguf(kind=0), "x lies outside the file"),
        (gguf(kind=4), "x is of the unknown type 4"),
        (gguf(shape=(16, 4)), "x packs 32 numbers, its rows have 16"),
        (gguf(shape=(1,) * 9), "x has 9 dimensions"),
        (gguf(again=True), "x is there twice"),
        (gguf(alignment=0), "general.alignment = 0"),
        (gguf(alignment=48), "general.alignment = 48"),
        (gguf(alignment=1 << 31), "general.alignment = 2147483648"),
        (gguf()[:60], "it ends within its head"),
    ],
)
def test_a_gguf_file_that_leads_its_reader_astray_is_refused_before_it_is_mapped(
    tmp_path: Path, raw: bytes, words: str
) -> None:
    (tmp_path / "a.gguf").write_bytes(raw)
    with pytest.raises(BrokenFile, match=words):
        check_gguf(tmp_path / "a.gguf")


@pytest.mark.parametrize("before", ["abc", 5, [1], [{}], [{"kind": "sft"}], {"kind": "sft"}, None])
def test_a_stage_that_lists_no_stages_before_it_is_named(tmp_path: Path, before: object) -> None:
    found = {"kind": "sft", "digest": "0", "spec": {}, "identities": {}, "before": before}
    (tmp_path / "stage.json").write_text(json.dumps(found))
    with pytest.raises(BrokenFile, match="was not written by Glassworks"):
        stages_behind(str(tmp_path))


def test_a_llama2c_file_is_judged_by_its_header_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(struct.pack("<7i", 8, 2**31 - 1, 2**31 - 1, 2, 2, 2**31 - 1, 2**31 - 1))
    os.truncate(path, 20 << 30)
    tracemalloc.start()
    with pytest.raises(BrokenFile, match="21474836480 bytes where"):
        read_llama2c(path)
    assert tracemalloc.get_traced_memory()[1] < MEGABYTE
    tracemalloc.stop()


def test_a_vocabulary_with_an_endless_piece_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tok.bin"
    short = b"".join(struct.pack("<fi", 0.0, 1) + b"a" for _ in range(299))
    path.write_bytes(struct.pack("<i", 1) + short + struct.pack("<fi", 0.0, 10**6) + b"a" * 10**6)
    with pytest.raises(BrokenFile, match="piece 299 has 1000000 bytes"):
        read_llama2c_tokenizer(path, 300)


@pytest.mark.parametrize(
    ("steps", "growth"),
    [
        ([], 1),
        ([{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}], 1),
        ([{"type": "Replace", "pattern": {"String": "ab"}, "content": "x" * 8}] * 3, 64),
        ([{"type": "Replace", "pattern": {"Regex": "."}, "content": "x" * 7}], 7),
        ([{"type": "Prepend", "prepend": "▁"}, {"type": "NFC"}], 2),
    ],
)
def test_how_long_a_text_can_become_is_known(steps: list[dict[str, object]], growth: int) -> None:
    assert growth_of({"type": "Sequence", "normalizers": steps}) == growth


def _deep(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


@pytest.mark.parametrize("make", [lambda: _deep(100_000), lambda: "9" * 5000, lambda: '"\\ud83d'])
def test_json_without_bottom_is_damaged(tmp_path: Path, make: Callable[[], str]) -> None:
    path = tmp_path / "a.json"
    path.write_text(make())
    with pytest.raises(BrokenFile, match="damaged or not JSON"):
        read_json(path)
    path.write_text(json.dumps({"a": 1}))
    assert read_json(path) == {"a": 1}
