"""Candidates on the terminal: a line for each token, the likeliest ones beside it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from glassworks.cli.terminal import beneath
from glassworks.core.text import Text, say

if TYPE_CHECKING:
    from glassworks.models.candidates import Candidate, Step

TAKEN, CUT, WAITING = "▶", "✂", " "


def legend(count: int) -> Text:
    """What the lines mean."""
    return say(
        "Each line: number, how undecided (bits), then the {count} likeliest tokens; {taken} taken, {cut} cut by top-k or top-p.",
        count=count,
        taken=TAKEN,
        cut=CUT,
    )


def step_line(number: int, step: Step) -> str:
    """One step in words; a text of one line whatever a token holds."""
    each = "  ".join(_one(candidate) for candidate in step.candidates)
    return f"{number:4d} {step.entropy_bits:5.2f}  {each}"


def show_step(number: int, step: Step) -> None:
    """Writes a step at once."""
    # Its own colours reach the terminal; the tokens are spelled out.
    terminal = beneath(sys.stdout)
    terminal.write(step_line(number, step) + "\n")
    terminal.flush()


def _one(candidate: Candidate) -> str:
    from glassworks.anatomy.alphabet import legible

    sign = TAKEN if candidate.is_chosen else WAITING if candidate.is_kept else CUT
    name = f"⟨{legible(candidate.text)}⟩" if candidate.is_special else legible(candidate.text)
    text = f"{sign}{name} {candidate.probability:.1%}"
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    # The signs say the same without colour.
    return f"\x1b[1m{text}\x1b[0m" if candidate.is_chosen else text if candidate.is_kept else f"\x1b[2m{text}\x1b[0m"
