"""The figures of the scaling study, drawn from its measurements; each measurement that is missing leaves its figure out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import Interval, band_over_seeds
from glassworks.experiments.scaling import drawings_laws
from glassworks.experiments.scaling.fitting import fit_power
from glassworks.experiments.scaling.readings import (
    BITS,
    FIT,
    compute,
    diagonals,
    fitted_law,
    interval_of_draws,
    parabola_of,
    size_words,
)
from glassworks.figures import Axes, Figure, Heading, Panel, Series, curves, panels

Painter = Callable[[Evidence], list[Figure]]
PARAMETERS = say("parameters N (without the table of embeddings)")
READ = say("bytes read D")
COMPUTE = say("operations C = 6 N D")
# Points of a drawn law between two measured ones.
DENSE = 80


def draw(evidence: Evidence) -> list[Figure]:
    """Every figure whose measurements are at hand, in the order of the report."""
    painters: Sequence[tuple[tuple[str, ...], Painter]] = (
        (("scaling_loss", "scaling_grid", "scaling_optimum"), _isoflop),
        (("scaling_loss", "scaling_grid"), _by_size),
        (("scaling_loss", "scaling_grid"), _by_data),
        (("scaling_optimum",), _best_split),
        *drawings_laws.PAINTERS,
    )
    return [
        figure for needs, paint in painters if all(name in evidence for name in needs) for figure in paint(evidence)
    ]


def _isoflop(evidence: Evidence) -> list[Figure]:
    """Loss over size at equal compute, with a parabola through each budget."""
    losses, grid, optimum = evidence["scaling_loss"], evidence["scaling_grid"], evidence["scaling_optimum"]
    series: list[Series] = []
    for budget, flop in enumerate(losses.along("budget")):
        sizes = grid.at(number="parameters").values[budget]
        label = say("{compute} operations", compute=compute(float(flop)))
        series.append(_cloud(label, sizes, losses.values[budget], budget))
        parabola = parabola_of(optimum, budget)
        if parabola is not None:
            dense = np.geomspace(sizes.min() * 0.9, sizes.max() * 1.1, DENSE)
            series.append(Series(label, dense, parabola.at(dense), style=budget, marked=False))
    heading = Heading(
        "isoflop",
        say("Loss over size at equal compute"),
        say(
            "Held-out bits per byte of models that cost equally much: the small ones read more, the large ones less. A parabola "
            "over the logarithm of the size goes through each budget's means. Points without a band are one training."
        ),
    )
    axes = Axes(PARAMETERS, BITS, x_scale="log")
    return [panels(heading, [Panel("", tuple(series))], axes, columns=1, height=380)] if series else []


def _cloud(label: Text, x: NDArray[np.float64], values: NDArray[np.float64], style: int) -> Series:
    """Means over seeds as points with their intervals: values are place, seed."""
    mean, low, high = band_over_seeds(values, 1)
    known = np.isfinite(mean)
    seeds = int((~np.isnan(values)).sum(axis=1).max(initial=0))
    return Series(label, x[known], mean[known], low[known], high[known], seeds=seeds, style=style, joined=False)


def _by_size(evidence: Evidence) -> list[Figure]:
    """Loss over size at equal data, measured and by the fitted law."""
    losses, grid = evidence["scaling_loss"], evidence["scaling_grid"]
    read, sizes = grid.at(number="bytes").values, grid.at(number="parameters").values
    series: list[Series] = []
    for style, cells in enumerate(diagonals(losses, grid)):
        rows, columns = (np.array(places) for places in zip(*cells, strict=True))
        label = say("{size} read", size=size_words(float(read[cells[0]])))
        x = sizes[rows, columns]
        series.append(_cloud(label, x, losses.values[rows, columns], style))
        if "scaling_law" in evidence:
            law = fitted_law(evidence)
            dense = np.geomspace(x.min(), x.max(), DENSE)
            mean = np.array([law.loss(float(n), float(read[cells[0]])) for n in dense])
            series.append(Series(label, dense, mean, style=style, marked=False))
    heading = Heading(
        "loss-by-size",
        say("Loss over size at equal data"),
        say(
            "Held-out bits per byte over the size, for models that read equally many bytes; lines: the fitted law. Points without a band are one training."
        ),
    )
    axes = Axes(PARAMETERS, BITS, x_scale="log")
    return [panels(heading, [Panel("", tuple(series))], axes, columns=1, height=340)] if series else []


def _by_data(evidence: Evidence) -> list[Figure]:
    """Loss over data for each size that was trained with several budgets, measured and by the fitted law."""
    losses, grid = evidence["scaling_loss"], evidence["scaling_grid"]
    read, sizes = grid.at(number="bytes").values, grid.at(number="parameters").values
    series: list[Series] = []
    for size in np.unique(sizes[np.isfinite(sizes)]):
        rows, columns = np.nonzero((sizes == size) & ~np.isnan(losses.values).all(axis=2))
        if len(rows) < 2:
            continue
        style = len({str(one.label) for one in series})
        label = say("{count} parameters", count=f"{size:,.0f}")
        x = read[rows, columns]
        series.append(_cloud(label, x, losses.values[rows, columns], style))
        if "scaling_law" in evidence:
            law = fitted_law(evidence)
            dense = np.geomspace(x.min(), x.max(), DENSE)
            mean = np.array([law.loss(float(size), float(d)) for d in dense])
            series.append(Series(label, dense, mean, style=style, marked=False))
    heading = Heading(
        "loss-by-data",
        say("Loss over data, size by size"),
        say(
            "Held-out bits per byte over the bytes read; no model goes on from another; lines: the fitted law. Points without a band are one training."
        ),
    )
    axes = Axes(READ, BITS, x_scale="log")
    return [panels(heading, [Panel("", tuple(series))], axes, columns=1, height=360)] if series else []


def _best_split(evidence: Evidence) -> list[Figure]:
    """Best size and data over compute, with intervals of the draws and the power law through them."""
    optimum = evidence["scaling_optimum"]
    flop = optimum.along("budget")
    series: list[Series] = []
    names = (("parameters", say("best parameters")), ("bytes", say("best bytes")))
    for style, (number, label) in enumerate(names):
        found = [_best_of(optimum, budget, number) for budget in range(len(flop))]
        mean = np.array([interval.mean for interval in found])
        known = np.isfinite(mean)
        if known.sum() < 2:
            continue
        low, high = (np.array([_end(interval, end) for interval in found])[known] for end in (0, 1))
        series.append(Series(label, flop[known], mean[known], low, high, style=style, joined=False))
        power, factor = fit_power(flop[known], mean[known])
        name = say("{what}: C to the power {power}", what=label, power=f"{power:.2f}")
        line = factor * flop[known] ** power
        series.append(Series(name, flop[known], line, style=style, marked=False))
    heading = Heading(
        "best-split",
        say("How the best size and the best amount of data grow with compute"),
        say(
            "The lowest points of the parabolas with the middle 95 % of the draws, and a power of compute through them."
        ),
    )
    axes = Axes(COMPUTE, say("parameters, bytes"), x_scale="log", y_scale="log")
    return [curves(heading, [replace(one, seeds=0) for one in series], axes, height=320)] if series else []


def _best_of(optimum: Measurement, budget: int, number: str) -> Interval:
    values = optimum.at(number=number).values[:, budget]
    assert optimum.coords["draw"][0] == FIT, "the fit stands before the draws"
    return interval_of_draws(float(values[0]), values[1:])


def _end(interval: Interval, end: int) -> float:
    return interval.high if end else interval.low
