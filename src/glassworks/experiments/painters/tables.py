"""Reading the measured parts: scores, areas, and their intervals over documents; no torch.

A table's parts sum to a plan's normalised score (painters.md 3), so means over plans are means of parts, and what a
bootstrap over documents needs is here as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from glassworks.core.text import Text
from glassworks.evidence.claims import Evidence
from glassworks.evidence.measurements import Label, Measurement
from glassworks.evidence.statistics import Interval, bootstrap_interval, bootstrap_means
from glassworks.surgery.points import name_of

# The published order, best first (figure 11).
RANKING = ("looped", "random", "reverse", "parallel", "skip", "middle_repeat")
# Areas are taken over middles of 3 layers to this share of all: beyond it everything is destroyed (painters.md 4).
FEWEST, MOST_SHARE = 3, 2 / 3
MAIN_LOOPS = 3  # the paper's main figures

Rows = Float[np.ndarray, "*any part"]
Row = Float[np.ndarray, " part"]


@dataclass(frozen=True, eq=False)
class Table:
    """The parts of some plans, with the whole model's and what 1 and 0 stand for."""

    parts: Measurement
    full: Row
    scale: Measurement

    @classmethod
    def of(cls, evidence: Evidence, name: str) -> Table:
        """The table of this name; a missing one raises Missing."""
        return cls(evidence[name], evidence[f"{name}_full"].values, evidence[f"{name}_scale"])

    def quantity(self, name: str) -> float:
        """A number of the scale: full, chance, documents, targets, layers."""
        return float(self.scale.at(quantity=name).values)

    @property
    def layers(self) -> int:
        """Layers of the stack."""
        return int(self.quantity("layers"))

    def rows(self, **labels: Label) -> Rows:
        """The parts at the labels, over the dimensions that are left."""
        return self.parts.at(**labels).values

    def scores(self, **labels: Label) -> Float[np.ndarray, "*any"]:
        """The normalised scores at the labels."""
        return np.asarray(self.rows(**labels).sum(-1))

    def value(self, score: float) -> float:
        """The benchmark's own metric at a normalised score."""
        chance = self.quantity("chance")
        return chance + score * (self.quantity("full") - chance)

    def interval(self, statistic: Callable[[NDArray[np.float64]], float], rows: Sequence[Row]) -> Interval:
        """A statistic of the normalised scores of some rows, with its 95 % interval over documents (paired)."""
        return interval_of(statistic, rows, self.full)


@dataclass(frozen=True, eq=False)
class Strategies:
    """The strategies on the middle layers: those without chance, and the random orders."""

    fixed: Table
    random: Table

    @classmethod
    def of(cls, evidence: Evidence, name: str) -> Strategies:
        """The two tables of this name; a missing one raises Missing."""
        return cls(Table.of(evidence, name), Table.of(evidence, f"{name}_random"))

    @property
    def layers(self) -> int:
        """Layers of the stack."""
        return self.fixed.layers

    @property
    def full(self) -> Row:
        """The whole model's parts."""
        return self.fixed.full

    @property
    def names(self) -> tuple[str, ...]:
        """The strategies at hand, in the order of figure 11, ours last."""
        known = [*map(str, self.fixed.parts.coords["strategy"]), "random"]
        return (*(name for name in RANKING if name in known), *(name for name in known if name not in RANKING))

    @cached_property
    def affected(self) -> NDArray[np.float64]:
        """M of every start."""
        return self.fixed.parts.along("affected")

    def rows(self, strategy: str) -> Float[np.ndarray, "affected part"]:
        """The parts of a strategy by M; for random orders the mean over seeds."""
        return self.random.rows().mean(0) if strategy == "random" else self.fixed.rows(strategy=strategy)

    def scores(self, strategy: str) -> Float[np.ndarray, " affected"]:
        """The normalised scores of a strategy by M."""
        return self.rows(strategy).sum(-1)

    def area(self, strategy: str) -> Row:
        """The parts of a strategy's area (painters.md 4); NaN where no start lies in its range."""
        return mean_row(self.rows(strategy)[in_range(self.affected, self.layers)])

    def difference(self, first: str, second: str) -> Interval:
        """Area of the first minus area of the second."""
        return self.fixed.interval(lambda scores: float(scores[0] - scores[1]), [self.area(first), self.area(second)])

    def areas(self) -> dict[str, float]:
        """The areas of the published strategies, as far as they were measured."""
        return {name: float(self.area(name).sum()) for name in RANKING if name in self.names}


