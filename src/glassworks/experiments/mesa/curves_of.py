"""Losses of models and solvers as the claims read them: by seed, averaged or at a position."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence, Finding, Outcome
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import interval_over_seeds

# A model within this share of the loss of predicting zero has learned nothing that a claim could be about.
LEARNED = 0.9
HALF_SQUARED = "half squared error"


def by_seed(losses: Measurement, model: str) -> NDArray[np.float64]:
    """Mean loss of a model over positions, one number per seed; an unknown model raises UnknownName."""
    return losses.at(model=model).values.mean(axis=1)


def ratio(losses: Measurement, model: str, other: str) -> NDArray[np.float64]:
    """Loss of a model over that of another, per seed."""
    return by_seed(losses, model) / by_seed(losses, other)


def at_positions(found: Measurement, first: int, last: int) -> NDArray[np.bool_]:
    """Which positions lie from `first` to `last`, both included."""
    places = found.along("position")
    return (places >= first) & (places <= last)


def has_learned(losses: Measurement, *models: str) -> bool:
    """Whether every seed of these models is clearly better than predicting zero.

    Position 1, where nothing can be known, stands for the zero predictor in studies that do not measure it.
    """
    start = losses.values[..., 0].max()
    zero = by_seed(losses, "zero") if "zero" in losses.coords["model"] else np.full(len(losses.seeds), start)
    return all(bool((by_seed(losses, model) < LEARNED * zero).all()) for model in models)


def has_fallen(training: Measurement, model: str) -> bool:
    """Whether the logged loss of a model ends clearly below where it began, in every seed: model, seed, step."""
    values = training.at(model=model).values
    return bool((values[:, -1] < LEARNED * values[:, 0]).all())


def not_learned(evidence: Evidence, unit: str = HALF_SQUARED) -> Finding:
    """The finding about models that have learned nothing."""
    nothing = interval_over_seeds(np.array([np.nan]))
    return Finding(Outcome.UNDECIDED, nothing, unit, say("what is compared was not learned in this run"))


def three(value: float) -> str:
    """A number as the sentences of verdicts show it."""
    return f"{value:.3g}"
