"""Texts to learn from: files, folders and patterns, plain or gzipped, read a piece at a time.

A document is a line's text of a `.jsonl`, a row's of a `.parquet`, an entry's of a `.json` list, or what lies between two
marks of a text file. Neither a file nor a line of any length is ever held as a whole, except a line of JSON.
"""

import codecs
import gzip
import io
import json
import re
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from pydantic import Field

from glassworks.core.errors import BrokenFile, InvalidInput, NotFound
from glassworks.core.reading import has_half_characters, whole_of
from glassworks.core.text import say
from glassworks.training.stages.base import StageSpec

MARK = "<|endoftext|>"
# Characters that are handed on at a time, and how far back from the end of a block a place to cut is looked for.
BLOCK, BACK = 1 << 16, 1 << 12
# Bytes of one line of JSON; beyond it the file is taken for something else.
LONGEST_LINE = 1 << 28
# Bytes of a file that is one list of JSON objects, which is read as a whole.
LARGEST_LIST = 1 << 28
_TEXT_ENDINGS = (".txt", ".text", ".md", ".jsonl", ".json", ".parquet")
_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Piece:
    """Part of a document; the last part says so."""

    text: str
    ends: bool


class CorpusSpec(StageSpec):
    """A stage that reads texts: which, and how documents lie in them."""

    files: ClassVar[tuple[str, ...]] = ("data",)

    data: tuple[str, ...] = ()
    """Files, folders or patterns: .txt, .jsonl, .json, .parquet, also .gz."""
    field: str = "text"
    """The field of an object or the column of a table that holds the text."""
    separator: str = MARK
    """What stands between two documents of a text file; empty where a file is one document."""
    damaged: Literal["refuse", "replace"] = "refuse"
    """What is done about bytes that are no UTF-8 and about NUL characters: an error, or U+FFFD and nothing instead."""
    most_bytes: int | None = Field(default=None, ge=1)
    """Bytes of text after which reading stops; all is read unless given."""

    def data_files(self, name: str) -> list[str]:
        """The files of `data`: folders and patterns opened up, in the order of their names."""
        return [str(path) for path in files_of(self.data)] if name == "data" else super().data_files(name)

    @property
    def corpus(self) -> "Corpus":
        """The texts. Raises NotFound or InvalidInput where there are none."""
        return Corpus(tuple(files_of(self.data)), self.field, self.separator, self.damaged, self.most_bytes)


def files_of(named: Sequence[str]) -> list[Path]:
    """The files that paths, folders and patterns mean. Raises NotFound, InvalidInput where nothing is named or found."""
    if not named:
        raise InvalidInput(
            say("no texts are named to learn from"), right=say("data=FILE, a folder, or a pattern such as texts/*.txt")
        )
    found: list[Path] = []
    for name in named:
        path = Path(name).expanduser()
        if path.is_file():
            found.append(path)
        elif path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.is_file() and _is_text(p))
        elif _PATTERN.search(name):
            found += sorted(p for p in _folder_before(path).glob(_pattern_of(path)) if p.is_file())
        else:
            raise NotFound(say("{path} is not there", path=name), right=say("a file, a folder or a pattern"))
    if not found:
        raise InvalidInput(
            say("no text lies in {paths}", paths=", ".join(named)),
            right=say("files that end in {endings}", endings=", ".join(_TEXT_ENDINGS)),
        )
    return found


@dataclass(frozen=True)
class Corpus:
    """Texts of some files, in their order."""

    paths: tuple[Path, ...]
    field: str = "text"
    separator: str = MARK
    damaged: Literal["refuse", "replace"] = "refuse"
    most_bytes: int | None = None

    def __iter__(self) -> Iterator[Piece]:
        """Documents piece by piece; empty ones are passed over.

        Raises InvalidInput where there is no text at all, BrokenFile for what is no UTF-8, no JSON or no table.
        """
        read, is_open, has_any = 0, False, False
        for path in self.paths:
            for piece in _pieces(path, self):
                has_any = has_any or bool(piece.text.strip())
                if piece.text or (piece.ends and is_open):
                    yield piece
                    is_open = not piece.ends
                read += len(piece.text.encode())
                if self.most_bytes is not None and read >= self.most_bytes:
                    break
            else:
                continue
            break
        if is_open:
            yield Piece("", True)
        if not has_any:
            raise InvalidInput(
                say("the text is empty"),
                given=", ".join(str(path) for path in self.paths[:3]),
                right=say("at least one character"),
            )


