"""What reaches a terminal: every character of a stranger's text is shown, and none is obeyed."""

import io
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassworks.cli.terminal import Shown, console, visible
from tests.hostile.doors import steering

TEXTS = st.text(st.characters(), max_size=40) | st.text(st.sampled_from("\x1b\x9b[]0;\x07\r\n\t\u202e\u2066ab\x7f"))


class Terminal(io.StringIO):
    """Remembers what was written to it."""

    def isatty(self) -> bool:
        return True


@settings(max_examples=30, deadline=None)
@given(TEXTS)
def test_nothing_that_is_written_steers_a_terminal(text: str) -> None:
    terminal = Terminal()
    Shown(terminal).write(text)
    assert steering(terminal.getvalue().removeprefix("\r")) == ""
    assert steering(visible(text)) == ""
    if text.isprintable():
        assert terminal.getvalue() == text


@pytest.mark.parametrize("is_error", [False, True])
def test_a_console_draws_in_colour_and_lets_no_sequence_of_a_cell_through(
    monkeypatch: pytest.MonkeyPatch, is_error: bool
) -> None:
    from rich.table import Table

    terminal: Any = Terminal()
    monkeypatch.setattr(sys, "stderr" if is_error else "stdout", Shown(terminal))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    table = Table("name", title="\x1b]0;owned\x07")
    table.add_row("\x1b[2Jfile\x9b31m")
    ours = console(is_error=is_error, width=60)
    ours.print(table)
    ours.print("\x1b[8mhidden\u202e\x9b31m", style="bold")
    found = terminal.getvalue()
    assert "\\x1b]0;owned" in found
    # A cell is as wide as the terminal would make it; what is spelled out may be cut there.
    assert "\\x1b[2Jf" in found
    assert "\\x1b[8mhidden\\u202e\\x9b31m" in found
    assert "\x1b[1m" in found
    assert steering(found) == "\x1b", "its own colours are all that is left"
    assert "\x1b]" not in found
