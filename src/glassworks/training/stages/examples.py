"""Files of examples for the later stages: JSON, JSON lines, plain or gzipped, checked entry by entry."""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from glassworks.core.errors import BrokenFile, GlassworksError, InvalidInput, NotFound
from glassworks.core.reading import has_half_characters, opened, too_large, whole_of
from glassworks.core.text import Text, say
from glassworks.training.stages.chat import Conversation

Entry = dict[str, object]
# Bytes of a list of examples, or of one line of JSON lines, that are held at once.
LARGEST = 1 << 28


def entries_of(path: Path) -> Iterator[tuple[int, Entry]]:
    """Every object of a file with its number, from 1. Raises NotFound, BrokenFile or InvalidInput, which name the file."""
    number = 0
    for number, entry in _found(path):
        if not isinstance(entry, dict):
            raise InvalidInput(
                say("example {number} of {path} is no object", number=number, path=str(path)),
                given=entry,
                right=_forms(),
            )
        found = {str(name): value for name, value in entry.items()}
        if has_half_characters(json.dumps(found, ensure_ascii=False)):
            raise BrokenFile(
                say("example {number} of {path} holds half a character: it is no text", number=number, path=str(path)),
                right=say("the file saved as UTF-8"),
            )
        yield number, found
    if not number:
        raise InvalidInput(say("{path} holds no examples", path=str(path)), right=_forms())


def at_example(path: Path, number: int, problem: GlassworksError) -> InvalidInput:
    """The same problem, with the file and the example where it lies."""
    return InvalidInput(
        say("example {number} of {path}: {reason}", number=number, path=str(path), reason=problem.what),
        given=problem.given,
        right=problem.right,
    )


def is_held_out(prompt: Conversation, share: float) -> bool:
    """Whether what is said after this prompt is kept for judging: fixed by its words, so equal prompts never part."""
    spoken = json.dumps([(turn.role, turn.text) for turn in prompt], ensure_ascii=False)
    place = int.from_bytes(hashlib.sha256(spoken.encode()).digest()[:4])
    return place < share * 2**32


def check_both(kept: Sequence[object], held_out: Sequence[object], path: str) -> None:
    """InvalidInput unless there is something to learn from and something to be judged on."""
    if kept and held_out:
        return
    raise InvalidInput(
        say("{path} holds too few examples to learn from and be judged on", path=path),
        given=say("{count} to learn from, {held_out} held out", count=len(kept), held_out=len(held_out)),
        right=say("more examples, or another share with held_out=…"),
    )


def _found(path: Path) -> Iterator[tuple[int, object]]:
    """What stands in the lines of a file of JSON lines, or in the list of any other."""
    if not path.exists():
        raise NotFound(say("{path} is not there", path=str(path)), right=_forms())
    with opened(path) as file:
        if path.name.removesuffix(".gz").endswith(".jsonl"):
            yield from _lines(path, file)
            return
        text = _decoded(path, 1, 0, whole_of(file, path, LARGEST))
        whole = _parsed(path, 1, text) if text.strip() else []
        if not isinstance(whole, list):
            raise BrokenFile(say("{path} is no list of examples", path=str(path)), right=_forms())
        yield from enumerate(whole, 1)


def _lines(path: Path, file: io.BufferedIOBase) -> Iterator[tuple[int, object]]:
    number, done = 0, 0
    while line := _bounded(path, file.readline(LARGEST + 1)):
        number += 1
        text = _decoded(path, number, done, line)
        done += len(line)
        if text.strip():
            yield number, _parsed(path, number, text)


def _bounded(path: Path, raw: bytes) -> bytes:
    if len(raw) > LARGEST:
        raise too_large(path, LARGEST)
    return raw


def _decoded(path: Path, line: int, before: int, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        line += raw.count(b"\n", 0, problem.start)
        byte = before + problem.start
        raise BrokenFile(
            say("{path} is no UTF-8 text: line {line}, byte {byte}", path=str(path), line=line, byte=byte),
            right=say("the file saved as UTF-8"),
        ) from None


def _parsed(path: Path, number: int, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise BrokenFile(
            say("{path} is no JSON at line {line}: {reason}", path=str(path), line=number, reason=str(problem)),
            given=text[:80],
        ) from None


def _forms() -> Text:
    return say("a .json list or .jsonl lines of objects, gzipped or not")