def _pieces(path: Path, corpus: Corpus) -> Iterator[Piece]:
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        yield from (Piece(part, ends) for text in _rows(path, corpus) for part, ends in _cut(text))
    elif name.endswith((".jsonl", ".json")):
        yield from (Piece(part, ends) for text in _entries(path, corpus) for part, ends in _cut(text))
    else:
        yield from _documents(_characters(path, corpus), corpus.separator)


def _documents(blocks: Iterator[str], separator: str) -> Iterator[Piece]:
    """A stream of characters parted at the separator, in pieces of bounded length."""
    waiting, is_begun = "", False
    for block in blocks:
        waiting += block
        if separator:
            *whole, waiting = waiting.split(separator)
            for text in whole:
                # What goes on with a document may begin with a line's end of its own.
                bare = text if is_begun or len(text) >= BLOCK else text.strip("\n")
                is_begun = False
                yield from (Piece(part, ends) for part, ends in _cut(bare))
        # The end is kept back: the separator may be cut by the block's edge.
        while len(waiting) > BLOCK + BACK:
            place = cut_before(waiting, BLOCK)
            yield Piece(waiting[:place], ends=False)
            waiting, is_begun = waiting[place:], True
    yield from (Piece(part, ends) for part, ends in _cut(waiting))


def _cut(text: str) -> Iterator[tuple[str, bool]]:
    start = 0
    while len(text) - start > BLOCK + BACK:
        end = start + cut_before(text[start : start + BLOCK], BLOCK)
        yield text[start:end], False
        start = end
    yield text[start:], True


def cut_before(text: str, limit: int) -> int:
    """Where to cut a text before `limit`: at a single blank between two words, where byte-level tokens never reach across.

    Without one in reach, the cut is at `limit`: the tokens there may then differ from those of the whole text.
    """
    for place in range(min(limit, len(text)) - 1, max(1, limit - BACK), -1):
        if text[place].isspace() and not text[place - 1].isspace() and not text[place + 1 : place + 2].isspace():
            return place
    return limit


def _characters(path: Path, corpus: Corpus) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("strict" if corpus.damaged == "refuse" else "replace")
    done = 0
    with _opened(path) as file:
        while True:
            raw = _read(file, BLOCK, path)
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as problem:
                raise BrokenFile(
                    say("{path} is no UTF-8 text: byte {byte}", path=str(path), byte=done + problem.start),
                    right=say("the file saved as UTF-8, or damaged=replace"),
                ) from None
            if done == 0:
                text = text.removeprefix("\ufeff")
            if "\0" in text:
                if corpus.damaged == "refuse":
                    raise BrokenFile(
                        say("{path} holds NUL characters: it is no text", path=str(path)),
                        right=say("a text file, or damaged=replace to leave them out"),
                    )
                text = text.replace("\0", "")
            done += len(raw)
            if text:
                yield text
            if not raw:
                return


def _entries(path: Path, corpus: Corpus) -> Iterator[str]:
    if path.name.removesuffix(".gz").endswith(".json"):
        with _opened(path) as file:
            found = _parsed(_whole_file(file, path), path, 1)
        if not isinstance(found, list):
            raise BrokenFile(say("{path} is no list of objects", path=str(path)))
        for number, entry in enumerate(cast(list[object], found), 1):
            yield _text_in(entry, path, number, corpus)
        return
    with _opened(path) as file:
        number = 0
        while line := _read_line(file, path):
            number += 1
            if line.strip():
                yield _text_in(_parsed(line, path, number), path, number, corpus)


def _parsed(raw: bytes, path: Path, line: int) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise BrokenFile(
            say("line {number} of {path} is no JSON object", number=line, path=str(path)), right=say("UTF-8 JSON")
        ) from None


