"""Page: everything a report says, as values; `render` turns it into HTML.

A `Label` is a `Text` (shown in the reader's language) or a bare string (data: shown as it is).
"""

from __future__ import annotations

from dataclasses import dataclass

from glassworks.core.text import Text
from glassworks.evidence.claims import Verdict
from glassworks.figures.figure import Figure
from glassworks.figures.words import Label

Cell = Label | int | float | None


@dataclass(frozen=True)
class SummaryLine:
    """One plain sentence of the summary; `anchor`: a figure's name or a section's or table's key."""

    says: Text
    anchor: str


@dataclass(frozen=True)
class Row:
    """A name and its value, for passport and cost; a path or command is a bare string."""

    name: Text
    value: Label


@dataclass(frozen=True)
class Check:
    """One line of the fidelity check, green or red, with the number that decided it."""

    name: Text
    value: Label
    ok: bool


@dataclass(frozen=True)
class Table:
    """A table with named columns; NaN and None are shown as a dash, the CSV keeps all digits.

    `flows` sets a long narrow one in several columns beside each other.
    """

    key: str
    title: Text
    columns: tuple[Label, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: Text | None = None
    flows: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the report: paragraphs, then figures, then tables; `key` is its anchor.

    `folded` are figures one click away, after the others: large ones that not every reader wants.
    """

    key: str
    title: Text
    paragraphs: tuple[Text, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class FileLink:
    """A file beside the report, by its path relative to it, and what it holds."""

    path: str
    what: Text


@dataclass(frozen=True)
class Page:
    """A whole report in the order it is read; `command` rebuilds it."""

    title: Text
    lead: Text | None = None
    summary: tuple[SummaryLine, ...] = ()
    passport: tuple[Row, ...] = ()
    fidelity: tuple[Check, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    sections: tuple[Section, ...] = ()
    limits: tuple[Text, ...] = ()
    cost: tuple[Row, ...] = ()
    files: tuple[FileLink, ...] = ()
    command: str = ""
