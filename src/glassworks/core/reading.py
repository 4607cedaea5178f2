"""Reading what others wrote: never a pipe or a device, never more than a stated size, never a file that unpacks without end."""

from __future__ import annotations

import gzip
import io
import stat
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from glassworks.core.errors import BrokenFile, InvalidInput, NotFound
from glassworks.core.text import say

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LARGEST_READ = 1 << 30
"""Bytes of the largest file that is ever read as a whole, unless a reader says otherwise."""
# Bytes of a recipe that a person writes (YAML), whose reader is slow.
LARGEST_RECIPE = 1 << 24
# Text packs to a tenth, tables of numbers to a fiftieth; gzip reaches 1032, with one byte over and over.
MOST_UNPACKED = 200
_SURELY_SMALL = 1 << 26
_BLOCK = 1 << 20


def check_regular(path: Path) -> None:
    """Raises NotFound where nothing is, InvalidInput for what is no file: a pipe makes its reader wait, a device never ends."""
    try:
        kind = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(say("{path} is not there", path=str(path))) from None
    except (OSError, ValueError) as problem:
        raise InvalidInput(say("{path} cannot be read as a file", path=str(path)), given=_reason(problem)) from None
    if not stat.S_ISREG(kind):
        raise InvalidInput(
            say("{path} cannot be read as a file", path=str(path)),
            right=say("a file, and no folder, pipe or device"),
        )


def read_bytes(path: Path, most: int = LARGEST_READ) -> bytes:
    """A file as a whole. Raises NotFound, InvalidInput for what is no file, BrokenFile for more than `most` bytes."""
    check_regular(path)
    try:
        with path.open("rb") as file:
            return whole_of(file, path, most)
    except OSError as problem:
        raise InvalidInput(say("{path} cannot be read as a file", path=str(path)), given=_reason(problem)) from None


def whole_of(file: io.BufferedIOBase, path: Path, most: int = LARGEST_READ) -> bytes:
    """The rest of an opened file. Raises BrokenFile for more than `most` bytes, with no more than that held."""
    # Never asked for `most` at once: room would be made for all of it before the first byte comes.
    parts, size = list[bytes](), 0
    while part := file.read(_BLOCK):
        parts.append(part)
        size += len(part)
        if size > most:
            raise too_large(path, most)
    return b"".join(parts)


def has_half_characters(text: str) -> bool:
    """Whether a text holds halves of characters (surrogates), as JSON can spell them: no file and no tokenizer takes them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def too_large(path: Path, most: int) -> BrokenFile:
    """The error for a file that is read as a whole and holds more than it should."""
    return BrokenFile(
        say("{path} holds more than {size} bytes, which is too much to be read as a whole", path=str(path), size=most)
    )


@contextmanager
def opened(path: Path) -> Generator[io.BufferedIOBase]:
    """The bytes of a file, unpacked where its name ends in .gz, a block at a time.

    Raises NotFound and InvalidInput as `read_bytes` does; reading raises BrokenFile for what cannot be unpacked, and for what
    unpacks to two hundred times its size and more than 64 MB.
    """
    check_regular(path)
    try:
        file = path.open("rb")
    except OSError as problem:
        raise InvalidInput(say("{path} cannot be read as a file", path=str(path)), given=_reason(problem)) from None
    with file:
        yield io.BufferedReader(_Unpacked(path, file), 1 << 16) if path.suffix == ".gz" else file


class _Unpacked(io.RawIOBase):
    """What a packed file holds, as long as it may still be what somebody packed."""

    def __init__(self, path: Path, file: io.BufferedReader) -> None:
        self._path, self._size = path, path.stat().st_size
        self._file = gzip.GzipFile(fileobj=file)
        self._done = 0

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fills a buffer; raises BrokenFile."""
        view = memoryview(buffer).cast("B")
        try:
            found = self._file.read(len(view))
        except (OSError, EOFError, zlib.error) as problem:
            raise BrokenFile(
                say("{path} cannot be unpacked: {reason}", path=str(self._path), reason=str(problem)),
                right=say("the file as it was published"),
            ) from None
        self._done += len(found)
        if self._done > max(MOST_UNPACKED * self._size, _SURELY_SMALL):
            raise BrokenFile(
                say("{path} unpacks to more than {times} times its size", path=str(self._path), times=MOST_UNPACKED),
                right=say("the file unpacked by hand, if it is what it should be"),
            )
        view[: len(found)] = found
        return len(found)


def _reason(problem: Exception) -> str:
    return (problem.strerror if isinstance(problem, OSError) else None) or str(problem)
