"""One file from an address: goes on where it stopped, ends with the right SHA-256 or not at all."""

import time
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from glassworks.core.errors import BrokenFile, NoSpace
from glassworks.core.files import writing
from glassworks.core.runs import sha256_of
from glassworks.core.text import Text, say
from glassworks.models.gallery.line import BROKEN_LINE, Line, shown, unreachable

CHUNK = 1 << 18
# Failures in a row, without one new byte, after which a person should know.
PATIENCE = 4
FIRST_WAIT_SECONDS = 0.5
PARTIAL_CONTENT = 206
RANGE_NOT_SATISFIABLE = 416

Tell = Callable[[Text, int, int], None]
"""Told of a step, the bytes done and the bytes in all (0 where a step has no bytes to count)."""


@dataclass(frozen=True)
class Expected:
    """What a file must be: bytes and SHA-256."""

    size: int
    sha256: str


def download(address: str, path: Path, expected: Expected, line: Line, tell: Tell) -> None:
    """Fills `path` with the file, beginning with what is there. Raises Unavailable, BrokenFile or NoSpace.

    What was fetched stays when the line breaks, so that the next call goes on; a file that proves wrong, or
    that fills the disk, does not.
    """
    was_begun = path.is_file()
    try:
        _fill(address, path, expected, line, tell)
    except NoSpace:
        path.unlink(missing_ok=True)
        raise
    found = Expected(path.stat().st_size, sha256_of(path))
    if found == expected:
        return
    path.unlink()
    if was_begun:
        # The beginning may come from elsewhere or be damaged: once more, from nothing.
        download(address, path, expected, line, tell)
        return
    raise BrokenFile(
        say("what {address} gave is not the published file", address=shown(address)),
        given=say("{size} bytes with SHA-256 {sha256}", size=found.size, sha256=found.sha256),
        right=say("{size} bytes with SHA-256 {sha256}", size=expected.size, sha256=expected.sha256),
    )


def _fill(address: str, path: Path, expected: Expected, line: Line, tell: Tell) -> None:
    failures = 0
    while (before := _size(path)) < expected.size:
        problem: Exception | None = None
        try:
            _append(address, path, expected, line, tell)
        except NoSpace:
            raise
        except BROKEN_LINE as met:
            problem = met
            if isinstance(met, urllib.error.HTTPError) and met.code == RANGE_NOT_SATISFIABLE:
                path.unlink(missing_ok=True)
            elif _is_final(met):
                raise unreachable(address, met) from None
        failures = 0 if _size(path) > before else failures + 1
        if failures >= PATIENCE:
            raise unreachable(address, problem or EOFError("the answer ends too early")) from None
        if failures:
            time.sleep(FIRST_WAIT_SECONDS * 2 ** (failures - 1))


def _append(address: str, path: Path, expected: Expected, line: Line, tell: Tell) -> None:
    begun = _size(path)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begun}-"} if begun else {})
    with line.open(address, headers) as answer:
        done = begun if _goes_on_at(answer, begun) else 0
        with writing(path), path.open("ab" if done else "wb") as file:
            tell(say("downloading"), done, expected.size)
            for chunk in iter(partial(answer.read, CHUNK), b""):
                file.write(chunk)
                done += len(chunk)
                tell(say("downloading"), done, expected.size)
                if done > expected.size:
                    return


def _goes_on_at(answer: Any, begun: int) -> bool:
    """Whether the server gives the rest; one that knows no ranges gives all from the start."""
    place = str(answer.headers.get("Content-Range", ""))
    return answer.status == PARTIAL_CONTENT and place.startswith(f"bytes {begun}-")


def _is_final(problem: Exception) -> bool:
    """Whether asking again cannot help: the server refuses, or there is no such file."""
    match problem:
        case urllib.error.HTTPError():
            return problem.code < 500 and problem.code not in (408, 425, 429)
        case urllib.error.URLError():
            return isinstance(problem.reason, FileNotFoundError | str)
        case _:
            return False


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
