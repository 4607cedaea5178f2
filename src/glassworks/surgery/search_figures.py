"""The figure of a search, from its measurement; no torch."""

from __future__ import annotations

import numpy as np

from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.figures import Axes, Figure, Heading, Reference, Series, curves
from glassworks.surgery.specs import FOUND, INFLUENCE, SKIP, WHOLE


def search_figure(measurement: Measurement, metric: str = "nll") -> Figure:
    """Nats per token on held-out text against layer runs: the plans found, and those that cost no search."""
    found = measurement.at(metric=metric)
    runs = found.along("layer_runs")
    names = [str(name) for name in found.coords["plans"] if name != WHOLE]
    series = [_series(found.at(plans=name).values, runs, name) for name in names]
    whole = found.at(plans=WHOLE, quantity="value").values
    words = say("nats per token") if metric == "nll" else say("divergence from the whole model, nats per token")
    reference = Reference(say("whole model"), float(whole[~np.isnan(whole)][0]))
    heading = Heading(
        f"search_{metric}",
        say("The best plan for each number of layer runs"),
        say(
            "Scores on text that no plan was chosen by, with 95 % intervals over windows. Skip-middle leaves out the centre; block influence leaves out first the layers that turn the stream least (ShortGPT)."
        ),
    )
    return curves(heading, series, Axes(say("layer runs"), words, references=(reference,)))


def _series(values: np.ndarray, runs: np.ndarray, name: str) -> Series:
    """One kind of plan, where it has plans."""
    known = ~np.isnan(values[:, 0])
    value, low, high = values[known, :3].T
    return Series(_label(name), runs[known], value, low, high)


def _label(name: str) -> Text:
    labels = {FOUND: say("found by search"), SKIP: say("skip middle"), INFLUENCE: say("block influence")}
    return labels[name]
