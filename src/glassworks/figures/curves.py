"""Curves over a numeric axis with 95 % bands, alone or as small multiples, named directly at their ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Real

from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import band_over_seeds
from glassworks.figures.canvas import NORMAL, SMALL, Scaling, new_drawing, quieten, scale_axis
from glassworks.figures.figure import Cell, Figure, Heading
from glassworks.figures.labels import EndLabel, label_above, place_end_labels, texts_of, with_note
from glassworks.figures.palette import Palette
from glassworks.figures.words import Label, Number, english

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Plot
    from matplotlib.figure import Figure as Drawing


# The second channel beside colour; the marker sits on about eight points of a curve.
_LINES = (
    "-",
    (0, (5, 1.6)),
    (0, (1.2, 1.4)),
    (0, (6, 1.6, 1.2, 1.6)),
    "-",
    (0, (3, 1.2)),
    (0, (8, 2)),
    (0, (1, 1)),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Series:
    """One curve: mean at each x, its 95 % band (None or NaN: no spread known), how many seeds it stands for.

    `seeds=0` says that no chance is involved. `style` (0 to 7) fixes colour and line across figures;
    None takes the place in the list. Without `joined` it is a cloud of points, without `marked` a bare line.
    """

    label: Label
    x: Real[np.ndarray, " point"]
    mean: Real[np.ndarray, " point"]
    low: Real[np.ndarray, " point"] | None = None
    high: Real[np.ndarray, " point"] | None = None
    seeds: int = 0
    style: int | None = None
    joined: bool = True
    marked: bool = True


@dataclass(frozen=True)
class Reference:
    """A named level: horizontal at y (chance, ceiling) or vertical at x (a change of schedule)."""

    label: Label
    value: Number
    direction: Literal["horizontal", "vertical"] = "horizontal"


@dataclass(frozen=True)
class Axes:
    """What the axes say; a range of None is taken from the data."""

    x_label: Label
    y_label: Label
    x_range: tuple[Number, Number] | None = None
    y_range: tuple[Number, Number] | None = None
    x_scale: Scaling = "linear"
    y_scale: Scaling = "linear"
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One of several small plots that share their axes."""

    title: Label
    series: tuple[Series, ...]


def series_of(measurement: Measurement, label: Label, dim: str = "step", style: int | None = None) -> Series:
    """A curve over `dim`, with a band if there are seeds; cut other dimensions away with `.at(...)` first."""
    x = measurement.along(dim)
    if "seed" not in measurement.dims:
        return Series(label, x, measurement.values, style=style)
    axis = measurement.dims.index("seed")
    mean, low, high = band_over_seeds(measurement.values, axis)
    # Seeds that were not measured for this curve are not among those that it is a mean of.
    measured = np.isfinite(np.moveaxis(measurement.values, axis, -1)).reshape(-1, len(measurement.seeds)).any(0)
    return Series(label, x, mean, low, high, seeds=int(measured.sum()), style=style)


def curves(heading: Heading, series: Sequence[Series], axes: Axes, height: int = 360) -> Figure:
    """Curves in one plot, 760 pixels wide; each is named at its right end."""
    chosen = tuple(series)

    def paint(palette: Palette) -> Drawing:
        drawing = new_drawing(height)
        plot = drawing.add_subplot()
        _paint_plot(plot, chosen, axes, palette)
        plot.set_xlabel(english(axes.x_label))
        plot.set_ylabel(english(axes.y_label))
        ends = [_end_of(one, i, palette) for i, one in enumerate(chosen)]
        ends += [
            EndLabel(english(r.label), r.value, palette.muted) for r in axes.references if r.direction == "horizontal"
        ]
        for reference in axes.references:
            if reference.direction == "vertical":
                label_above(plot, english(reference.label), reference.value, palette.muted)
        place_end_labels(drawing, plot, ends)
        return drawing

    words = (axes.x_label, axes.y_label, *(s.label for s in chosen), *(r.label for r in axes.references))
    caption = with_note(heading.caption, seed_note(chosen))
    return Figure(heading.name, heading.title, caption, paint, texts_of(words), _table([("", chosen)], axes))


def panels(heading: Heading, plots: Sequence[Panel], axes: Axes, columns: int = 3, height: int = 200) -> Figure:
    """Small multiples on shared axes, `height` pixels a row; one legend above all, colours by label."""
    chosen = tuple(plots)
    order = list(dict.fromkeys(english(s.label) for p in chosen for s in p.series))
    styled = tuple(
        tuple(s if s.style is not None else _styled(s, order.index(english(s.label))) for s in p.series) for p in chosen
    )
    rows = math.ceil(len(chosen) / columns)

    def paint(palette: Palette) -> Drawing:
        drawing = new_drawing(rows * height + 60)
        grid = drawing.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for place, plot in enumerate(grid.flat):
            if place >= len(chosen):
                plot.set_axis_off()
                continue
            _paint_plot(plot, styled[place], axes, palette)
            plot.set_title(english(chosen[place].title), fontsize=NORMAL, color=palette.ink, loc="left")
            # The lowest plot of each column carries the numbers, also where the last row is not full.
            plot.tick_params(labelbottom=place + columns >= len(chosen))
        drawing.supxlabel(english(axes.x_label), fontsize=NORMAL, color=palette.ink)
        drawing.supylabel(english(axes.y_label), fontsize=NORMAL, color=palette.ink)
        _legend_above(drawing, grid.flat[0], [s for plot in styled for s in plot], axes, palette)
        return drawing

    everything = [s for p in chosen for s in p.series]
    words = (
        axes.x_label, axes.y_label, *(p.title for p in chosen),
        *(s.label for s in everything), *(r.label for r in axes.references),
    )  # fmt: skip
    caption = with_note(heading.caption, seed_note(everything))
    data = [(english(p.title), p.series) for p in chosen]
    return Figure(heading.name, heading.title, caption, paint, texts_of(words), _table(data, axes))


