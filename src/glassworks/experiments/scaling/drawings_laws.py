"""Figures of powers, of published models and of compressors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.statistics import Interval, interval_over_seeds
from glassworks.experiments.scaling.judging import NEAR
from glassworks.experiments.scaling.laws import HOFFMANN, PUBLISHED
from glassworks.experiments.scaling.readings import (
    BITS,
    compute,
    draws_of,
    interval_of_draws,
    law_name,
    method_name,
    power_interval,
)
from glassworks.figures import Axes, BarSeries, Dot, Figure, Heading, Label, Reference, bars, dots

Painter = Callable[[Evidence], list[Figure]]
_OURS, _PUBLISHED = say("measured here"), say("published")
# Kaplan et al. 2020, and the first two approaches of Hoffmann et al. 2022 as printed; the third follows from its constants.
_PRINTED = (
    (say("Kaplan et al. 2020"), 0.73),
    (say("Hoffmann et al. 2022, approach 1"), 0.50),
    (say("Hoffmann et al. 2022, approach 2"), 0.49),
    (say("Hoffmann et al. 2022, approach 3"), HOFFMANN.size_power),
    (say("Besiroglu et al. 2024"), PUBLISHED["besiroglu"].size_power),
)


def _exponents(evidence: Evidence) -> list[Figure]:
    rows: list[Dot] = []
    if "scaling_optimum" in evidence:
        rows.append(Dot(say("our parabolas"), _unseeded(power_interval(evidence["scaling_optimum"])), _OURS))
    if "scaling_law" in evidence:
        found = interval_of_draws(*draws_of(evidence["scaling_law"], number="a"))
        rows.append(Dot(say("our fit of L(N, D)"), _unseeded(found), _OURS))
    rows = [row for row in rows if np.isfinite(row.value.mean)]
    if not rows:
        return []
    rows += [Dot(name, _number(value), _PUBLISHED) for name, value in _PRINTED]
    heading = Heading(
        "exponents",
        say("How fast the best size grows with compute"),
        say("The power a of N = C^a; at one half size and data grow alike. Ours with the middle 95 % of the draws."),
    )
    low, high = NEAR
    marks = (Reference(f"{low:g}", low), Reference(f"{high:g}", high))
    return [dots(heading, rows, Axes(say("power a"), "", references=marks))]


def _published(evidence: Evidence) -> list[Figure]:
    """Gopher, Chinchilla and the best split of their compute under both laws."""
    found = evidence["published_models"]
    rows: list[Dot] = []
    for law in map(str, found.coords["law"]):
        at = found.at(law=law)
        for model in ("Gopher", "Chinchilla"):
            rows.append(Dot(model, _number(float(at.at(model=model, number="loss").values)), law_name(law)))
        best = at.at(model="Chinchilla")
        size = float(best.at(number="best_parameters").values) / 1e9
        rows.append(
            Dot(
                say("best split: {size} billion parameters", size=f"{size:.0f}"),
                _number(float(best.at(number="best_loss").values)),
                law_name(law),
            )
        )
    heading = Heading(
        "gopher-chinchilla",
        say("A quarter of the parameters, more than four times the data: Chinchilla against Gopher"),
        say("Loss that each published law foretells; all three cost about as much, 5 to 6 · 10^23 operations."),
    )
    return [dots(heading, rows, Axes(say("nats per token"), ""))]


def _compressors(evidence: Evidence) -> list[Figure]:
    found = evidence["compressors"]
    methods = [m for m in map(str, found.coords["method"]) if np.isfinite(found.at(method=m).values).any()]
    names: list[Label] = [method_name(method) for method in methods]
    alone = [_number(float(found.at(method=m, reading="alone").values)) for m in methods]
    primed = [_number(float(found.at(method=m, reading="primed").values)) for m in methods]
    if "compression_models" in evidence:
        models = evidence["compression_models"]
        for budget, row in zip(models.along("budget"), models.values, strict=True):
            names.append(say("model, {compute}", compute=compute(float(budget))))
            alone.append(_number(float("nan")))
            primed.append(interval_over_seeds(row))
    series = (
        BarSeries(say("the text alone"), tuple(alone)),
        BarSeries(say("after the text of training"), tuple(primed)),
    )
    heading = Heading(
        "compressors",
        say("A language model is a compressor"),
        say(
            "Bits per byte of the held-out text. The models have read the text of training, so the fair comparison is with "
            "compressors that have read it too."
        ),
    )
    return [bars(heading, names, series, Axes("", BITS))]


def _number(value: float) -> Interval:
    return Interval(value, float("nan"), float("nan"), 0)


def _unseeded(interval: Interval) -> Interval:
    """Its ends come from draws of a bootstrap, which no caption may call seeds."""
    return replace(interval, count=0)


PAINTERS: Sequence[tuple[tuple[str, ...], Painter]] = (
    ((), _exponents),
    (("published_models",), _published),
    (("compressors",), _compressors),
)
