"""The figures of a sweep, from its rows or from points made elsewhere; no torch, and nothing is computed but means."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from glassworks.core.text import Text, say
from glassworks.evidence.statistics import interval_over_seeds
from glassworks.figures import (
    Axes,
    ColourScale,
    Figure,
    Heading,
    Matrix,
    Panel,
    Reference,
    Series,
    curves,
    heatmap,
    panels,
)
from glassworks.surgery.points import (
    BEST,
    BLOCKS,
    SINGLE,
    Curve,
    Point,
    benchmarks_of,
    curves_of,
    metric_name,
    name_of,
    of_strategy,
    points_of,
    whole_model,
)

if TYPE_CHECKING:
    import pandas as pd

# Colour and line of each published strategy, the same in every figure; others take what is left.
_STYLES = {
    "skip": 0, "middle_repeat": 1, "reverse": 2, "random": 3, "parallel": 4, "looped": 5, "looped_best": 6, "sum": 7,
    "skip_one": 0, "switch": 4,
}  # fmt: skip
_ALL_STYLES = 8
# With more curves than these in one plot their bands hide each other: only those over seeds are then drawn.
_MOST_BANDS = 4
# Of the distance between chance and the whole model, so much is shown beyond either.
_BELOW_CHANCE, _ABOVE_WHOLE = 0.6, 0.3
# A plan that ruins the model can lie far below chance; the colours end here.
_LOSS_SHOWN = 1.0

Place = Callable[[Point], int]


def figures_of(rows: pd.DataFrame) -> list[Figure]:
    """Every figure that the rows can fill, the comparison of all strategies first."""
    points = points_of(rows)
    drawn = [all_in_one(points), by_depth(points), by_runs(points)]
    mapped = points if math.isfinite(whole_model(points).value) else points_of(rows, benchmarks_of(rows)[0])
    drawn += [loop_map(mapped), *(block_map(mapped, strategy) for strategy in BLOCKS)]
    for benchmark in benchmarks_of(rows):
        own = points_of(rows, benchmark)
        drawn += [strategy_panels(own), layer_curves(own)]
    return [figure for figure in drawn if figure is not None]


def all_in_one(points: Sequence[Point]) -> Figure | None:
    """The median of the normalised scores against the number of affected layers (the paper's figure 11)."""
    heading = Heading(
        "all_in_one",
        say("All strategies beside each other"),
        say(
            "The median over the benchmarks of the score normalised so that the whole model is 1 and chance is 0. Intervals over documents are in the figures of each benchmark and in the data; a band shows the spread of random orders over seeds."
        ),
    )
    return _over(heading, curves_of(points), points, (_affected, say("number of layers affected")))


def by_depth(points: Sequence[Point]) -> Figure | None:
    """The same against the longest path through the plan: what it would take with every parallel branch at once."""
    heading = Heading(
        "equal_depth",
        say("At equal depth"),
        say(
            "The same scores against the number of layers one after the other, which bounds the time of a plan whose parallel layers all run at once."
        ),
    )
    return _over(heading, _varying(points, _depth), points, (_depth, say("layers one after the other")))


def by_runs(points: Sequence[Point]) -> Figure | None:
    """The same against layer runs: what a plan costs to compute. Strategies that all cost the same are not shown."""
    heading = Heading(
        "equal_compute",
        say("At equal compute"),
        say(
            "The same scores against the number of layer runs. Strategies whose plans all run as many layers as the whole model have no curve here."
        ),
    )
    return _over(heading, _varying(points, _runs), points, (_runs, say("layer runs")))


def strategy_panels(points: Sequence[Point]) -> Figure | None:
    """One benchmark's main metric against the number of affected layers, a small plot a strategy (figures 4 to 9)."""
    found = _known(curves_of(points))
    if not found:
        return None
    whole, benchmark = whole_model(points), points[0].benchmark
    series = [series_of_curve(curve, _affected, 0) for curve in found]
    caption = say(
        "{metric} against the number of layers affected, for every start. Bands: 95 % interval over documents; for random orders over seeds.",
        metric=metric_name(whole),
    )
    heading, axes = _framed(
        Heading(f"strategies_{benchmark}", say("{benchmark}: every strategy", benchmark=benchmark), caption),
        Axes(say("number of layers affected"), metric_name(whole), references=_levels(whole)),
        range_shown(series, whole),
    )
    plots = [
        Panel(curve.name, (replace(one, label=say("the strategy")),)) for curve, one in zip(found, series, strict=True)
    ]
    return panels(heading, plots, axes)


def layer_curves(points: Sequence[Point]) -> Figure | None:
    """One benchmark's main metric with a single layer left out, or switched with the next, at each layer (figure 2)."""
    found = [Curve(name_of(one), one, tuple(of_strategy(points, one))) for one in SINGLE]
    heading = Heading(
        f"layers_{points[0].benchmark}",
        say("{benchmark}: one layer left out or switched", benchmark=points[0].benchmark),
        say(
            "{metric} with one layer left out, and with a layer and the next one switched. Bands: 95 % interval over documents.",
            metric=metric_name(points[0]),
        ),
    )
    known = [curve for curve in found if curve.points]
    return _over(heading, known, points, (lambda point: point.start or 0, say("layer, or first of the two")))


def loop_map(points: Sequence[Point]) -> Figure | None:
    """Score by number of parallel layers and number of loops, the best count of each row framed (figure 10)."""
    looped = [p for p in points if p.strategy == "looped" and not math.isnan(p.value)]
    counts, sizes = sorted({p.loops for p in looped}), sorted({p.affected for p in looped})
    if len(counts) < 2 or not sizes:
        return None
    values = np.full((len(sizes), len(counts)), np.nan)
    for point in looped:
        values[sizes.index(point.affected), counts.index(point.loops)] = point.value
    best = tuple((row, int(np.nanargmax(_good(values[row], looped[0])))) for row in range(len(sizes)))
    heading = Heading(
        "loops",
        say("How many loops are best"),
        say("Framed: the best number of loops for each number of parallel layers, chosen on the documents shown here."),
    )
    matrix = Matrix(
        values, tuple(map(str, sizes)), tuple(map(str, counts)), say("parallel layers"), say("loops"), marked=best
    )
    return heatmap(heading, matrix, ColourScale(metric_name(looped[0])), numbers=len(counts) <= 12)


def block_map(points: Sequence[Point], strategy: str) -> Figure | None:
    """Gain or loss against the whole model for every block of layers, first layer down and last across."""
    found = [p for p in of_strategy(points, strategy) if not math.isnan(p.value)]
    if not found:
        return None
    whole = whole_model(points)
    last = max(p.second or 0 for p in found) + 1
    values = np.full((last, last), np.nan)
    for point in found:
        values[point.start or 0, point.second or 0] = point.goodness - whole.goodness
    best = np.unravel_index(int(np.nanargmax(values)), values.shape)
    heading = Heading(
        strategy,
        say("Every block: {strategy}", strategy=name_of(strategy, found[0].loops)),
        say(
            "Difference to the whole model in {quantity}; what loses more than {most} has the colour of {most}. Framed: the best block, chosen on the documents shown here.",
            quantity=metric_name(whole), most=f"{_LOSS_SHOWN:g}",
        ),
    )  # fmt: skip
    names = tuple(map(str, range(last)))
    matrix = Matrix(values, names, names, say("first layer"), say("last layer"), marked=((int(best[0]), int(best[1])),))
    scale = ColourScale(say("better (+) or worse (−)"), "diverging", -_LOSS_SHOWN, _LOSS_SHOWN)
    return heatmap(heading, matrix, scale)


def series_of_curve(curve: Curve, place: Place, style: int | None = None) -> Series:
    """A curve with its band: over documents for one plan a place, over seeds where there are several."""
    ends: list[tuple[float, float, float]] = []
    repeated = 0
    by_place = curve.at(place)
    for found in by_place.values():
        # Several plans with different seeds at one place are repetitions; without seeds the best stands for them.
        seeded = [p.value for p in found if p.seed is not None]
        if seeded:
            interval = interval_over_seeds(np.array(seeded, dtype=np.float64))
            ends.append((interval.mean, interval.low, interval.high))
            repeated = max(repeated, interval.count)
        else:
            best = max(found, key=lambda point: point.goodness)
            ends.append((best.value, best.low, best.high))
    mean, low, high = np.array(ends, dtype=np.float64).T
    return Series(curve.name, np.array(list(by_place), dtype=np.float64), mean, low, high, repeated, style)


def styles_of(found: Sequence[Curve]) -> list[int]:
    """Colour and line of each curve: the published strategies keep theirs, others take what is left."""
    taken = {_STYLES[curve.strategy] for curve in found if curve.strategy in _STYLES}
    left = [style for style in range(_ALL_STYLES) if style not in taken] or list(range(_ALL_STYLES))
    others = cycle(left)
    return [_STYLES[curve.strategy] if curve.strategy in _STYLES else next(others) for curve in found]


def _over(
    heading: Heading, found: Sequence[Curve], points: Sequence[Point], across: tuple[Place, Text]
) -> Figure | None:
    """Curves over a place, with the whole model and chance as levels; None where there is nothing to draw."""
    known = _known(found)
    if not known:
        return None
    whole = whole_model(points)
    place, name = across
    series = [series_of_curve(one, place, style) for one, style in zip(known, styles_of(known), strict=True)]
    shown = range_shown(series, whole)
    if len(series) > _MOST_BANDS:
        series = [one if one.seeds else replace(one, low=None, high=None) for one in series]
    heading, axes = _framed(heading, Axes(name, metric_name(whole), references=_levels(whole)), shown)
    return curves(heading, series, axes)


def _known(found: Sequence[Curve]) -> list[Curve]:
    """The curves that have anything to show."""
    return [curve for curve in found if any(math.isfinite(point.value) for point in curve.points)]


def _levels(whole: Point) -> tuple[Reference, ...]:
    levels = (Reference(say("whole model"), whole.value), Reference(say("chance"), whole.chance))
    return tuple(one for one in levels if math.isfinite(one.value))


def _framed(heading: Heading, axes: Axes, shown: tuple[float, float] | None) -> tuple[Heading, Axes]:
    """The heading says so where the axis does not show everything."""
    if shown is None:
        return heading, axes
    cut = say("{caption} What lies beyond the frame is in the data.", caption=heading.caption)
    return replace(heading, caption=cut), replace(axes, y_range=shown)


def _varying(points: Sequence[Point], place: Place) -> list[Curve]:
    """The curves that have several places; the best of several settings has no order there."""
    found = [curve for curve in curves_of(points) if not curve.strategy.endswith(BEST)]
    return [curve for curve in found if len(curve.at(place)) > 1]


def _depth(point: Point) -> int:
    return point.critical_depth


def _runs(point: Point) -> int:
    return point.layer_runs


def _affected(point: Point) -> int:
    return point.affected


def range_shown(series: Sequence[Series], whole: Point) -> tuple[float, float] | None:
    """The part of the axis that tells something, where a ruined plan would flatten all else; None: all of it."""
    room = whole.value - whole.chance
    if not math.isfinite(room) or room == 0 or (room > 0) != whole.higher_is_better:
        return None
    ends = (whole.chance - _BELOW_CHANCE * room, whole.value + _ABOVE_WHOLE * room)
    low, high = min(ends), max(ends)
    values = np.concatenate([one.mean for one in series])
    values = values[np.isfinite(values)]
    return None if low <= values.min() and values.max() <= high else (low, high)


def _good(values: np.ndarray, point: Point) -> np.ndarray:
    return values if point.higher_is_better else -values
