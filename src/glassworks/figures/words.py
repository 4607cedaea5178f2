"""Labels on a figure: a `Text` follows the reader's language, a bare string is data and stays as it is."""

from __future__ import annotations

import html
import unicodedata

from glassworks.core.text import Language, Text

Label = Text | str
Number = int | float

# Spaces and line ends are tokens too; their usual pictures keep them visible.
_PICTURES = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍", "\x7f": "␡"}


def english(label: Label) -> str:
    """The label as drawn: English, without characters that no font can show."""
    return printable(label.en if isinstance(label, Text) else label)


def chinese(label: Label) -> str:
    """The label in Simplified Chinese where it is a `Text`, the same string otherwise."""
    return printable(label.zh if isinstance(label, Text) else label)


def escaped(text: Text, language: Language) -> str:
    """The text in a language, safe inside HTML and SVG."""
    return html.escape(printable(text.in_language(language)))


def printable(words: str) -> str:
    """Control characters, escapes included, become their pictures (␛); the rest stays."""
    return "".join(_visible(character) for character in words)


def token_label(token: str, limit: int = 12) -> str:
    """A token for an axis: outer spaces and line ends visible, a long one shortened in the middle."""
    inner = token.strip(" ")
    if not inner:
        shown = "␣" * len(token)
    else:
        start = len(token) - len(token.lstrip(" "))
        shown = "␣" * start + inner + "␣" * (len(token) - start - len(inner))
    return shortened(printable(shown), limit)


def shortened(words: str, limit: int) -> str:
    """At most `limit` characters; a longer string loses its middle to an ellipsis."""
    if len(words) <= limit:
        return words
    head = (limit - 1 + 1) // 2
    tail = limit - 1 - head
    return f"{words[:head]}…{words[len(words) - tail :] if tail else ''}"


def _visible(character: str) -> str:
    if character in _PICTURES and character != " ":
        return _PICTURES[character]
    if ord(character) < 0x20:
        return chr(0x2400 + ord(character))
    # Surrogates, unassigned code points and bidirectional overrides would break XML or reorder the line.
    return (
        "�"
        if unicodedata.category(character) in ("Cc", "Cs", "Cn", "Cf") and character not in "\u200d\u200c"
        else character
    )
