"""Markdown out of plain words: tables, escapes, docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence

_CODE = re.compile(r"(`[^`]+`)")


def escaped(text: str) -> str:
    """A sentence as it stands: what is in backticks stays code, no other sign means anything."""
    parts = _CODE.split(text)
    return "".join(part if i % 2 else _escaped(part) for i, part in enumerate(parts))


def _escaped(text: str) -> str:
    text = re.sub(r"([\\*_\[\]#])", r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")


def code(text: object) -> str:
    """Text as code inside a table; signs that would end the cell or the code are kept."""
    words = str(text).replace("\n", " ")
    return f"`{words}`" if words and "`" not in words else f"<code>{_escaped(words)}</code>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; every cell is Markdown of one line."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(cell.replace("\n", " ") or " " for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def docstring(thing: object) -> str:
    """What a class or function says of itself, as paragraphs; empty where it says nothing."""
    said = inspect.getdoc(thing) or ""
    return "\n\n".join(escaped(" ".join(part.split("\n"))) for part in said.split("\n\n")) + "\n"


def first_line(thing: object) -> str:
    """The first sentence or line of a docstring."""
    said = (inspect.getdoc(thing) or "").strip()
    return escaped(" ".join(said.split("\n\n")[0].split("\n")))
