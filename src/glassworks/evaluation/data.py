"""Where the texts and questions lie: files that a person has put on the machine."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glassworks.core.errors import BrokenFile, InvalidInput, NotFound
from glassworks.core.reading import read_bytes
from glassworks.core.text import say
from glassworks.models.gallery import home

# Bytes of a text that is spelled as a whole; its tokens take a hundred times as many.
LARGEST_TEXT = 1 << 26


def data_folders() -> tuple[Path, ...]:
    """Where benchmark files are looked for: the folder that GLASSWORKS_ASSETS names, then `benchmarks` beside the models."""
    named = os.environ.get("GLASSWORKS_ASSETS")
    return tuple(folder for folder in (*((Path(named),) if named else ()), _kept()) if folder.is_dir())


def _kept() -> Path:
    return home() / "benchmarks"


def find_file(name: str) -> Path | None:
    """The file of this name (`arc_easy.jsonl`, `gsm8k/test.jsonl`), however deep it lies in the data folders."""
    return next((path for folder in data_folders() for path in sorted(folder.rglob(name)) if path.is_file()), None)


def needed_file(name: str) -> Path:
    """The file of this name; raises NotFound, saying where it may be put."""
    found = find_file(name)
    if found is None:
        raise absent(name)
    return found


def absent(name: str) -> NotFound:
    """The error for a data file that is nowhere."""
    return NotFound(
        say("the data file {name} is not on this machine", name=name),
        right=say(
            "the file in {folder}, or in a folder that GLASSWORKS_ASSETS names",
            folder=str(_kept()),
        ),
    )


def read_text(path: Path) -> str:
    """The text of a file; raises NotFound, BrokenFile for what is no UTF-8, InvalidInput for an empty one."""
    if not path.is_file():
        raise NotFound(say("{path} is not there", path=str(path)), right=say("a text file in UTF-8"))
    try:
        text = read_bytes(path, LARGEST_TEXT).decode("utf-8")
    except UnicodeDecodeError:
        raise BrokenFile(say("{path} is no text in UTF-8", path=str(path))) from None
    if not text.strip():
        raise InvalidInput(say("{path} is empty", path=str(path)), right=say("a text file in UTF-8"))
    return text


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file; raises BrokenFile naming the line that is none."""
    # Not splitlines: it would also cut at line separators inside a JSON string.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found: Any = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise BrokenFile(say("line {number} of {path} is no JSON object", number=number, path=str(path)))
        yield found


def fingerprint(path: Path) -> str:
    """A file's name with the first digits of its SHA-256, which says that two scores had the same data."""
    return f"{path.name} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
