"""Small models that read characters, and data files written for a test."""

import json
from functools import cache
from pathlib import Path

from tests.families import VOCABULARY, shared

# Letters enough for the prompts of the tasks that are tried; one character is one token.
CHARACTERS = tuple("abcdefghijklmnopqrstuvwxyzABCDHIMPQSTW .,:?_#\n1234567é")


@cache
def reader(family: str):
    """A tiny random model of a family whose alphabet is `CHARACTERS`."""
    from glassworks.anatomy import Alphabet, Subject

    assert len(CHARACTERS) <= VOCABULARY
    return Subject.of(shared(family), Alphabet(CHARACTERS))


def write_lines(folder: Path, name: str, *rows: dict[str, object]) -> Path:
    """A JSON Lines file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
