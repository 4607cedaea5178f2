"""Curves from braille dots: two columns and four rows of dots in every character."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Bits of the dots of one braille character, by row and column (Unicode block U+2800).
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BLANK = 0x2800


def braille_curve(
    points: Sequence[tuple[float, float]], end: float, width: int, height: int, top: float = 1.0
) -> list[str]:
    """`height` lines of `width` characters: (x, y) points joined, x from 0 to `end`, y from 0 to `top`, clipped."""
    columns, rows = 2 * width, 4 * height
    cells = [[0] * width for _ in range(height)]
    previous: int | None = None
    for column, value in _resampled(points, end, columns):
        share = min(max(value / top, 0.0), 1.0) if top > 0 else 0.0
        row = rows - 1 - round(share * (rows - 1))
        first, last = (row, row) if previous is None else sorted((row, previous))
        # A steep rise leaves no gap: all rows between the last height and this one are dotted.
        for dotted in range(first, last + 1):
            cells[dotted // 4][column // 2] |= _DOTS[dotted % 4][column % 2]
        previous = row
    return ["".join(chr(_BLANK + cell) for cell in line) for line in cells]


def _resampled(points: Sequence[tuple[float, float]], end: float, columns: int) -> list[tuple[int, float]]:
    """The curve at each column that its points have reached, linear between them; NaN points are left out."""
    known = [(x, y) for x, y in points if not math.isnan(y)]
    if not known or end <= 0:
        return []
    last = min(columns - 1, int(known[-1][0] / end * (columns - 1)))
    first = math.ceil(known[0][0] / end * (columns - 1))
    found: list[tuple[int, float]] = []
    place = 0
    for column in range(min(first, last), last + 1):
        x = column / (columns - 1) * end
        while place + 1 < len(known) and known[place + 1][0] < x:
            place += 1
        (x0, y0), (x1, y1) = known[place], known[min(place + 1, len(known) - 1)]
        share = 0.0 if x1 == x0 else min(max((x - x0) / (x1 - x0), 0.0), 1.0)
        found.append((column, y0 + share * (y1 - y0)))
    return found
