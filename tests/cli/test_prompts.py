import os
from pathlib import Path

import pytest
import torch

from glassworks.anatomy import Subject
from glassworks.cli.prompts import drawn_prompt, read_text, typed_prompt
from glassworks.core.errors import InvalidInput, NotFound
from glassworks.tasks import Bigram
from tests.cli.folders import planted_model


def test_a_text_a_file_and_ids_are_three_ways_to_one_prompt(tmp_path):
    path = tmp_path / "prompt.txt"
    path.write_bytes("\ufeffnaïve 词元\n".encode())
    assert typed_prompt("a b", None, None) == "a b"
    assert typed_prompt(None, str(path), None) == "naïve 词元\n"
    assert typed_prompt(None, None, "1, 2,3") == [1, 2, 3]
    assert typed_prompt(None, None, None) is None


def test_empty_lines_part_a_file_into_texts_and_a_typed_text_stays_one(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("one\nstill one\n\ntwo\n \t\r\n\n  three\n\n")
    assert typed_prompt(None, str(path), None) == ["one\nstill one", "two", "three"]
    path.write_text("\n\nonly one\n\n")
    assert typed_prompt(None, str(path), None) == "\n\nonly one\n\n"
    assert typed_prompt("one\n\ntwo", None, None) == "one\n\ntwo"


@pytest.mark.parametrize("given", [("a", "b", None), ("a", None, "1")])
def test_two_prompts_at_once_are_refused(given):
    with pytest.raises(InvalidInput, match="one prompt"):
        typed_prompt(*given)


@pytest.mark.parametrize("given", [("", None, None), ("  \n", None, None), (None, None, "")])
def test_an_empty_prompt_is_refused(given):
    with pytest.raises(InvalidInput, match="empty"):
        typed_prompt(*given)


def test_text_that_is_not_utf8_is_named_with_its_first_bad_byte(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("café".encode("latin-1"))
    with pytest.raises(InvalidInput) as caught:
        read_text(path)
    assert "0xe9 at offset 3" in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(NotFound):
        read_text(tmp_path / "absent")
    with pytest.raises(InvalidInput):
        read_text(tmp_path)


def test_ids_that_are_no_numbers_are_refused():
    with pytest.raises(InvalidInput, match="whole numbers"):
        typed_prompt(None, None, "1,x")


def test_a_known_world_is_drawn_from_by_seed_and_an_unknown_one_is_refused():
    world = Bigram(length=12)
    model = planted_model(world)
    subject = Subject.of(model, world=world)
    first, again, other = (drawn_prompt(subject, seed) for seed in (0, 0, 1))
    assert first.shape == (1, 12)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with pytest.raises(InvalidInput, match="no world"):
        drawn_prompt(Subject.of(model), 0)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_only_an_ordinary_file_is_read_as_a_prompt(tmp_path, kind):
    path = {"pipe": tmp_path / "pipe", "device": Path("/dev/zero"), "folder": tmp_path}[kind]
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(InvalidInput, match="cannot be read as a file"):
        read_text(path)


def test_a_file_that_no_prompt_needs_is_refused_before_it_fills_the_memory(tmp_path):
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(InvalidInput, match="too large"):
        read_text(path)
