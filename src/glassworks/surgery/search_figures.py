"""The figure of a search, from its measurement; no torch."""

from __future__ import annotations

import numpy as np

from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.figures import Axes, Figure, Heading, Reference, Series, curves
from glassworks.surgery.specs import FOUND, INFLUENCE, SKIP, WHOLE


def search_figure(measurement: Measurement, metric: str = "cost") -> Figure:
    """What each number of layer runs costs on held-out text: the plans found, and those that need no search.

    "cost" is nats per token above the whole model, "kl" the divergence from it, "nll" nats per token.
    """
    found = measurement.at(metric=metric)
    runs = found.along("layer_runs")
    names = [str(name) for name in found.coords["plans"] if name != WHOLE]
    series = [_series(found.at(plans=name).values, runs, name) for name in names]
    whole = found.at(plans=WHOLE, quantity="value").values
    reference = Reference(say("whole model"), float(whole[~np.isnan(whole)][0]))
    heading = Heading(
        f"search_{metric}",
        say("The best plan for each number of layer runs"),
        say(
            "On text that no plan was chosen by, with 95 % intervals over windows. Skip-middle leaves out the centre; block influence leaves out first the layers that turn the stream least (ShortGPT)."
        ),
    )
    return curves(heading, series, Axes(say("layer runs"), _words(metric), references=(reference,)))


def _words(metric: str) -> Text:
    match metric:
        case "cost":
            return say("nats per token above the whole model")
        case "kl":
            return say("divergence from the whole model, nats per token")
        case _:
            return say("nats per token")


def _series(values: np.ndarray, runs: np.ndarray, name: str) -> Series:
    """One kind of plan, where it has plans."""
    known = ~np.isnan(values[:, 0])
    value, low, high = values[known, :3].T
    return Series(_label(name), runs[known], value, low, high)


def _label(name: str) -> Text:
    labels = {FOUND: say("found by search"), SKIP: say("skip middle"), INFLUENCE: say("block influence")}
    return labels[name]
