"""What a person is told when a request cannot be answered: an error of ours as plain data, with its HTTP status."""

from __future__ import annotations

from typing import Any

from glassworks.core.errors import GlassworksError, NotFound, UnknownName
from glassworks.core.text import Language, Text, say

BAD, MISSING, BUSY, TOO_LATE, CANCELLED, BROKEN = 400, 404, 503, 504, 499, 500
_LONGEST_GIVEN = 300


class Refused(Exception):
    """An error that already is plain data: what a worker said, or one of this room."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(str(error.get("what")))
        self.status = status
        self.error = error


def refusal(status: int, what: Text, language: Language, right: Text | None = None) -> Refused:
    """A refusal in the reader's language."""
    return Refused(status, error_json(GlassworksError(what, right=right), language))


def error_json(problem: Exception, language: Language) -> dict[str, Any]:
    """`what`, `given`, `right` and `next` of any failure; one that nobody foresaw says what Python calls it."""
    if not isinstance(problem, GlassworksError):
        first = (str(problem).strip().splitlines() or ["-"])[0]
        problem = GlassworksError(
            say("unexpected: {kind}: {message}", kind=type(problem).__name__, message=first),
            right=say("this is a mistake of ours; the terminal where the studio runs shows where"),
        )
    return {
        "what": _sendable(problem.what.in_language(language)),
        "given": None if problem.given is None else _sendable(str(problem.given)[:_LONGEST_GIVEN]),
        "right": None if problem.right is None else _sendable(problem.right.in_language(language)),
        "next": None if problem.next_command is None else _sendable(problem.next_command),
    }


def _sendable(text: str) -> str:
    """Halves of a character, as browsers can send them, are no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def status_of(problem: Exception) -> int:
    """The HTTP status of a failure: 404 for what is not there, 400 for what was wrong, 500 for mistakes of ours."""
    if isinstance(problem, NotFound | UnknownName):
        return MISSING
    return BAD if isinstance(problem, GlassworksError) else BROKEN
