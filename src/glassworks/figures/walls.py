"""A wall: many small matrices at once, such as every head of every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Real

from glassworks.core.text import say
from glassworks.figures.canvas import SMALL, WIDTH, new_drawing
from glassworks.figures.colours import ColourScale, mappable, paint_bar
from glassworks.figures.figure import Cell, Figure, Heading
from glassworks.figures.labels import texts_of, with_note
from glassworks.figures.palette import Palette
from glassworks.figures.words import Label, english, printable, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_TITLE, _GAP = 22, 8  # pixels above a tile, and between two


@dataclass(frozen=True)
class Tile:
    """One small matrix with its name (`L1H3`) and perhaps a score in few characters; NaN cells are blank."""

    label: Label
    values: Real[np.ndarray, "row column"]
    note: str = ""


def wall(
    heading: Heading,
    rows: Sequence[Sequence[Tile]],
    scale: ColourScale,
    *,
    bottom_up: bool = True,
    causal: bool = True,
) -> Figure:
    """A grid of small matrices on one colour scale, one row per layer.

    With `bottom_up` the first row, layer 0, is drawn at the bottom, and the caption says so; `causal` blanks
    the future.
    """
    given = [[_tile(tile, causal) for tile in row] for row in rows]
    shown = given[::-1] if bottom_up else given
    everything = np.concatenate([tile.values.ravel() for row in given for tile in row])
    columns = max(len(row) for row in shown)
    placed = {(row, column): tile for row, tiles in enumerate(shown) for column, tile in enumerate(tiles)}
    side = min((WIDTH - 92) / columns - _GAP, 190)

    def paint(palette: Palette) -> Drawing:
        from matplotlib.collections import PatchCollection
        from matplotlib.patches import Rectangle

        colours = mappable(scale, everything)
        height, width = len(shown) * (side + _TITLE), columns * (side + _GAP)
        drawing = new_drawing(height + 10, width + 92)
        # All tiles share one plot, in pixels: hundreds of plots would take ten seconds to draw.
        plot = drawing.add_subplot(xlim=(0, width), ylim=(height, 0))
        plot.set_axis_off()
        frames: list[Rectangle] = []
        for (row, column), tile in placed.items():
            left, top = column * (side + _GAP) + _GAP / 2, row * (side + _TITLE) + _TITLE
            frames.append(Rectangle((left, top), side, side))
            cells = colours.to_rgba(np.ma.masked_invalid(tile.values), bytes=True)
            plot.imshow(cells, interpolation="none", aspect="auto", extent=(left, left + side, top + side, top))
            words = " ".join(part for part in (english(tile.label), printable(tile.note)) if part)
            plot.text(
                left + side / 2, top - 3, shortened(words, max(4, int(side / 5.4))),
                ha="center", va="bottom", fontsize=SMALL - 1, color=palette.ink, in_layout=False,
            )  # fmt: skip
        plot.add_collection(PatchCollection(frames, facecolor="none", edgecolor=palette.grid, linewidth=0.7))
        plot.set(xlim=(0, width), ylim=(height, 0))
        paint_bar(drawing, plot, colours, scale, palette)
        return drawing

    note = say("The lowest row is layer 0.") if bottom_up else None
    words = (scale.label, *(tile.label for row in given for tile in row))
    caption = with_note(heading.caption, note)
    return Figure(heading.name, heading.title, caption, paint, texts_of(words), _table(given, scale))


def _tile(tile: Tile, causal: bool) -> Tile:
    values = np.array(tile.values, dtype=np.float64)
    if causal:
        values[np.triu_indices(values.shape[0], 1 + values.shape[1] - values.shape[0], values.shape[1])] = np.nan
    return Tile(tile.label, values, tile.note)


# A wall of big matrices would put megabytes into a report: its data stands in the run's own tables.
_MOST_CELLS = 20_000


def _table(rows: Sequence[Sequence[Tile]], scale: ColourScale) -> dict[str, list[Cell]]:
    columns: dict[str, list[Cell]] = {"tile": [], "row": [], "column": [], english(scale.label): []}
    if sum(tile.values.size for row in rows for tile in row) > _MOST_CELLS:
        return {
            "tile": [english(t.label) for row in rows for t in row],
            "note": [t.note for row in rows for t in row],
        }
    for tile in (tile for row in rows for tile in row):
        for row, column in np.argwhere(np.isfinite(tile.values)):
            cells = (english(tile.label), int(row), int(column), float(tile.values[row, column]))
            for name, cell in zip(columns, cells, strict=True):
                columns[name].append(cell)
    return columns
