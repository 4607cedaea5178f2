"""The rows of a sweep: one for each variant, benchmark and metric, with interval and the paper's normalised score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassworks.evaluation import AnyPrepared, MetricScore, Normalised, Prepared, Scores, VectorPrepared, median_over
from glassworks.evaluation.scores import on_scale
from glassworks.evidence.statistics import Interval, bootstrap_means
from glassworks.surgery.plans import Plan, Variant
from glassworks.surgery.points import MEDIAN
from glassworks.tensors.seeds import Seed

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: Mapping[str, str] = {
    "strategy": "name of the plan family, or `full`",
    "start": "start s of the middle (painters.md 1), or the layer of a single-layer strategy",
    "second": "last layer of a block, where the family has blocks",
    "affected": "M, the number of layers the strategy rearranges",
    "seed": "seed of a random order",
    "loops": "how often the parallel middle or the block is run",
    "gain": "factor on the combined update, or the share of inversions",
    "protected": "layers kept in place",
    "plan": "the plan's text",
    "layer_runs": "layer runs of the plan",
    "critical_depth": "layer runs on its longest path",
    "benchmark": f"what was scored; `{MEDIAN}`: the median of the normalised scores of all benchmarks",
    "metric": "how it was scored",
    "main": "whether this is the metric to compare the benchmark by",
    "higher_is_better": "whether more of the metric is better",
    "chance": "what a model without knowledge reaches in the main metric",
    "value": "the score",
    "low": "lower end of the 95 % interval of `value` over documents (bootstrap)",
    "high": "upper end of it",
    "normalised": "(value - chance) / (full - chance): 1 is the whole model, 0 is chance; the main metric only",
    "normalised_low": "lower end of the 95 % interval of `normalised`, documents paired with the full model",
    "normalised_high": "upper end of it",
    "documents": "number of documents scored",
}
RESAMPLES = 1000
_WHOLE_NUMBERS = ("start", "second", "seed")


def rows_of(
    variants: Sequence[Variant],
    scores: Mapping[str, Iterable[tuple[Plan, Scores]]],
    prepared: Sequence[Prepared | VectorPrepared],
) -> pd.DataFrame:
    """The tidy table; equal plans have equal scores, whatever strategy named them."""
    import pandas as pd

    whole = next(variant.plan for variant in variants if variant.strategy == "full")
    rows: list[dict[str, Any]] = []
    scaled: dict[Plan, list[Normalised]] = {variant.plan: [] for variant in variants}
    for one in prepared:
        by_plan = dict(scores[one.name])
        on = between_chance_and_whole(one, by_plan, whole)
        for plan, found in on.items():
            scaled[plan].append(found)
        cells = _cells(one, by_plan, on)
        rows += [
            {**variant.facts(), "benchmark": one.name, **cell} for variant in variants for cell in cells[variant.plan]
        ]
    medians = {plan: _median_cell(found) for plan, found in scaled.items()}
    rows += [{**variant.facts(), "benchmark": MEDIAN, **medians[variant.plan]} for variant in variants]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for name in _WHOLE_NUMBERS:
        frame[name] = frame[name].astype("Int64")
    for name in ("gain", "chance", "normalised", "normalised_low", "normalised_high"):
        frame[name] = frame[name].astype("float64")
    return frame


@dataclass(frozen=True, eq=False)
class Drawn:
    """Means of one metric for several models on the same redrawn documents, [model, draw]; None if it is no mean."""

    draws: NDArray[np.float64] | None

    @classmethod
    def of(cls, scores: Sequence[MetricScore]) -> Drawn:
        """A metric is drawn as the mean, or the exponential of the mean logarithm, whichever gives its value."""
        table = np.stack([score.per_document for score in scores])
        weights = scores[0].weights
        values = np.array([score.value for score in scores])
        if table.shape[1] < 2:
            return cls(None)
        if _fits(np.average(table, axis=1, weights=weights), values):
            return cls(_means(table, weights))
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(table)
        if _fits(np.exp(np.average(logs, axis=1, weights=weights)), values):
            return cls(np.exp(_means(logs, weights)))
        return cls(None)

    def interval(self, place: int, score: MetricScore) -> Interval:
        """The score of the model at a place with the middle 95 % of its draws; no interval where there are no draws."""
        nothing = Interval(score.value, float("nan"), float("nan"), len(score.per_document))
        if self.draws is None or not np.isfinite(self.draws[place]).all():
            return nothing
        low, high = np.percentile(self.draws[place], (2.5, 97.5))
        return Interval(score.value, float(low), float(high), nothing.count)


def _means(table: NDArray[np.float64], weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """The same draws for every metric and plan of a benchmark."""
    with np.errstate(invalid="ignore", over="ignore"):
        return bootstrap_means(table, Seed(0).child("documents").numpy(), RESAMPLES, weights)


def _fits(found: NDArray[np.float64], values: NDArray[np.float64]) -> bool:
    known = np.isfinite(found) & np.isfinite(values)
    return bool(known.any()) and np.allclose(found[known], values[known], rtol=1e-6, atol=1e-9)


def between_chance_and_whole(
    prepared: AnyPrepared, by_plan: Mapping[Plan, Scores], whole: Plan
) -> dict[Plan, Normalised]:
    """The main metric of every plan between chance and the whole model, on the same redrawn documents."""
    plans = list(by_plan)
    scores = [by_plan[plan][prepared.metric] for plan in plans]
    full = by_plan[whole][prepared.metric]
    better = 1.0 if full.higher_is_better else -1.0
    draws = Drawn.of(scores).draws
    if draws is None:
        draws = np.full((len(plans), RESAMPLES), np.nan)
    values = on_scale(np.array([s.value for s in scores]), np.full(len(plans), full.value), prepared.chance, better)
    shares = on_scale(draws, draws[plans.index(whole)][None], prepared.chance, better)
    return {
        plan: Normalised(float(value), share, len(full.per_document))
        for plan, value, share in zip(plans, values, shares, strict=True)
    }


def _cells(
    prepared: Prepared | VectorPrepared, by_plan: Mapping[Plan, Scores], on: Mapping[Plan, Normalised]
) -> dict[Plan, list[dict[str, Any]]]:
    """For each plan one cell a metric."""
    found: dict[Plan, list[dict[str, Any]]] = {plan: [] for plan in by_plan}
    for name in next(iter(by_plan.values())):
        drawn = Drawn.of([scores[name] for scores in by_plan.values()])
        for place, (plan, scores) in enumerate(by_plan.items()):
            interval = drawn.interval(place, scores[name])
            cell: dict[str, Any] = {
                "metric": name,
                "main": name == prepared.metric,
                "higher_is_better": scores[name].higher_is_better,
                "value": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "documents": prepared.documents,
            }
            if name == prepared.metric:
                cell |= {"chance": prepared.chance, **_ends(on[plan])}
            found[plan].append(cell)
    return found


def _median_cell(found: Sequence[Normalised]) -> dict[str, Any]:
    median = median_over(found)
    ends = _ends(median)
    return {
        "metric": "normalised",
        "main": True,
        "higher_is_better": True,
        "chance": 0.0,
        "value": median.value,
        "low": ends["normalised_low"],
        "high": ends["normalised_high"],
        "documents": median.documents,
        **ends,
    }


def _ends(found: Normalised) -> dict[str, float]:
    interval = found.interval
    return {"normalised": interval.mean, "normalised_low": interval.low, "normalised_high": interval.high}
