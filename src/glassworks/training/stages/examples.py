"""Files of examples for the later stages: JSON, JSON lines, plain or gzipped, read whole and checked entry by entry."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from glassworks.core.errors import BrokenFile, GlassworksError, InvalidInput, NotFound
from glassworks.core.text import Text, say
from glassworks.training.stages.chat import Conversation

Entry = dict[str, object]


def entries_of(path: Path) -> Iterator[tuple[int, Entry]]:
    """Every object of a file with its number, from 1. Raises NotFound, BrokenFile or InvalidInput, which name the file."""
    text = _text_of(path)
    if path.name.removesuffix(".gz").endswith(".jsonl"):
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        found: list[tuple[int, object]] = [(number, _parsed(path, number, line)) for number, line in lines]
    else:
        whole = _parsed(path, 1, text) if text.strip() else []
        if not isinstance(whole, list):
            raise BrokenFile(say("{path} is no list of examples", path=str(path)), right=_forms())
        found = list(enumerate(whole, 1))
    if not found:
        raise InvalidInput(say("{path} holds no examples", path=str(path)), right=_forms())
    for number, entry in found:
        if not isinstance(entry, dict):
            raise InvalidInput(
                say("example {number} of {path} is no object", number=number, path=str(path)),
                given=entry,
                right=_forms(),
            )
        yield number, {str(name): value for name, value in entry.items()}


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


def _text_of(path: Path) -> str:
    if not path.is_file():
        raise NotFound(say("{path} is not there", path=str(path)), right=_forms())
    raw = path.read_bytes()
    try:
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        return raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        raise BrokenFile(
            say("{path} is no UTF-8 text: line {line}, byte {byte}", path=str(path), line=line, byte=problem.start),
            right=say("the file saved as UTF-8"),
        ) from None
    except (OSError, EOFError, zlib.error) as problem:
        raise BrokenFile(say("{path} cannot be unpacked: {reason}", path=str(path), reason=str(problem))) from None


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
