"""Matrices as coloured cells: heat maps with labelled rows and columns, and attention with its tokens."""

from __future__ import annotations

import math
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
from glassworks.figures.words import Label, english, shortened, token_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Plot
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure as Drawing

_LONGEST_LABEL = 18
_MOST_SMALL = 8  # names along one side of a small matrix
_LINE = 12.5  # pixels that one label needs across its own direction


@dataclass(frozen=True)
class Matrix:
    """Numbers with a name for every row (downwards) and column; NaN cells stay blank, `marked` ones have a frame."""

    values: Real[np.ndarray, "row column"]
    rows: tuple[Label, ...]
    columns: tuple[Label, ...]
    row_title: Label = ""
    column_title: Label = ""
    marked: tuple[tuple[int, int], ...] = ()


def heatmap(
    heading: Heading, matrix: Matrix, scale: ColourScale, *, causal: bool = False, numbers: bool = False
) -> Figure:
    """A labelled matrix with a colour bar; `causal` blanks all right of the diagonal."""
    values = _without_future(matrix.values) if causal else np.asarray(matrix.values, dtype=np.float64)

    def paint(palette: Palette) -> Drawing:
        colours = mappable(scale, values)
        drawing = new_drawing(_height_of(matrix))
        plot = drawing.add_subplot()
        paint_cells(plot, values, colours)
        _frame_cells(plot, matrix.marked)
        _name_cells(plot, matrix, palette)
        if numbers:
            _write_numbers(plot, values, colours, scale, palette)
        paint_bar(drawing, plot, colours, scale, palette)
        return drawing

    words = (scale.label, matrix.row_title, matrix.column_title, *matrix.rows, *matrix.columns)
    return Figure(heading.name, heading.title, heading.caption, paint, texts_of(words), _table(matrix, values, scale))


def heatmaps(
    heading: Heading,
    plots: Sequence[tuple[Label, Matrix]],
    scale: ColourScale,
    columns: int = 3,
    *,
    layers: bool = True,
) -> Figure:
    """Square matrices side by side on one colour scale, each with its title, the first row of each at the bottom.

    `layers` says that rows are layers, and the caption then where they begin. All have the same rows and columns; only the outer plots carry their names.
    """
    chosen = tuple(plots)
    rows = math.ceil(len(chosen) / columns)
    everything = np.concatenate([np.ravel(matrix.values) for _, matrix in chosen])

    def paint(palette: Palette) -> Drawing:
        colours = mappable(scale, everything)
        drawing = new_drawing(rows * ((WIDTH - 110) / columns + 30) + 30)
        grid = drawing.subplots(rows, columns, squeeze=False)
        for place, plot in enumerate(grid.flat):
            if place >= len(chosen):
                plot.set_axis_off()
                continue
            title, matrix = chosen[place]
            paint_cells(plot, np.asarray(matrix.values, dtype=np.float64)[::-1], colours)
            plot.set_aspect("equal")
            plot.set_title(english(title), fontsize=SMALL, color=palette.ink, loc="left")
            _name_outer_cells(plot, matrix, (place % columns == 0, place + columns >= len(chosen)), palette)
        paint_bar(drawing, list(grid.flat), colours, scale, palette)
        return drawing

    words = [scale.label]
    table: dict[str, list[Cell]] = {"panel": []}
    for title, matrix in chosen:
        words += [title, matrix.row_title, matrix.column_title, *matrix.rows, *matrix.columns]
        cells = _table(matrix, np.asarray(matrix.values, dtype=np.float64), scale)
        table["panel"] += [english(title)] * len(cells["row"])
        for name, column in cells.items():
            table.setdefault(name, []).extend(column)
    caption = with_note(heading.caption, say("Layer 0 is at the bottom.") if layers else None)
    return Figure(heading.name, heading.title, caption, paint, texts_of(words), table)


def attention_map(
    heading: Heading,
    weights: Real[np.ndarray, "query key"],
    tokens: Sequence[str],
    scale: ColourScale | None = None,
    *,
    causal: bool = True,
) -> Figure:
    """Attention of one head over the newest of `tokens`: queries down, keys across, the future blank."""
    queries, keys = weights.shape
    shown = tuple(token_label(token) for token in tokens)
    matrix = Matrix(
        _blank_future(weights, keys - queries) if causal else weights,
        rows=shown[len(shown) - queries :],
        columns=shown[len(shown) - keys :],
        row_title=say("query (attends from)"),
        column_title=say("key (attends to)"),
    )
    return heatmap(heading, matrix, scale or ColourScale(say("attention weight"), low=0.0))


def cross_map(
    heading: Heading,
    weights: Real[np.ndarray, "query key"],
    tokens: tuple[Sequence[str], Sequence[str]],
    scale: ColourScale,
) -> Figure:
    """Attention of one head from one text (`tokens[0]`, down) to another (`tokens[1]`, across)."""
    queries, keys = (tuple(token_label(token) for token in text) for text in tokens)
    matrix = Matrix(weights, queries, keys, say("query (attends from)"), say("key (attends to)"))
    return heatmap(heading, matrix, scale)


