"""Histories of several trainings as one measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from glassworks.core.text import Text
from glassworks.evidence.measurements import Label, Measurement

if TYPE_CHECKING:
    from glassworks.training.store import History


def stack_histories(
    name: str,
    says: Text,
    histories: Mapping[tuple[Label, ...], History],
    dims: Sequence[str],
    metrics: Sequence[str],
) -> Measurement:
    """Curves with dimensions `dims` (one per entry of the keys), then step and metric; fractions or nats.

    All histories must have been logged at the same steps; a metric that one lacks is NaN there.
    """
    steps = next(iter(histories.values())).steps
    assert all(history.steps == steps for history in histories.values()), "histories of one study share their steps"
    coords: dict[str, tuple[Label, ...]] = {
        dim: tuple(dict.fromkeys(key[i] for key in histories)) for i, dim in enumerate(dims)
    }
    values = np.full((*(len(c) for c in coords.values()), len(steps), len(metrics)), np.nan)
    for key, history in histories.items():
        place = tuple(coords[dim].index(label) for dim, label in zip(dims, key, strict=True))
        for i, metric in enumerate(metrics):
            if metric in history.metrics:
                values[(*place, slice(None), i)] = history.curve(metric)
    return Measurement(
        name=name,
        says=says,
        values=values,
        dims=(*dims, "step", "metric"),
        coords=coords | {"step": tuple(steps), "metric": tuple(metrics)},
        unit="fraction; losses in nats per token",
    )


def on_common_steps(histories: Mapping[tuple[Label, ...], History]) -> dict[tuple[Label, ...], History]:
    """The same histories with a row for every step that any of them has; NaN where one was not logged."""
    steps = sorted({step for history in histories.values() for step in history.steps})
    return {key: _filled(history, steps) for key, history in histories.items()}


def _filled(history: History, steps: list[int]) -> History:
    places = {step: i for i, step in enumerate(history.steps)}
    metrics = {
        metric: [column[places[step]] if step in places else float("nan") for step in steps]
        for metric, column in history.metrics.items()
    }
    return type(history)(list(steps), metrics)
