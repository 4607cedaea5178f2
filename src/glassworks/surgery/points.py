"""The rows of a sweep as points of curves: which belong together, what they are called; no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from glassworks.core.text import Text, say
from glassworks.figures.words import Label

if TYPE_CHECKING:
    import pandas as pd

MEDIAN = "median"
"""Stands in the column `benchmark` for the median of the normalised scores of all benchmarks."""
FULL = "full"
SINGLE = ("skip_one", "switch")
BLOCKS = ("repeat_block", "drop_block")
# What is neither a curve over the number of affected layers nor a map of blocks.
_NO_CURVE = (FULL, *SINGLE, *BLOCKS, "inversions")
# Ends the name of a curve of the best of several settings.
BEST = "_best"
# The paper's main choice of loops (figure 9).
_USUAL_LOOPS = 3


@dataclass(frozen=True)
class Point:
    """A plan's score in the main metric of a benchmark; the fields are columns of the rows."""

    strategy: str
    start: int | None
    second: int | None
    affected: int
    seed: int | None
    loops: int
    gain: float | None
    plan: str
    layer_runs: int
    critical_depth: int
    benchmark: str
    metric: str
    higher_is_better: bool
    chance: float
    value: float
    low: float
    high: float

    @property
    def goodness(self) -> float:
        """The score, larger for better; minus infinity where it is not known."""
        if math.isnan(self.value):
            return -math.inf
        return self.value if self.higher_is_better else -self.value

    @property
    def beats_chance(self) -> bool:
        """Whether it is better than what a model without knowledge reaches."""
        return self.value > self.chance if self.higher_is_better else self.value < self.chance

    @property
    def setting(self) -> tuple[int, float | None]:
        """What tells variants of one strategy and start apart, beside the seed."""
        return self.loops, None if self.strategy == "middle_repeat_scaled" else self.gain


@dataclass(frozen=True)
class Curve:
    """The points of one strategy; several at one place are repetitions with different seeds."""

    name: Text
    strategy: str
    points: tuple[Point, ...]

    def at(self, place: Callable[[Point], int]) -> dict[int, tuple[Point, ...]]:
        """The points by what `place` says of them, in rising order."""
        found: dict[int, list[Point]] = {}
        for point in self.points:
            found.setdefault(place(point), []).append(point)
        return {x: tuple(found[x]) for x in sorted(found)}


def benchmarks_of(rows: pd.DataFrame) -> list[str]:
    """The benchmarks that were scored, in order, without their median."""
    return [str(name) for name in dict.fromkeys(rows["benchmark"]) if name != MEDIAN]


def points_of(rows: pd.DataFrame, benchmark: str = MEDIAN) -> list[Point]:
    """The points of one benchmark, in its main metric."""
    chosen: pd.DataFrame = rows.loc[(rows["benchmark"] == benchmark) & rows["main"], list(Point.__annotations__)]
    records = cast(list[dict[str, Any]], chosen.to_dict("records"))
    found = [Point(**{name: _plain(name, value) for name, value in record.items()}) for record in records]
    # Two families may name the same variant: looped with 3 loops is in the published set and in a grid of loops.
    same = {(p.strategy, p.start, p.second, p.seed, p.loops, p.gain): p for p in found}
    return list(same.values())


def whole_model(points: Iterable[Point]) -> Point:
    """The point of the untouched model."""
    return next(point for point in points if point.strategy == FULL)


def of_strategy(points: Iterable[Point], strategy: str) -> list[Point]:
    """The points of one strategy."""
    return [point for point in points if point.strategy == strategy]