def _text_in(entry: object, path: Path, number: int, corpus: Corpus) -> str:
    match entry:
        case dict():
            found = cast(dict[str, Any], entry).get(corpus.field)
            if isinstance(found, str):
                return _whole(found, path, number, corpus)
            raise BrokenFile(
                say(
                    "entry {number} of {path} has no text in {field}", number=number, path=str(path), field=corpus.field
                ),
                given=sorted(str(name) for name in cast(dict[str, Any], entry)),
                right=say("field=NAME, the field that holds the text"),
            )
        case _:
            raise BrokenFile(say("entry {number} of {path} is no object", number=number, path=str(path)))


def _whole(text: str, path: Path, number: int, corpus: Corpus) -> str:
    """The text of an entry without what is no character: NUL, and halves of characters, which JSON can spell."""
    has_halves = has_half_characters(text)
    if not has_halves and "\0" not in text:
        return text
    if corpus.damaged == "refuse":
        raise BrokenFile(
            say("entry {number} of {path} holds NUL or half a character: it is no text", number=number, path=str(path)),
            right=say("a text, or damaged=replace"),
        )
    return (text.encode("utf-8", errors="replace").decode() if has_halves else text).replace("\0", "")


def _rows(path: Path, corpus: Corpus) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            if corpus.field not in table.schema_arrow.names:
                raise BrokenFile(
                    say("{path} has no column {field}", path=str(path), field=corpus.field),
                    given=table.schema_arrow.names,
                    right=say("field=NAME, the column that holds the text"),
                )
            number = 0
            for batch in table.iter_batches(columns=[corpus.field], batch_size=1024):
                yield from (
                    _whole(str(text), path, number + place, corpus)
                    for place, text in enumerate(batch.column(0).to_pylist(), 1)
                    if text is not None
                )
                number += len(batch)
    except (pyarrow.ArrowException, OSError) as problem:
        raise BrokenFile(say("{path} is no table in Parquet: {reason}", path=str(path), reason=str(problem))) from None


@contextmanager
def _opened(path: Path) -> Generator[io.BufferedIOBase]:
    try:
        opened = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115 - the `with` below closes it
    except OSError as problem:
        raise InvalidInput(say("{path} cannot be read as a file", path=str(path)), given=problem.strerror) from None
    with opened as file:
        yield cast(io.BufferedIOBase, file)


def _read(file: io.BufferedIOBase, size: int, path: Path) -> bytes:
    try:
        return file.read(size)
    except (OSError, EOFError, zlib.error) as problem:
        raise BrokenFile(say("{path} cannot be unpacked: {reason}", path=str(path), reason=str(problem))) from None


def _whole_file(file: io.BufferedIOBase, path: Path) -> bytes:
    try:
        return whole_of(file, path, LARGEST_LIST)
    except (OSError, EOFError, zlib.error) as problem:
        raise BrokenFile(say("{path} cannot be unpacked: {reason}", path=str(path), reason=str(problem))) from None


def _read_line(file: io.BufferedIOBase, path: Path) -> bytes:
    try:
        line = file.readline(LONGEST_LINE)
    except (OSError, EOFError, zlib.error) as problem:
        raise BrokenFile(say("{path} cannot be unpacked: {reason}", path=str(path), reason=str(problem))) from None
    if len(line) == LONGEST_LINE:
        raise BrokenFile(say("a line of {path} is longer than {size} bytes", path=str(path), size=LONGEST_LINE))
    return line


def _is_text(path: Path) -> bool:
    return not path.name.startswith(".") and path.name.removesuffix(".gz").endswith(_TEXT_ENDINGS)


def _folder_before(path: Path) -> Path:
    """The longest beginning of a pattern without a wildcard."""
    parts = [*path.parts]
    first = next(place for place, part in enumerate(parts) if _PATTERN.search(part))
    return Path(*parts[:first]) if first else Path()


def _pattern_of(path: Path) -> str:
    first = next(place for place, part in enumerate(path.parts) if _PATTERN.search(part))
    return str(Path(*path.parts[first:]))
