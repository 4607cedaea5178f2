"""A lens grid: what each layer would say at each position, in coloured cells, layer 0 at the bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Real

from glassworks.core.text import say
from glassworks.figures.canvas import NORMAL, SMALL, WIDTH, new_drawing, quieten
from glassworks.figures.colours import ColourScale, ink_on, mappable, paint_bar, paint_cells
from glassworks.figures.figure import Cell, Figure, Heading
from glassworks.figures.labels import texts_of, with_note
from glassworks.figures.palette import Palette
from glassworks.figures.words import Label, english, printable, shortened, token_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Plot
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure as Drawing

_ROW_HEIGHT = 34  # pixels; two lines of text
_MOST_COLUMNS = 16  # more would leave no room for a word


@dataclass(frozen=True)
class LensGrid:
    """Layers by positions, the first row is layer 0.

    Each cell has a word, a number that colours it and perhaps a second, smaller line.
    """

    tokens: tuple[str, ...]
    layers: tuple[Label, ...]
    words: tuple[tuple[str, ...], ...]
    values: Real[np.ndarray, "layer position"]
    second: tuple[tuple[str, ...], ...] | None = None


def lens_grid(heading: Heading, grid: LensGrid, scale: ColourScale) -> Figure:
    """The grid with the input tokens below; the newest 16 positions are drawn, the table has all."""
    first = max(0, len(grid.tokens) - _MOST_COLUMNS)

    def paint(palette: Palette) -> Drawing:
        # Row 0 of an image is on top, layer 0 belongs at the bottom.
        values = np.asarray(grid.values, dtype=np.float64)[::-1, first:]
        colours = mappable(scale, np.asarray(grid.values, dtype=np.float64))
        drawing = new_drawing(max(len(grid.layers), 4) * _ROW_HEIGHT + 45 + _token_height(grid.tokens[first:]))
        plot = drawing.add_subplot()
        paint_cells(plot, values, colours)
        _separate(plot, values.shape, palette)
        _write_cells(plot, grid, first, colours, palette)
        _name(plot, grid, first, palette)
        paint_bar(drawing, plot, colours, scale, palette)
        return drawing

    note = say("Layer 0 is at the bottom.")
    caption = with_note(heading.caption, note)
    if first:
        caption = with_note(
            caption,
            say(
                "Drawn are the last {count} of {total} positions.",
                count=_MOST_COLUMNS,
                total=len(grid.tokens),
            ),
        )
    words = (scale.label, say("input token"), *grid.layers)
    return Figure(heading.name, heading.title, caption, paint, texts_of(words), _table(grid, scale))


def _separate(plot: Plot, shape: Sequence[int], palette: Palette) -> None:
    """Thin gaps in the page's colour, so that equal neighbours stay two cells."""
    for row in range(1, shape[0]):
        plot.axhline(row - 0.5, color=palette.background, linewidth=1)
    for column in range(1, shape[1]):
        plot.axvline(column - 0.5, color=palette.background, linewidth=1)


def _write_cells(plot: Plot, grid: LensGrid, first: int, colours: ScalarMappable, palette: Palette) -> None:
    shades = colours.to_rgba(np.ma.masked_invalid(np.asarray(grid.values, dtype=np.float64)))
    layers, columns = len(grid.layers), len(grid.tokens) - first
    room = max(2, int((WIDTH - 190) / max(columns, 1) / 5.6))
    for layer in range(layers):
        for column in range(columns):
            position = first + column
            ink = ink_on(shades[layer, position], palette.ink)
            lines = [token_label(grid.words[layer][position], room)]
            if grid.second is not None:
                lines.append(shortened(printable(grid.second[layer][position]), room + 1))
            heights = (0.0,) if len(lines) == 1 else (-0.18, 0.24)
            for words, height, size in zip(lines, heights, (SMALL - 0.5, SMALL - 2), strict=False):
                plot.text(
                    column,
                    layers - 1 - layer + height,
                    words,
                    ha="center",
                    va="center",
                    fontsize=size,
                    color=ink,
                    # Inside its cell a word takes no room from the layout, which would measure each.
                    in_layout=False,
                )


def _name(plot: Plot, grid: LensGrid, first: int, palette: Palette) -> None:
    quieten(plot, palette, frame=False)
    columns = len(grid.tokens) - first
    tokens = [token_label(token) for token in grid.tokens[first:]]
    plot.set_xticks(range(columns), tokens, rotation=90 if _is_turned(tokens) else 0)
    plot.set_yticks(range(len(grid.layers)), [english(label) for label in grid.layers[::-1]])
    plot.tick_params(length=0)
    plot.set_xlabel(english(say("input token")), fontsize=NORMAL)


def _is_turned(tokens: Sequence[str]) -> bool:
    return max(map(len, tokens), default=0) > (WIDTH - 190) / max(len(tokens), 1) / 5.6


def _token_height(given: Sequence[str]) -> int:
    """Pixels that the token names need below the grid."""
    tokens = [token_label(token) for token in given]
    return 16 + (max(map(len, tokens)) * 6 if _is_turned(tokens) else 0)


def _table(grid: LensGrid, scale: ColourScale) -> dict[str, list[Cell]]:
    columns: dict[str, list[Cell]] = {
        "layer": [],
        "position": [],
        "token": [],
        "word": [],
        english(scale.label): [],
    }
    for layer, label in enumerate(grid.layers):
        for position, token in enumerate(grid.tokens):
            cells = (
                english(label),
                position,
                token,
                grid.words[layer][position],
                float(grid.values[layer, position]),
            )
            for name, cell in zip(columns, cells, strict=True):
                columns[name].append(cell)
    return columns
