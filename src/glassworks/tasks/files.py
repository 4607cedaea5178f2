"""Files that a task is made of: known by their content, so that equal specs mean equal data wherever the files lie."""

import hashlib
from functools import cache
from pathlib import Path

from glassworks.core.errors import BrokenFile, InvalidInput, NotFound
from glassworks.core.reading import opened, whole_of
from glassworks.core.text import say


def checked(path: str, sha256: str | None) -> Path:
    """The file at a path. Raises NotFound, and BrokenFile where its content is not what the digest says."""
    place = Path(path).resolve()
    if not place.is_file():
        raise NotFound(say("{path} is not there", path=str(place)), right=say("a text file"))
    if sha256 is not None and (found := digest_of(place)) != sha256:
        raise BrokenFile(
            say("{path} holds another text than this task was made for", path=path),
            given=f"sha256 {found}",
            right=say("the file with sha256 {digest}", digest=sha256),
        )
    return place


def digest_of(place: Path) -> str:
    """SHA-256 of a file in hexadecimal; read once as long as the file does not change."""
    about = place.stat()
    return _digest(place, about.st_size, about.st_mtime_ns)


def lines_of(place: Path) -> tuple[str, ...]:
    """The lines of a text file, unpacked where its name ends in .gz; in UTF-8, or in Latin-1 where it is none.

    Raises InvalidInput for a file without lines and BrokenFile for one that cannot be unpacked.
    """
    about = place.stat()
    return _lines(place, about.st_size, about.st_mtime_ns)


# Size and time of change stand in the keys, so that a file written anew is read anew.
@cache
def _digest(place: Path, _size: int, _changed: int) -> str:
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _lines(place: Path, _size: int, _changed: int) -> tuple[str, ...]:
    with opened(place) as file:
        content = whole_of(file, place)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        # Older collections of sentences are not in UTF-8; every byte is a character of Latin-1.
        text = content.decode("latin-1")
    found = tuple(text.removesuffix("\n").split("\n"))
    if not any(line.strip() for line in found):
        raise InvalidInput(say("{path} is empty", path=str(place)), right=say("a text file"))
    return found
