"""What GitHub's Markdown reads and Python's reads otherwise."""

from __future__ import annotations

import re

_FENCE = re.compile(r"(^```.*?^```\n?)", re.DOTALL | re.MULTILINE)


def readable(text: str) -> str:
    """The same page for Python-Markdown: pipes inside code of a table, lists right behind a paragraph."""
    parts = _FENCE.split(text)
    return "".join(part if i % 2 else _lists(_pipes(part)) for i, part in enumerate(parts))


def _pipes(text: str) -> str:
    """A pipe in a table's code is escaped for GitHub; here code is read first, and the escape would be shown."""
    lines = [re.sub(r"`[^`]*`", lambda code: code.group(0).replace("\\|", "|"), line) if line.startswith("|") else line
             for line in text.split("\n")]  # fmt: skip
    return "\n".join(lines)


def _lists(text: str) -> str:
    """A list begins a block of its own; what belongs to an entry is indented by four."""
    lines, found = text.split("\n"), list[str]()
    item = re.compile(r"^(\s*)([-*]|\d+\.)\s")
    for line in lines:
        before = found[-1] if found else ""
        if item.match(line) and before.strip() and not item.match(before) and not before.startswith((" ", "|")):
            found.append("")
        found.append(line)
    return "\n".join(found)
