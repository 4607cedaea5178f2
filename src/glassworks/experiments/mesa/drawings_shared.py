"""What the figures of the mesa study share: axes, curves over positions, probes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.measurements import Label, Measurement
from glassworks.experiments.mesa.names import called
from glassworks.figures import (
    Axes,
    Figure,
    Heading,
    Series,
    curves,
    series_of,
)

LOSS = say("half squared error")
POSITION = say("position t")
# A loss below this is drawn there: no world has so little noise.
SMALLEST = 1e-9
Painter = Callable[[Evidence], list[Figure]]


def layer_name(layer: Label) -> Text:
    """A layer in a legend; 0 is what the first one reads."""
    return say("input") if int(layer) == 0 else say("after layer {layer}", layer=int(layer))


def layers(part: Measurement) -> tuple[Series, ...]:
    """One curve over positions for the input and each layer."""
    return tuple(
        series_of(part.at(layer=layer), layer_name(layer), "position", style=i)
        for i, layer in enumerate(part.coords["layer"])
    )


def without_gaps(series: Series) -> Series:
    """A curve without the points that were not measured, for those of one figure need not share their steps."""
    known = ~np.isnan(np.asarray(series.mean, dtype=np.float64))
    low, high = (None if band is None else band[known] for band in (series.low, series.high))
    return replace(series, x=series.x[known], mean=series.mean[known], low=low, high=high)


def on_logarithms(part: Measurement, label: Text, dim: str, style: int) -> Series:
    """A curve for a logarithmic axis: mean and interval of the logarithms over seeds, so that bands stay above zero."""
    logarithms = replace(part, values=np.log(np.maximum(part.values, SMALLEST)))
    series = series_of(logarithms, label, dim, style=style)
    low, high = (None if band is None else np.exp(band) for band in (series.low, series.high))
    return replace(series, mean=np.exp(series.mean), low=low, high=high)


def by_position(heading: Heading, losses: Measurement, models: Sequence[str], *, logarithmic: bool = False) -> Figure:
    """Held-out loss at each position, one curve for each of these models that was measured."""
    known = [model for model in models if model in losses.coords["model"]]
    curve = on_logarithms if logarithmic else series_of
    series = [curve(losses.at(model=model), called(model), "position", i) for i, model in enumerate(known)]
    return curves(heading, series, Axes(POSITION, LOSS, y_scale="log" if logarithmic else "linear"))


def probe_figure(name: str, title: Text, probe: Measurement) -> Figure:
    """The error of reading the next state after each layer, at each position."""
    caption = say(
        "Error of a linear probe for the next state on held-out sequences; means and intervals of the logarithms (paper: figures 4E, 6A)."
    )
    part = probe.at(target="next")
    series = [
        on_logarithms(part.at(layer=layer), layer_name(layer), "position", i)
        for i, layer in enumerate(part.coords["layer"])
    ]
    return curves(Heading(name, title, caption), series, Axes(POSITION, LOSS, y_scale="log"))