def _without_future(values: Real[np.ndarray, "row column"]) -> Real[np.ndarray, "row column"]:
    return _blank_future(values, 0)


def _blank_future(values: Real[np.ndarray, "row column"], past: int) -> Real[np.ndarray, "row column"]:
    blank = np.array(values, dtype=np.float64)
    blank[np.triu_indices(blank.shape[0], past + 1, blank.shape[1])] = np.nan
    return blank


def _height_of(matrix: Matrix) -> int:
    rows, columns = matrix.values.shape
    longest = max((len(english(c)) for c in matrix.columns), default=0)
    names = 30 + min(longest, _LONGEST_LABEL) * 6
    square = rows * min(46.0, (WIDTH - 220) / max(columns, 1))
    return int(min(max(square, rows * 14 if rows <= 48 else 0, 120), 760) + names)


def _frame_cells(plot: Plot, cells: Sequence[tuple[int, int]]) -> None:
    """A frame of dark on light around each cell, so that it shows on every colour."""
    from matplotlib.patches import Rectangle

    for row, column in cells:
        for colour, width in (("#ffffff", 3.2), ("#c2185b", 1.6)):
            frame = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=colour, linewidth=width, zorder=3)
            plot.add_patch(frame)


def _name_cells(plot: Plot, matrix: Matrix, palette: Palette) -> None:
    quieten(plot, palette, frame=False)
    rows, columns = matrix.values.shape
    fitting_rows = _every(rows, (_height_of(matrix) - 90) / max(rows, 1))
    fitting_columns = _every(columns, (WIDTH - 200) / max(columns, 1))
    names = [shortened(english(c), _LONGEST_LABEL) for c in matrix.columns]
    widest = max((len(names[i]) for i in range(0, columns, fitting_columns)), default=0)
    upright = widest * 6.5 <= fitting_columns * (WIDTH - 220) / max(columns, 1)
    plot.set_xticks(range(0, columns, fitting_columns), names[::fitting_columns])
    plot.set_yticks(
        range(0, rows, fitting_rows),
        [shortened(english(r), _LONGEST_LABEL) for r in matrix.rows][::fitting_rows],
    )
    plot.tick_params(length=0, labelsize=SMALL)
    if not upright:
        plot.tick_params(axis="x", labelrotation=90)
    plot.set_xlabel(english(matrix.column_title), fontsize=NORMAL)
    plot.set_ylabel(english(matrix.row_title), fontsize=NORMAL)


def _name_outer_cells(plot: Plot, matrix: Matrix, outer: tuple[bool, bool], palette: Palette) -> None:
    """Names on the left edge where the first of `outer` says so, below where the second does; few, evenly spread."""
    quieten(plot, palette, frame=False)
    plot.tick_params(length=0, labelsize=SMALL - 1)
    is_left, is_low = outer
    rows, columns = matrix.values.shape
    across = range(0, columns, max(1, math.ceil(columns / _MOST_SMALL)))
    upwards = range(0, rows, max(1, math.ceil(rows / _MOST_SMALL)))
    plot.set_xticks(across, [shortened(english(matrix.columns[i]), 6) if is_low else "" for i in across])
    plot.set_yticks(
        [rows - 1 - i for i in upwards], [shortened(english(matrix.rows[i]), 6) if is_left else "" for i in upwards]
    )
    plot.set_xlabel(english(matrix.column_title) if is_low else "", fontsize=SMALL)
    plot.set_ylabel(english(matrix.row_title) if is_left else "", fontsize=SMALL)


def _every(count: int, pixels_each: float) -> int:
    """How many labels to step over so that each has a line to itself."""
    return max(1, int(np.ceil(_LINE / max(pixels_each, 1e-9)))) if count else 1


def _write_numbers(
    plot: Plot,
    values: Real[np.ndarray, "row column"],
    colours: ScalarMappable,
    scale: ColourScale,
    palette: Palette,
) -> None:
    rows, columns = values.shape
    widest = max(len(format(v, scale.format)) for v in values.ravel()) if values.size else 0
    size = min(SMALL, (WIDTH - 220) / max(columns, 1) * 0.9 / max(widest, 1) / 0.64 * 0.75)
    if size < 5:
        return
    shades = colours.to_rgba(np.ma.masked_invalid(values))
    for row in range(rows):
        for column in range(columns):
            if np.isfinite(values[row, column]):
                plot.text(
                    column, row, format(values[row, column], scale.format), ha="center", va="center",
                    fontsize=size, color=ink_on(shades[row, column], palette.ink), in_layout=False,
                )  # fmt: skip


def _table(matrix: Matrix, values: Real[np.ndarray, "row column"], scale: ColourScale) -> dict[str, list[Cell]]:
    columns: dict[str, list[Cell]] = {"row": [], "column": [], english(scale.label): []}
    for row, row_label in enumerate(matrix.rows):
        for column, column_label in enumerate(matrix.columns):
            if np.isfinite(values[row, column]):
                for name, cell in zip(
                    columns,
                    (english(row_label), english(column_label), float(values[row, column])),
                    strict=True,
                ):
                    columns[name].append(cell)
    return columns
