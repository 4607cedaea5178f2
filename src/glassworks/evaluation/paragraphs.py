"""Paragraphs of a text file: one line each, headings and short ones left out."""

from pathlib import Path
from typing import TypeVar

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.evaluation.data import needed_file, read_text

T = TypeVar("T")

WIKITEXT = "wikitext2-test.txt"
# Shorter ones give too little to go by.
_FEWEST_WORDS = 20


def text_path(text_file: str | None) -> Path:
    """The file named, or the test part of WikiText-2 in the data folders."""
    return Path(text_file).expanduser() if text_file is not None else needed_file(WIKITEXT)


def paragraphs(path: Path, limit: int | None) -> list[str]:
    """Lines of at least 20 words that are no headings (`= Title =`); with a limit, so many spread evenly over the file."""
    lines = (line.strip() for line in read_text(path).split("\n"))
    found = [line for line in lines if is_paragraph(line)]
    if not found:
        raise InvalidInput(
            say("{path} has no paragraph of at least {count} words", path=str(path), count=_FEWEST_WORDS),
            right=say("a text file with one paragraph per line"),
        )
    return spread(found, limit)


def is_paragraph(line: str) -> bool:
    """Whether a line is running text of at least 20 words."""
    return len(line.split()) >= _FEWEST_WORDS and not line.startswith("= ")


def is_title(line: str) -> bool:
    """Whether a line is the title of an article, `= Title =`, and not of a section, `= = Section = =`."""
    return line.startswith("= ") and line.endswith(" =") and not line.startswith("= =") and len(line) > len("= =")


def spread(found: list[T], limit: int | None) -> list[T]:
    """At most `limit` of a list, spread evenly over it."""
    if limit is None or limit >= len(found):
        return found
    return [found[int((place + 0.5) * len(found) / limit)] for place in range(limit)]
