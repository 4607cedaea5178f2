"""The texts of a life: what pretraining reads and what is held out of it, and how well packers do on the latter."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from glassworks.core.errors import InvalidInput
from glassworks.core.files import write_bytes
from glassworks.core.text import say
from glassworks.experiments.life.names import AFTER

# The last twentieth of every file is held out: pretraining reads nothing of it, and neither does the tokenizer.
HELD_OUT = 20
MARK = "<|endoftext|>"


@dataclass(frozen=True)
class Texts:
    """One file to learn from, with a mark between documents, and one that is held out."""

    fit: Path
    held_out: Path


def prepared(paths: Sequence[Path], folder: Path, dialogues: Sequence[str] = ()) -> Texts:
    """Cuts every file in two at the end of a document or line and joins the parts; dialogues are all read.

    Equal files give equal bytes.
    """
    fit: list[str] = []
    held: list[str] = []
    for path in paths:
        documents = list(_documents(path))
        place = _cut(documents)
        fit += documents[:place]
        held += documents[place:]
    fit += dialogues
    made = Texts(folder / "fit.txt", folder / "held_out.txt")
    write_bytes(made.fit, MARK.join(fit).encode())
    # Marks stand for documents in training; the text that models and packers are weighed on has none.
    write_bytes(made.held_out, "\n\n".join(held).encode())
    return made


def packed_bits(texts: Texts) -> dict[str, float]:
    """Bits per byte of the held-out text in each packer's strongest setting."""
    held = texts.held_out.read_bytes()
    before = texts.fit.read_bytes()
    sizes = {
        "gzip": len(gzip.compress(held, 9, mtime=0)),
        "bzip2": len(bz2.compress(held, 9)),
        "xz": len(_xz(held)),
        AFTER: len(_xz(before + held)) - len(_xz(before)),
    }
    return {name: 8 * size / len(held) for name, size in sizes.items()}


def _xz(data: bytes) -> bytes:
    return lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)


def _cut(documents: Sequence[str]) -> int:
    """The place from which a twentieth of the characters is left; at least one document on each side."""
    if len(documents) < 2:
        raise InvalidInput(
            say("a text of one document cannot be parted into what is read and what is held out"),
            right=say("a text of several lines, or several documents"),
        )
    left = sum(map(len, documents)) // HELD_OUT
    place = len(documents)
    while place > 1 and left > 0:
        place -= 1
        left -= len(documents[place])
    return max(1, place)


def _documents(path: Path) -> Iterator[str]:
    """The texts of a .jsonl file; of any other file its blocks of about four thousand characters, ended with a line."""
    if path.suffix == ".jsonl":
        # Not splitlines: what it takes for the end of a line may stand inside a string of JSON.
        for line in path.read_text(encoding="utf-8").split("\n"):
            if line.strip():
                yield str(json.loads(line)["text"])
        return
    block: list[str] = []
    size = 0
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        for piece in _pieces(line):
            block.append(piece)
            size += len(piece)
            if size >= _BLOCK:
                yield "".join(block)
                block, size = [], 0
    if size:
        yield "".join(block)


_BLOCK = 4000


def _pieces(line: str) -> Iterator[str]:
    """A long line in parts that end with a blank where there is one; some corpora are a single line."""
    while len(line) > _BLOCK:
        place = line.rfind(" ", _BLOCK // 2, _BLOCK) + 1 or _BLOCK
        yield line[:place]
        line = line[place:]
    yield line
