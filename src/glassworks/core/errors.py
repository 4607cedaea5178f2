"""Errors for people: what went wrong, what was given, what would be right, and what to type next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from glassworks.core.text import Text, say


class GlassworksError(Exception):
    """The base of every error a person can cause or cure; the command line prints it and exits with 1."""

    def __init__(
        self,
        what: Text,
        *,
        given: object = None,
        right: Text | None = None,
        next_command: str | None = None,
    ) -> None:
        super().__init__(what.en)
        self.what = what
        self.given = given
        self.right = right
        self.next_command = next_command

    def __str__(self) -> str:
        lines = [str(self.what)]
        if self.given is not None:
            lines.append(f"  {say('given')}: {_short(self.given)}")
        if self.right is not None:
            lines.append(f"  {say('would be right')}: {self.right}")
        if self.next_command is not None:
            lines.append(f"  {say('next')}: {self.next_command}")
        return "\n".join(lines)


class UnknownName(GlassworksError):
    """A name that is on no list; carries the nearest known one."""

    def __init__(self, what: str, given: str, known: Iterable[str], *, next_command: str | None = None) -> None:
        self.name = given
        self.known = sorted(known)
        self.nearest = nearest(given, self.known)
        right = known_names(given, self.known)
        super().__init__(
            say("unknown {what}: {given}", what=what, given=_short(given)),
            right=right,
            next_command=next_command,
        )


class InvalidSpec(GlassworksError):
    """A spec whose field is unknown, of the wrong type, or impossible together with the others."""


class InvalidInput(GlassworksError):
    """Text, tokens or arguments that cannot be worked with."""


class BrokenFile(GlassworksError):
    """A file that is truncated, foreign or damaged; the message names it."""


class NotFound(GlassworksError):
    """A folder, file or run that is not there."""


class RunBusy(GlassworksError):
    """Another process works on this folder."""


class NoSpace(GlassworksError):
    """The disk is full or the folder cannot be written; nothing half-written stays behind."""


class StrangeModel(GlassworksError):
    """A model whose parts could not be found by watching it; says what was seen."""


class Diverged(GlassworksError):
    """Training met NaN or infinity; names step and cause, the last good state is kept."""


class ProcessLost(GlassworksError):
    """One of several processes of a training ended before the others, or did not answer in time."""


class Unavailable(GlassworksError):
    """A device, library or feature that this machine does not have."""


class JobsFailed(GlassworksError):
    """Jobs that workers gave up after every attempt; all others are done and kept."""

    def __init__(self, what: Text, *, failures: Iterable[tuple[str, Text, str | None]], right: Text | None) -> None:
        super().__init__(what, right=right)
        self.failures = list(failures)
        """Of each: the job's name, what went wrong in its last attempt, and the file with what it printed."""


def known_names(given: str, known: Iterable[str]) -> Text:
    """What would be right instead of an unknown name: the nearest known one, if any resembles it, and all of them."""
    known = list(known)
    listed, close = ", ".join(known) or "-", nearest(given, known)
    if close is None:
        return say("one of {known}", known=listed)
    return say("{nearest} (nearest); known: {known}", nearest=close, known=listed)


def nearest(given: str, known: Iterable[str]) -> str | None:
    """The known name closest to the given one, or None when nothing resembles it."""
    found = difflib.get_close_matches(given, list(known), n=1, cutoff=0.5)
    return found[0] if found else None


def _short(value: object, limit: int = 300) -> str:
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
