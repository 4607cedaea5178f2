"""Losses, keys found and gates of the Infini study as its claims read them, and when they say nothing (infini.md 8)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glassworks.core.errors import UnknownName
from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence, Finding, Outcome
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import Interval, interval_over_seeds
from glassworks.experiments.deciding import judged_by_lead

BITS = "bits per byte"
# A training that ends within this share of the loss it began with has learned nothing that a claim could be about.
LEARNED = 0.9
# Half of what knowing nothing costs; the frequencies of letters alone bring English to a little more than 4 bits.
READS = 4.0
# Levels are judged as written, whatever the last bit of a mean of digits or gates is.
SLACK = 1e-9
# Two seeds that give one and the same curve here are one training that was counted twice.
_UNEQUAL = ("training_", "gates_path", "language_by_position", "kernel_ratio")


def spans(losses: Measurement) -> tuple[int, int]:
    """Bytes of a segment, and of a training sequence: bins are one segment wide up to there, wider beyond."""
    ends = [int(end) for end in losses.coords["position"]]
    segment, length = ends[0], ends[0]
    for end in ends[1:]:
        if end - length != segment:
            break
        length = end
    return segment, length


def between(losses: Measurement, model: str, after: int | float, until: int | float) -> NDArray[np.float64]:
    """Mean bits per byte from one place to another, per seed; NaN where no bin lies there. An unknown model raises."""
    part, ends = losses.at(model=model), losses.along("position")
    inside = (ends > after) & (ends <= until)
    return part.values[:, inside].mean(axis=1) if inside.any() else np.full(len(losses.seeds), np.nan)


def beyond_first(losses: Measurement, model: str) -> NDArray[np.float64]:
    """Mean bits per byte beyond the first segment, up to the training length, per seed."""
    return between(losses, model, *spans(losses))


def has_fallen(training: Measurement, model: str) -> bool:
    """Whether the logged loss of a model ends clearly below where it began, in every seed: model, seed, step."""
    for curve in training.at(model=model).values:
        known = curve[~np.isnan(curve)]
        if known.size < 2 or not known[-1] < LEARNED * known[0]:
            return False
    return True


def has_read(evidence: Evidence, *models: str) -> bool:
    """Whether every seed of these models has learned to predict text at all."""
    training, losses = evidence["training_language"].at(metric="loss"), evidence["language_by_position"]
    return all(has_fallen(training, m) and bool((beyond_first(losses, m) < READS).all()) for m in models)


def lead(values: ArrayLike) -> tuple[Outcome, Interval]:
    """What paired differences amount to: see `judged_by_lead`; UNDECIDED where one of them is missing."""
    found = np.asarray(values, dtype=np.float64)
    interval = interval_over_seeds(found)
    return Outcome.UNDECIDED if np.isnan(found).any() else judged_by_lead(interval), interval


def copied(evidence: Evidence, names: Iterable[str]) -> str:
    """The first of these measurements whose seeds repeat nothing: a label twice, or one curve under two; else ""."""
    for name in names:
        found = evidence[name]
        if len(set(found.seeds)) < len(found.seeds):
            return name
        if found.seeds and name.startswith(_UNEQUAL) and _has_equal_seeds(found):
            return name
    return ""


def _has_equal_seeds(found: Measurement) -> bool:
    """Whether two seeds of one model, setting or width are the same to the last bit; what was not measured is not."""
    for part in found.values:
        rows = np.moveaxis(part, found.dims.index("seed") - 1, 0).reshape(len(found.seeds), -1)
        known = [row.tobytes() for row in rows if not np.isnan(row).all()]
        if len(set(known)) < len(known):
            return True
    return False


def nothing(unit: str, because: Text) -> Finding:
    """A finding without a number, and why."""
    return Finding(Outcome.UNDECIDED, interval_over_seeds(np.array([np.nan])), unit, because)


def not_learned(unit: str = BITS) -> Finding:
    """The finding about models that have learned nothing."""
    return nothing(unit, say("what is compared was not learned in this run"))


def present(found: Measurement, dim: str, wanted: Sequence[str]) -> list[str]:
    """Those labels of a dimension that were measured; without the first of them there is nothing: raises UnknownName."""
    known = [w for w in wanted if w in found.coords[dim] and not np.isnan(found.at(**{dim: w}).values).all()]
    if wanted[0] not in known:
        raise UnknownName(f"{dim} of {found.name}", wanted[0], known)
    return known


def three(value: float) -> str:
    """A number as the sentences of verdicts show it."""
    return f"{value:.3g}"


def bits(value: float) -> str:
    """Bits per byte, or a difference of them."""
    return f"{value:.3f}"


def percent(value: float) -> str:
    """A share in per cent, cut rather than rounded up, so that 97.96 is not shown as 98."""
    return f"{np.floor(value * 1000 + SLACK) / 10:.1f}\u00a0%" if np.isfinite(value) else "-"
