"""The numbers of the tree study as its claims read them, and when they say nothing (lifecycle.md 8)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence, Finding, Outcome
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import Interval, interval_over_seeds

BITS = "bits per byte"
# Half of what knowing nothing costs; the frequencies of letters alone bring English to a little more than 4 bits.
READS = 4.0
# Levels are judged as written, whatever the last bit of a mean is.
SLACK = 1e-9


def training_length(losses: Measurement) -> int:
    """Bytes of a training window: positions are measured up to four of them."""
    return int(losses.coords["position"][-1]) // 4


def between(losses: Measurement, block: str, after: int | float, until: int | float) -> NDArray[np.float64]:
    """Mean bits per byte from one place to another, per seed; an unknown block raises UnknownName."""
    part, ends = losses.at(block=block), losses.along("position")
    return part.values[:, (ends > after) & (ends <= until)].mean(axis=1)


def within(losses: Measurement, block: str) -> NDArray[np.float64]:
    """Mean bits per byte over the training length, per seed."""
    return between(losses, block, 0, training_length(losses))


def rise(losses: Measurement, block: str) -> NDArray[np.float64]:
    """What the last half of four training lengths costs more than the last half of one, per seed."""
    length = training_length(losses)
    return between(losses, block, 2 * length, 4 * length) - between(losses, block, length / 2, length)


def lead(evidence: Evidence, block: str, over: str) -> NDArray[np.float64]:
    """How many bits per byte a block needs less than another, per seed."""
    losses = evidence["blocks_by_position"]
    return within(losses, over) - within(losses, block)


def interval(values: NDArray[np.float64]) -> Interval:
    """The 95 % interval over seeds, of no number where one is missing: pairs without a partner prove nothing."""
    return interval_over_seeds(np.full(1, np.nan) if np.isnan(values).any() else values)


def nothing(unit: str, because: Text) -> Finding:
    """A finding without a number, and why."""
    return Finding(Outcome.UNDECIDED, interval_over_seeds(np.array([np.nan])), unit, because)


def unknown(values: Sequence[NDArray[np.float64]]) -> bool:
    """Whether a number is missing."""
    return any(np.isnan(found).any() for found in values)


def missing(unit: str) -> Finding:
    """The finding where a number is missing."""
    return nothing(unit, say("a number is missing in this run"))


def three(value: float) -> str:
    """Bits per byte, or a difference of them."""
    return f"{value:.3f}"


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"{value:+.3f}"


def percent(value: float) -> str:
    """A share in per cent."""
    return f"{100 * value:.1f}\u00a0%"
