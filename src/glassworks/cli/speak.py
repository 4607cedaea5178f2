"""Words and numbers on the terminal: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from glassworks.cli.terminal import console
from glassworks.core.text import Text, say
from glassworks.evidence.claims import Outcome, Verdict
from glassworks.evidence.statistics import Interval

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# A pipe has no width of its own; tables written into one keep whole sentences on few lines.
PIPE_WIDTH = 160
# A table of one line per row stays within this, whatever the terminal has.
COMPACT_WIDTH = 100
_MOST_SEEDS = 4
_VALUE_COLUMN, _LEAST_VALUE, _GAP = 2, 12, 3


def results() -> Console:
    """The console of stdout."""
    return console(is_error=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def remarks() -> Console:
    """The console of stderr."""
    return console(is_error=True, width=None if sys.stderr.isatty() else PIPE_WIDTH)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout; characters that its encoding lacks are escaped."""
    is_unicode = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf8")
    print(json.dumps(value, ensure_ascii=not is_unicode, allow_nan=False), flush=True)


def tell_of_torch(*, as_json: bool) -> None:
    """One muted line before the seconds that loading torch takes; nothing where no person waits."""
    if not as_json and sys.stderr.isatty() and "torch" not in sys.modules:
        remarks().print(str(say("loading torch …")), style="dim")


@contextmanager
def doing(*, quiet: bool) -> Generator[Callable[[Text], None]]:
    """A line on stderr that says what is being done now, gone at the end; nothing where no person watches."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    with remarks().status("") as status:
        yield lambda words: status.update(f"{words} …")


def new_table(*columns: Text | str, title: Text | None = None) -> Table:
    """A quiet table in the style of all commands."""
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD, title=None if title is None else str(title), title_justify="left", pad_edge=False
    )
    for column in columns:
        table.add_column(str(column), overflow="fold")
    return table


def worded(outcome: Outcome) -> tuple[str, str]:
    """A verdict in words with its sign, and the colour that repeats it."""
    match outcome:
        case Outcome.HOLDS:
            return f"● {say('holds')}", "bold dodger_blue2"
        case Outcome.HOLDS_IN_PART:
            return f"◐ {say('holds in part')}", "bold deep_sky_blue1"
        case Outcome.FAILS:
            return f"✗ {say('fails')}", "bold dark_orange"
        case Outcome.UNDECIDED:
            return f"? {say('undecided')}", "dim"


def value_words(value: Interval, unit: str) -> str:
    """A number with its 95 % interval and unit; a dash where there is none."""
    return "–" if math.isnan(value.mean) else f"{value} {unit}".rstrip()


def verdict_table(verdicts: Sequence[Verdict], title: Text | None = None) -> Table:
    """Claim, verdict, deciding number and reason."""
    from rich.text import Text as Styled

    table = new_table(say("claim"), say("verdict"), say("value [95 % interval]"), say("because"), title=title)
    table.columns[1].no_wrap = True
    table.columns[3].ratio = 1
    for verdict in verdicts:
        words, colour = worded(verdict.outcome)
        claim = Styled(verdict.claim, "bold").append(f"\n{verdict.says}", "not bold")
        table.add_row(claim, Styled(words, colour), value_words(verdict.value, verdict.unit), str(verdict.because))
        table.add_row()
    return table


def compact_verdict_table(verdicts: Sequence[Verdict], title: Text | None = None) -> Table:
    """One line per claim: key, verdict, deciding number, seeds."""
    from rich.text import Text as Styled

    table = new_table(say("claim"), say("verdict"), say("value [95 % interval]"), say("seeds"), title=title)
    for verdict in verdicts:
        words, colour = worded(verdict.outcome)
        listed = [str(seed) for seed in verdict.seeds]
        seeds = ", ".join(listed if len(listed) <= _MOST_SEEDS else [*listed[:2], "…", listed[-1]]) or "–"
        value = value_words(verdict.value, verdict.unit)
        table.add_row(Styled(verdict.claim, "bold"), Styled(words, colour), Styled(value), Styled(seeds))
    for column in table.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    fixed = [column for place, column in enumerate(table.columns) if place != _VALUE_COLUMN]
    taken = sum(max(cell.cell_len for cell in column.cells if isinstance(cell, Styled)) for column in fixed)
    # Where the line is too long the unit behind the value is what can be spared.
    room = min(results().width, COMPACT_WIDTH) - taken - _GAP * len(table.columns)
    table.columns[_VALUE_COLUMN].max_width = max(room, _LEAST_VALUE)
    return table


def counted(verdicts: Sequence[Verdict]) -> Text:
    """How many claims hold, hold in part, fail and stay open, in one sentence."""
    count = {outcome: sum(v.outcome is outcome for v in verdicts) for outcome in Outcome}
    return say(
        "holds: {holds}, holds in part: {part}, fails: {fails}, undecided: {open}",
        holds=count[Outcome.HOLDS],
        part=count[Outcome.HOLDS_IN_PART],
        fails=count[Outcome.FAILS],
        open=count[Outcome.UNDECIDED],
    )


def duration_words(seconds: int | float) -> str:
    """A length of time as a person would say it: 0.3 s, 42 s, 3:05 min, 2:10 h."""
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds >= 0.05 else "< 0.1 s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} min"
    return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"


def size_words(count: int | float) -> str:
    """A number of bytes in decimal units, as disks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
