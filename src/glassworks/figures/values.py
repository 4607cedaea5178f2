"""Single numbers with their 95 % intervals: dots on a common axis, and bars in groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glassworks.evidence.statistics import Interval
from glassworks.figures.canvas import SMALL, new_drawing, quieten, scale_axis
from glassworks.figures.curves import Axes, seed_note_of
from glassworks.figures.figure import Cell, Figure, Heading
from glassworks.figures.labels import is_inside, label_above, texts_of, with_note
from glassworks.figures.palette import Palette
from glassworks.figures.words import Label, english, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Plot
    from matplotlib.figure import Figure as Drawing

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_HATCHES = ("", "///", "|||", "\\\\\\", "---", "xxx", "//", "++")


@dataclass(frozen=True)
class Dot:
    """One row of a dot chart; rows of one `group` share colour and marker, named in the legend."""

    label: Label
    value: Interval
    group: Label = ""


@dataclass(frozen=True)
class BarSeries:
    """One colour of a bar chart: a value for each of the chart's groups."""

    label: Label
    values: tuple[Interval, ...]


def dots(heading: Heading, rows: Sequence[Dot], axes: Axes) -> Figure:
    """Values along x with 95 % intervals, first row on top; every reference stands at its x."""
    chosen = tuple(rows)
    groups = list(dict.fromkeys(english(row.group) for row in chosen))

    def paint(palette: Palette) -> Drawing:
        drawing = new_drawing(len(chosen) * 24 + 80 + (24 if len(groups) > 1 else 0))
        plot = drawing.add_subplot()
        quieten(plot, palette)
        plot.spines["left"].set_visible(False)
        scale_axis(plot, "x", axes.x_scale)
        for height, row in enumerate(chosen):
            plot.axhline(height, color=palette.grid, linewidth=0.7, zorder=0)
            _paint_dot(plot, row, height, groups.index(english(row.group)), palette)
        plot.set_yticks(range(len(chosen)), [shortened(english(row.label), 48) for row in chosen])
        plot.tick_params(axis="y", length=0)
        plot.set_ylim(len(chosen) - 0.4, -0.6)
        if axes.x_range is not None:
            plot.set_xlim(*axes.x_range)
        _paint_references(plot, axes, palette)
        plot.set_xlabel(english(axes.x_label))
        plot.set_ylabel(english(axes.y_label))
        if len(groups) > 1:
            _legend(drawing, groups, palette)
        return drawing

    words = (
        axes.x_label, axes.y_label, *(row.label for row in chosen), *(row.group for row in chosen),
        *(r.label for r in axes.references),
    )  # fmt: skip
    caption = with_note(heading.caption, seed_note_of([row.value.count for row in chosen]))
    table = _table([(english(r.group), english(r.label), r.value) for r in chosen])
    return Figure(heading.name, heading.title, caption, paint, texts_of(words), table)


def bars(
    heading: Heading, groups: Sequence[Label], series: Sequence[BarSeries], axes: Axes, height: int = 340
) -> Figure:
    """Bars from zero, one cluster per group, whiskers for the 95 % interval, hatching beside colour."""
    chosen, names = tuple(series), tuple(groups)

    def paint(palette: Palette) -> Drawing:
        drawing = new_drawing(height)
        plot = drawing.add_subplot()
        quieten(plot, palette)
        plot.grid(axis="y", color=palette.grid, linewidth=0.7, zorder=0)
        plot.set_axisbelow(True)
        scale_axis(plot, "y", axes.y_scale)
        for place, one in enumerate(chosen):
            _paint_bars(plot, one, place, len(chosen), palette)
        shown = [shortened(english(name), 24) for name in names]
        crowded = max(map(len, shown), default=0) * 6 > 620 / max(len(shown), 1)
        plot.set_xticks(range(len(names)), shown, rotation=30 if crowded else 0, ha="right" if crowded else "center")
        plot.tick_params(axis="x", length=0)
        if axes.y_range is not None:
            plot.set_ylim(*axes.y_range)
        for reference in axes.references:
            if reference.direction == "vertical" or not is_inside(plot.get_ylim(), reference.value):
                continue
            plot.axhline(reference.value, color=palette.muted, linewidth=0.9, linestyle=(0, (4, 3)))
            plot.annotate(
                english(reference.label), (1, reference.value), xycoords=("axes fraction", "data"),
                xytext=(4, 0), textcoords="offset points", va="center", fontsize=SMALL, color=palette.muted,
                annotation_clip=False,
            )  # fmt: skip
        plot.set_xlabel(english(axes.x_label))
        plot.set_ylabel(english(axes.y_label))
        if len(chosen) > 1:
            drawing.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=SMALL, labelcolor=palette.ink)
        return drawing

    words = (
        axes.x_label,
        axes.y_label,
        *names,
        *(s.label for s in chosen),
        *(r.label for r in axes.references),
    )
    caption = with_note(heading.caption, seed_note_of([v.count for s in chosen for v in s.values]))
    data = [(english(s.label), english(n), v) for s in chosen for n, v in zip(names, s.values, strict=True)]
    return Figure(heading.name, heading.title, caption, paint, texts_of(words), _table(data))


def _paint_dot(plot: Plot, row: Dot, height: int, group: int, palette: Palette) -> None:
    colour = palette.series[group % len(palette.series)]
    if not math.isnan(row.value.low):
        plot.plot(
            [row.value.low, row.value.high],
            [height, height],
            color=colour,
            linewidth=2.2,
            alpha=0.55,
            solid_capstyle="butt",
        )
    plot.plot(
        [row.value.mean],
        [height],
        marker=_MARKERS[group % len(_MARKERS)],
        color=colour,
        markersize=6,
        linestyle="none",
    )


def _paint_references(plot: Plot, axes: Axes, palette: Palette) -> None:
    for reference in axes.references:
        plot.axvline(reference.value, color=palette.muted, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        label_above(plot, english(reference.label), reference.value, palette.muted)


def _legend(drawing: Drawing, groups: Sequence[str], palette: Palette) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            color=palette.series[i % len(palette.series)],
            marker=_MARKERS[i % len(_MARKERS)],
            linestyle="none",
            markersize=6,
        )
        for i in range(len(groups))
    ]
    drawing.legend(
        handles,
        list(groups),
        loc="outside upper left",
        ncols=4,
        frameon=False,
        fontsize=SMALL,
        labelcolor=palette.ink,
    )


def _paint_bars(plot: Plot, series: BarSeries, place: int, count: int, palette: Palette) -> None:
    width = 0.8 / count
    colour = palette.series[place % len(palette.series)]
    centres = [group - 0.4 + width * (place + 0.5) for group in range(len(series.values))]
    plot.bar(
        centres, [v.mean for v in series.values], width * 0.92, facecolor=colour,
        edgecolor=palette.background,
        hatch=_HATCHES[place % len(_HATCHES)], linewidth=0, label=english(series.label),
    )  # fmt: skip
    for centre, value in zip(centres, series.values, strict=True):
        if not math.isnan(value.low):
            plot.plot(
                [centre, centre],
                [value.low, value.high],
                color=palette.ink,
                linewidth=1.2,
                solid_capstyle="butt",
            )


def _table(rows: Sequence[tuple[str, str, Interval]]) -> dict[str, list[Cell]]:
    columns: dict[str, list[Cell]] = {
        "group": [],
        "label": [],
        "mean": [],
        "low": [],
        "high": [],
        "seeds": [],
    }
    for group, label, value in rows:
        cells = (group, label, value.mean, value.low, value.high, value.count)
        for name, cell in zip(columns, cells, strict=True):
            columns[name].append(cell)
    return columns
