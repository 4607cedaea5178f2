"""What the figures of the Infini study share: axes, styles, curves without gaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.measurements import Measurement
from glassworks.figures import Figure, Series, series_of

Painter = Callable[[Evidence], list[Figure]]
Painters = Sequence[tuple[tuple[str, ...], Painter]]

BITS_PER_BYTE = say("bits per byte")
STEP = say("training step")
LENGTH = say("bytes of the text")
ACCURACY = say("share of digits right")
# Colour and line of a model stay the same in every figure; what is never drawn together may share one.
STYLES = {
    "infini": 0, "linear": 0, "infini delta": 1, "delta": 1, "transformer-xl": 2, "memorizing": 3, "rmt": 4, "full": 7,
    "local": 6, "infini, longer": 5, "mesa": 5, "gated linear": 3, "window": 4,
}  # fmt: skip


def finite(series: Series) -> Series:
    """A curve without the points that were not measured, or that no axis could show."""
    known = np.isfinite(np.asarray(series.mean, dtype=np.float64))
    low, high = (None if band is None else band[known] for band in (series.low, series.high))
    return replace(series, x=series.x[known], mean=series.mean[known], low=low, high=high)


def share_series(part: Measurement, label: Text, dim: str, style: int | None = None) -> Series:
    """A curve of shares: its band ends where shares do, at 0 and 1."""
    series = finite(series_of(part, label, dim, style))
    low, high = (None if band is None else np.clip(band, 0.0, 1.0) for band in (series.low, series.high))
    return replace(series, low=low, high=high)


def part_of(found: Measurement, values: NDArray[np.float64], *dims: str) -> Measurement:
    """New values along some dimensions of a measurement."""
    coords = {dim: found.coords[dim] for dim in dims}
    return Measurement(found.name, found.says, values, dims, coords, found.unit)


def averaged(found: Measurement, dim: str, labels: Sequence[str]) -> Measurement:
    """The mean over some labels of a dimension, which is then gone."""
    values = np.mean([found.at(**{dim: label}).values for label in labels], axis=0)
    return part_of(found, values, *(d for d in found.dims if d != dim))


def known_labels(found: Measurement, dim: str, wanted: Sequence[str] | None = None) -> list[str]:
    """The labels of a dimension with a number in them, all or those wanted, in the order given."""
    labels = [str(label) for label in found.coords[dim]] if wanted is None else list(wanted)
    return [
        label for label in labels if label in found.coords[dim] and np.isfinite(found.at(**{dim: label}).values).any()
    ]