def seed_note(series: Sequence[Series]) -> Text | None:
    """The sentence about seeds that every figure with chance in it carries; None where there is none."""
    return seed_note_of([s.seeds for s in series])


def seed_note_of(seeds: Sequence[int]) -> Text | None:
    """The same from the numbers of seeds; 0 stands for a value without chance."""
    counts = sorted({count for count in seeds if count > 0})
    if not counts:
        return None
    if counts == [1]:
        return say("One seed, so no interval is known.")
    if len(counts) == 1:
        return say("Mean and 95 % interval over {count} seeds.", count=counts[0])
    return say("Mean and 95 % interval over {fewest} to {most} seeds.", fewest=counts[0], most=counts[-1])


def _styled(series: Series, style: int) -> Series:
    return replace(series, style=style)


def _style(series: Series, place: int) -> int:
    return (place if series.style is None else series.style) % len(_MARKERS)


def _paint_plot(plot: Plot, series: Sequence[Series], axes: Axes, palette: Palette) -> None:
    quieten(plot, palette)
    plot.grid(axis="y", color=palette.grid, linewidth=0.7, zorder=0)
    plot.set_axisbelow(True)
    scale_axis(plot, "x", axes.x_scale)
    scale_axis(plot, "y", axes.y_scale)
    _count_in_whole_steps(plot, series, axes)
    for place, one in enumerate(series):
        style = _style(one, place)
        colour = palette.series[style]
        if one.low is not None and one.high is not None and not np.isnan(one.low).all():
            plot.fill_between(one.x, one.low, one.high, color=colour, alpha=0.16, linewidth=0)
        plot.plot(
            one.x, one.mean, color=colour, linestyle=_LINES[style] if one.joined else "none", linewidth=1.7,
            marker=_MARKERS[style] if one.marked else "none", markersize=4, markevery=max(1, len(one.x) // 8) if one.joined else 1,
            markeredgewidth=0, label=english(one.label),
        )  # fmt: skip
    for reference in axes.references:
        if reference.direction == "horizontal":
            plot.axhline(reference.value, color=palette.muted, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        else:
            plot.axvline(reference.value, color=palette.muted, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
    _limit(plot, axes)


def _count_in_whole_steps(plot: Plot, series: Sequence[Series], axes: Axes) -> None:
    """No ticks between whole numbers where x counts something."""
    from matplotlib.ticker import MaxNLocator

    if axes.x_scale == "linear" and all(np.equal(np.mod(one.x, 1), 0).all() for one in series):
        plot.xaxis.set_major_locator(MaxNLocator(integer=True))


def _limit(plot: Plot, axes: Axes) -> None:
    if axes.x_range is not None:
        plot.set_xlim(*axes.x_range)
    elif axes.x_scale == "linear":
        plot.margins(x=0.01)
    if axes.y_range is not None:
        plot.set_ylim(*axes.y_range)


def _end_of(series: Series, place: int, palette: Palette) -> EndLabel:
    known = np.flatnonzero(~np.isnan(np.asarray(series.mean, dtype=np.float64)))
    height = float(series.mean[known[-1]]) if known.size else math.nan
    return EndLabel(english(series.label), height, palette.series[_style(series, place)])


def _legend_above(drawing: Drawing, plot: Plot, series: Sequence[Series], axes: Axes, palette: Palette) -> None:
    from matplotlib.lines import Line2D

    shown: dict[str, Line2D] = {}
    for one in series:
        style = _style(one, 0)
        shown.setdefault(
            english(one.label),
            Line2D(
                [],
                [],
                color=palette.series[style],
                linestyle=_LINES[style] if one.joined else "none",
                linewidth=1.7,
                marker=_MARKERS[style],
                markersize=4,
            ),
        )
    for reference in axes.references:
        dashes = (0, (4, 3)) if reference.direction == "horizontal" else (0, (1, 2))
        shown[english(reference.label)] = Line2D([], [], color=palette.muted, linewidth=0.9, linestyle=dashes)
    longest = max((len(word) for word in shown), default=0)
    columns = max(1, min(len(shown), 110 // (longest + 8)))
    drawing.legend(
        list(shown.values()), list(shown), loc="outside upper left", ncols=columns,
        frameon=False, fontsize=SMALL, labelcolor=palette.ink, handlelength=2.6, columnspacing=1.4,
    )  # fmt: skip


def _table(plots: Sequence[tuple[str, Sequence[Series]]], axes: Axes) -> dict[str, list[Cell]]:
    columns: dict[str, list[Cell]] = {
        "panel": [],
        "series": [],
        "x": [],
        "mean": [],
        "low": [],
        "high": [],
        "seeds": [],
    }
    for title, series in plots:
        for one in series:
            nothing = np.full(len(one.x), np.nan)
            parts = (
                one.x,
                one.mean,
                nothing if one.low is None else one.low,
                nothing if one.high is None else one.high,
            )
            for name, values in zip(("x", "mean", "low", "high"), parts, strict=True):
                columns[name] += [float(v) for v in values]
            columns["panel"] += [title] * len(one.x)
            columns["series"] += [english(one.label)] * len(one.x)
            columns["seeds"] += [one.seeds] * len(one.x)
    if not any(columns["panel"]):
        del columns["panel"]
    renamed = {"x": english(axes.x_label), "mean": english(axes.y_label)}
    return {renamed.get(name, name): values for name, values in columns.items()}
