"""The rows of a sweep: one for each variant, benchmark and metric, with interval and the paper's normalised score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassworks.evaluation import MetricScore, Prepared, Scores, VectorPrepared
from glassworks.evidence.statistics import bootstrap_interval
from glassworks.surgery.plans import Plan, Variant

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
    "benchmark": "what was scored",
    "metric": "how it was scored",
    "value": "the score",
    "low": "lower end of the 95 % interval of `value` over documents (bootstrap)",
    "high": "upper end of it",
    "normalised": "(value - chance) / (full - chance): 1 is the whole model, 0 is chance; the benchmark's own metric only",
    "normalised_low": "lower end of the 95 % interval of `normalised`, documents paired with the full model",
    "normalised_high": "upper end of it",
    "documents": "number of documents scored",
}
RESAMPLES = 400


def rows_of(
    variants: Sequence[Variant],
    scores: Mapping[str, Iterable[tuple[Plan, Scores]]],
    prepared: Sequence[Prepared | VectorPrepared],
) -> pd.DataFrame:
    """The tidy table; equal plans have equal scores, whatever strategy named them."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for one in prepared:
        by_plan = dict(scores[one.name])
        full = by_plan[next(variant.plan for variant in variants if variant.strategy == "full")]
        cells = {plan: _cells(one, found, full) for plan, found in by_plan.items()}
        rows += [
            {**variant.facts(), "benchmark": one.name, **cell} for variant in variants for cell in cells[variant.plan]
        ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for name in ("start", "second", "seed"):
        frame[name] = frame[name].astype("Int64")
    frame["gain"] = frame["gain"].astype("float64")
    return frame


def _cells(prepared: Prepared | VectorPrepared, found: Scores, full: Scores) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = []
    for name, score in found.items():
        interval = bootstrap_interval(_mean, (score.per_document,), score.weights, resamples=RESAMPLES)
        cell: dict[str, Any] = {
            "metric": name,
            "value": score.value,
            "low": interval.low,
            "high": interval.high,
            "documents": prepared.documents,
        }
        if name == prepared.metric:
            cell |= _normalised(score, full[name], prepared.chance)
        cells.append(cell)
    return cells


def _normalised(score: MetricScore, full: MetricScore, chance: float) -> dict[str, float]:
    def share(mine: float, whole: float) -> float:
        return (mine - chance) / (whole - chance) if whole != chance else float("nan")

    interval = bootstrap_interval(
        lambda means: share(means[0], means[1]),
        (score.per_document, full.per_document),
        score.weights,
        resamples=RESAMPLES,
    )
    return {
        "normalised": share(score.value, full.value),
        "normalised_low": interval.low,
        "normalised_high": interval.high,
    }


def _mean(means: NDArray[np.float64]) -> float:
    return float(means[0])
