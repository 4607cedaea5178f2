"""The terminal as it is written to: what a stranger's file holds is shown there and never obeyed."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def visible(text: str) -> str:
    """Control characters, and those that turn a line round, spelled out: a text must not steer the terminal."""
    if text.isprintable():
        return text
    return "".join(sign if sign in "\n\t" or sign.isprintable() else repr(sign)[1:-1] for sign in text)


class Shown(io.TextIOBase):
    """A terminal on which everything is spelled out that is not a line of text.

    `beneath` is the terminal itself, for what draws on it on purpose.
    """

    def __init__(self, beneath: Any) -> None:
        self.beneath = beneath

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] - a value in the base, never set here
        """The terminal's."""
        return self.beneath.encoding

    @property
    def errors(self) -> str | None:  # pyright: ignore[reportIncompatibleVariableOverride] - as above
        """The terminal's."""
        return self.beneath.errors

    @property
    def buffer(self) -> Any:
        """The terminal's bytes."""
        return self.beneath.buffer  # pyright: ignore[reportAttributeAccessIssue] - every terminal of Python has them

    def write(self, text: str, /) -> int:
        """Writes a text; a bar of another library may go back to the start of its line."""
        back = "\r" if text.startswith("\r") else ""
        self.beneath.write(back + visible(text.removeprefix("\r")))
        return len(text)

    def flush(self) -> None:
        """Flushes the terminal."""
        self.beneath.flush()

    def isatty(self) -> bool:
        """The terminal's."""
        return self.beneath.isatty()

    def fileno(self) -> int:
        """The terminal's."""
        return self.beneath.fileno()

    def writable(self) -> bool:
        """True."""
        return True


def show_only() -> None:
    """Has this process spell out what it and its libraries write to a terminal; files and pipes get every character."""
    for name in ("stdout", "stderr"):
        stream = sys.__dict__[name]
        if stream is not None and not isinstance(stream, Shown) and stream.isatty():
            setattr(sys, name, Shown(stream))


def beneath(stream: Any) -> Any:
    """The terminal itself, or the stream where it is none."""
    return stream.beneath if isinstance(stream, Shown) else stream


def console(*, is_error: bool, width: int | None) -> Console:
    """A console whose own colours and cursor reach the terminal, and no control character of what it is given."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class Careful(Console):
        def on_broken_pipe(self) -> None:
            # The library would leave with 1, as if the command had failed; a reader that went away is no failure.
            raise BrokenPipeError

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                if segment.control or segment.text.isprintable() or segment.text == "\n":
                    yield segment
                else:
                    yield Segment(visible(segment.text), segment.style)

    # No markup: paths, names and settings may hold brackets, which are text here.
    stream = beneath(sys.stderr if is_error else sys.stdout)
    return Careful(file=stream, width=width, highlight=False, markup=False, emoji=False)
