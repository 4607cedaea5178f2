"""Intervals over seeds, first crossings, order and trend; numpy only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Two-sided 95 % quantiles of Student's t by degrees of freedom; beyond the table a series is exact to 1e-3.
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_NORMAL95 = 1.960


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; `low` and `high` are NaN when one number cannot have a spread."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "-"
        if math.isnan(self.low):
            return f"{self.mean:.3g}"
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


def interval_over_seeds(values: NDArray[np.float64]) -> Interval:
    """Mean and 95 % t-interval of independent repetitions; NaN entries (not measured) are left out."""
    known = values[~np.isnan(values)]
    if known.size == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(known.mean())
    if known.size == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = t95(known.size - 1) * float(known.std(ddof=1)) / math.sqrt(known.size)
    return Interval(mean, mean - half, mean + half, int(known.size))


def t95(degrees_of_freedom: int) -> float:
    """The two-sided 95 % quantile of Student's t."""
    assert degrees_of_freedom >= 1, "one repetition has no spread"
    if degrees_of_freedom <= len(_T95):
        return _T95[degrees_of_freedom - 1]
    z, n = _NORMAL95, degrees_of_freedom
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n * n)


def band_over_seeds(values: NDArray[np.float64], axis: int) -> tuple[NDArray[np.float64], ...]:
    """Mean, low and high along an axis of repetitions, for drawing a curve with its 95 % band.

    NaN entries (not measured) are left out, as in `interval_over_seeds`; a single one left has no band.
    """
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    mean = np.divide(
        np.where(known, values, 0.0).sum(axis=axis), count, out=np.full(count.shape, np.nan), where=count > 0
    )
    squares = np.where(known, (values - np.expand_dims(mean, axis)) ** 2, 0.0).sum(axis=axis)
    # t / sqrt(n (n - 1)) by number of repetitions, NaN where there are fewer than two.
    factor = np.array(
        [math.nan, math.nan] + [t95(n - 1) / math.sqrt(n * (n - 1)) for n in range(2, values.shape[axis] + 1)]
    )
    half = factor[count] * np.sqrt(squares)
    return mean, mean - half, mean + half


def first_crossing(steps: NDArray[np.float64], curve: NDArray[np.float64], level: float) -> float:
    """The first step at which a curve reaches a level, interpolated between samples; NaN if it never does."""
    above = np.flatnonzero(curve >= level)
    if above.size == 0:
        return math.nan
    i = int(above[0])
    if i == 0 or np.isnan(curve[i - 1]):
        return float(steps[i])
    share = (level - curve[i - 1]) / (curve[i] - curve[i - 1])
    return float(steps[i - 1] + share * (steps[i] - steps[i - 1]))


def wilson_interval(hits: int, trials: int) -> Interval:
    """The 95 % Wilson interval of a proportion; honest near 0 and 1, where the normal one is not."""
    if trials == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    p, z = hits / trials, _NORMAL95
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return Interval(p, max(0.0, centre - half), min(1.0, centre + half), trials)


def bootstrap_interval(
    statistic: Callable[[NDArray[np.float64]], float],
    columns: Sequence[NDArray[np.float64]],
    weights: NDArray[np.float64] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """The 95 % percentile interval of a statistic of (weighted) means over documents, drawn with replacement.

    `columns` are arrays of one length, paired by document; `statistic` takes their means. NaN ends for one document,
    and where the statistic is NaN in more than the 2.5 % of the draws that lie outside an end.
    """
    table = np.stack([np.asarray(column, dtype=np.float64) for column in columns])
    count = table.shape[1]
    weight = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    value = statistic((table * weight).sum(1) / weight.sum())
    if count < 2:
        return Interval(value, math.nan, math.nan, count)
    means = bootstrap_means(table, np.random.default_rng(seed), resamples, weights).T
    found = np.array([statistic(row) for row in means])
    if np.isnan(found).mean() > 0.025:
        return Interval(value, math.nan, math.nan, count)
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return Interval(value, float(low), float(high), count)


def bootstrap_means(
    values: NDArray[np.float64],
    generator: np.random.Generator,
    repeats: int = 1000,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Means over documents drawn with replacement: [row, document] -> [row, repeat].

    All rows see the same draws, so that what is compared between them is paired; `weights` are one per document.
    """
    documents = values.shape[1]
    drawn = generator.multinomial(documents, np.full(documents, 1 / documents), size=repeats).astype(np.float64)
    drawn *= 1.0 if weights is None else weights
    return values @ (drawn / drawn.sum(axis=1, keepdims=True)).T


def rank_correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Spearman's rank correlation with mid-ranks for ties; NaN when either side is constant."""
    a, b = _mid_ranks(x), _mid_ranks(y)
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else math.nan


def _mid_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + last - 1) / 2.0)[inverse]