def strategy_name(strategy: str) -> Text:
    """A strategy in words, with the paper's main number of loops."""
    return name_of(strategy, MAIN_LOOPS) if strategy == "looped" else name_of(strategy)


def in_range(affected: NDArray[np.float64], layers: int) -> Bool[np.ndarray, " affected"]:
    """Which middles count for an area."""
    return (affected >= FEWEST) & (affected <= MOST_SHARE * layers)


def mean_row(rows: Float[np.ndarray, "plan part"]) -> Row:
    """The mean over plans, NaN where there are none."""
    return rows.mean(0) if len(rows) else np.full(rows.shape[-1], np.nan)


def interval_of(statistic: Callable[[NDArray[np.float64]], float], rows: Sequence[Row], full: Row) -> Interval:
    """A statistic of normalised scores with its 95 % interval: documents drawn with replacement, for all rows alike.

    NaN where the whole model is not better than chance, also on the documents drawn.
    """

    def on_scale(means: NDArray[np.float64]) -> float:
        return statistic(means[:-1] / means[-1]) if means[-1] > 0 else float("nan")

    return bootstrap_interval(on_scale, [*rows, full])


def apart(first: tuple[Row, Row], second: tuple[Row, Row]) -> Interval:
    """The difference of two normalised scores on different documents, each given with the whole model's parts."""
    draws: list[NDArray[np.float64]] = []
    for seed, (row, full) in enumerate((first, second)):
        own, whole = bootstrap_means(np.stack([row, full]), np.random.default_rng(seed))
        draws.append(np.where(whole > 0, own / np.where(whole > 0, whole, 1.0), np.nan))
    value = float(first[0].sum() / first[1].sum() - second[0].sum() / second[1].sum())
    found = draws[0] - draws[1]
    if np.isnan(value) or np.isnan(found).mean() > 0.025:
        return Interval(value, float("nan"), float("nan"), len(first[0]) + len(second[0]))
    low, high = np.nanpercentile(found, (2.5, 97.5))
    return Interval(value, float(low), float(high), len(first[0]) + len(second[0]))


def benchmarks(evidence: Evidence) -> tuple[str, ...]:
    """The benchmarks of the tasks study, in the order they were scored."""
    begin, end = "tasks_", "_scale"
    names = [
        name.removeprefix(begin).removesuffix(end)
        for name in evidence.measurements
        if name.startswith(begin) and name.endswith(end)
    ]
    return tuple(name for name in names if not name.endswith("_random"))


def medians(evidence: Evidence, strategy: str) -> Float[np.ndarray, " affected"]:
    """The median of the normalised scores over benchmarks by M, as in figure 11; one without a scale is left out."""
    found = np.stack([Strategies.of(evidence, f"tasks_{name}").scores(strategy) for name in benchmarks(evidence)])
    known = found[~np.isnan(found).any(1)]
    return np.median(known, axis=0) if len(known) else np.full(found.shape[1], np.nan)


def best_loops(table: Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """M, and the number of loops with the best score there."""
    loops = table.parts.along("loops")
    return table.parts.along("affected"), loops[table.scores().argmax(axis=1)]


def bands(rows: Float[np.ndarray, "plan part"], full: Row) -> tuple[NDArray[np.float64], ...]:
    """Score, lower and upper end of its 95 % interval over documents, of each plan; ends are NaN where none is known."""
    drawn = bootstrap_means(np.vstack([rows, full]), np.random.default_rng(0))
    whole = np.where(drawn[-1] > 0, drawn[-1], np.nan)
    found = drawn[:-1] / whole
    known = ~np.isnan(found).any(axis=1) & (rows.shape[1] > 1)
    low, high = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    if known.any():
        low[known], high[known] = np.percentile(found[known], (2.5, 97.5), axis=1)
    return rows.sum(-1), low, high
