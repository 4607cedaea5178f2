"""Groups: tokens as a person reads them, byte-true. A character that several tokens spell is one group of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Piece:
    """One token: its id, what it spells, and the bytes of the text that it stands for (first, end)."""

    token: int
    spelled: bytes
    start: int = 0
    end: int = 0
    is_special: bool = False
    is_unknown: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain data; bytes in hexadecimal, marks only where they are set."""
        found: dict[str, Any] = {"id": self.token, "hex": self.spelled.hex()}
        return found | ({"special": True} if self.is_special else {}) | ({"unknown": True} if self.is_unknown else {})


def grouped(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """The shortest runs of tokens that spell whole characters; special tokens stand alone."""
    groups: list[list[Piece]] = []
    pending = b""
    for piece in pieces:
        joins = bool(pending) and not piece.is_special and not piece.is_unknown
        if joins and _is_hopeful(pending + piece.spelled):
            groups[-1].append(piece)
            pending = _unfinished(pending + piece.spelled)
        else:
            groups.append([piece])
            pending = b"" if piece.is_special or piece.is_unknown else _unfinished(piece.spelled)
    return [part for group in groups for part in _settled(group)]


def group_json(group: Sequence[Piece]) -> dict[str, Any]:
    """A group as plain data: its text (None where its bytes are no text), its stretch of the text, its tokens."""
    spelled = b"".join(piece.spelled for piece in group)
    text = decoded(spelled)
    stretch = (min(piece.start for piece in group), max(piece.end for piece in group))
    return {"text": text, "start": stretch[0], "end": stretch[1], "tokens": [piece.to_json() for piece in group]}


def decoded(spelled: bytes) -> str | None:
    """The text of bytes, None where they are no whole characters."""
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return None


def _settled(group: list[Piece]) -> list[list[Piece]]:
    """A group whose characters never became whole is no group: each token is shown by its bytes."""
    whole = decoded(b"".join(piece.spelled for piece in group)) is not None
    return [group] if whole or len(group) == 1 else [[piece] for piece in group]


def _unfinished(spelled: bytes) -> bytes:
    """The bytes at the end that begin a character and do not finish it."""
    for back in range(1, min(3, len(spelled)) + 1):
        first = spelled[-back]
        if first & 0xC0 != 0x80:
            needed = 2 if 0xC2 <= first < 0xE0 else 3 if 0xE0 <= first < 0xF0 else 4 if 0xF0 <= first < 0xF5 else 1
            return spelled[-back:] if needed > back else b""
    return b""


def _is_hopeful(spelled: bytes) -> bool:
    """Whether bytes are text so far, perhaps with an unfinished character at the end."""
    rest = len(_unfinished(spelled))
    return decoded(spelled[: len(spelled) - rest]) is not None