def curves_of(points: Sequence[Point]) -> list[Curve]:
    """One curve for each strategy on the middle layers.

    A strategy with several settings (loops, gains) has a curve for the usual one and one for the best at each place.
    """
    found: list[Curve] = []
    for strategy in dict.fromkeys(point.strategy for point in points if point.strategy not in _NO_CURVE):
        own = of_strategy(points, strategy)
        settings = sorted({point.setting for point in own}, key=lambda setting: (setting[0], setting[1] or 0.0))
        usual = next((one for one in settings if one[0] == _USUAL_LOOPS), settings[0])
        found.append(
            Curve(name_of(strategy, *usual), strategy, tuple(point for point in own if point.setting == usual))
        )
        if len(settings) > 1:
            found.append(Curve(say("{strategy}, best of {count}", strategy=name_of(strategy), count=len(settings)), f"{strategy}{BEST}", _best(own)))  # fmt: skip
    return found


def name_of(strategy: str, loops: int | None = None, gain: float | None = None) -> Text:
    """A strategy in words, with its setting where one is given; an unknown one is called by its own name."""
    named = _NAMES.get(strategy, say("{name}", name=strategy))
    if strategy in ("looped", "repeat_each", "repeat_middle", "repeat_block") and loops is not None:
        return say("{strategy} ×{count}", strategy=named, count=loops)
    if strategy == "scaled" and gain is not None:
        return say("{strategy} ×{count}", strategy=named, count=f"{gain:g}")
    return named


def metric_name(point: Point) -> Label:
    """What a point's score is, with its unit; a metric that is not known here is called by its own name."""
    return _METRICS.get(point.metric, point.metric)


def variant_name(point: Point) -> Text:
    """A point's plan in words: strategy, where, setting."""
    named = name_of(point.strategy, point.loops, point.gain)
    if point.strategy == "skip_one":
        return say("{strategy}: {layer}", strategy=named, layer=point.start)
    if point.strategy == "switch":
        return say("{strategy}: {first} and {second}", strategy=named, first=point.start, second=(point.start or 0) + 1)
    if point.second is not None:
        return say("{strategy}: {first} to {second}", strategy=named, first=point.start, second=point.second)
    if point.seed is not None:
        return say("{strategy}, {count} layers, seed {seed}", strategy=named, count=point.affected, seed=point.seed)
    return say("{strategy}, {count} layers", strategy=named, count=point.affected) if point.start is not None else named


def _best(points: Sequence[Point]) -> tuple[Point, ...]:
    """The best point of each number of affected layers."""
    best: dict[int, Point] = {}
    for point in points:
        if point.affected not in best or point.goodness > best[point.affected].goodness:
            best[point.affected] = point
    return tuple(best.values())


def _plain(column: str, value: Any) -> Any:
    """A cell of a table as Python has it; a column's missing value becomes None where it means "does not apply"."""
    # NA is the only value here that is neither number, text nor bool.
    is_missing = type(value).__name__ == "NAType" or (column == "gain" and math.isnan(value))
    if is_missing:
        return None
    return value.item() if type(value).__module__ == "numpy" else value


_METRICS = {
    "normalised": say("normalised score"),
    "nll": say("nats per token"),
    "ppl": say("perplexity"),
    "perplexity": say("perplexity"),
    "acc": say("accuracy"),
    "acc_norm": say("accuracy, choices weighed by length"),
    "hit_at_1": say("share found first"),
}
_NAMES = {
    FULL: say("whole model"),
    "skip_one": say("skip one layer"),
    "switch": say("switch neighbours"),
    "skip": say("skip the middle"),
    "middle_repeat": say("repeat the centre layer"),
    "middle_repeat_scaled": say("repeat the centre layer, updates divided"),
    "reverse": say("reverse"),
    "random": say("random order"),
    "parallel": say("parallel"),
    "sum": say("parallel, updates added up"),
    "looped": say("looped parallel"),
    "scaled": say("parallel, update scaled"),
    "repeat_block": say("repeat a block"),
    "drop_block": say("leave a block out"),
    "repeat_each": say("repeat each layer in place"),
    "repeat_middle": say("repeat the middle as a block"),
    "inversions": say("partial disorder"),
}
