"""The figures of the Infini study, drawn from its measurements; each measurement that is missing leaves its figure out."""

from __future__ import annotations

import math

import numpy as np

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.measurements import Label, Measurement
from glassworks.evidence.statistics import Interval
from glassworks.experiments.infini import drawings_language, drawings_passkey
from glassworks.experiments.infini.drawings_shared import STYLES, Painters, finite, known_labels, part_of, share_series
from glassworks.experiments.infini.judging_memory import LOSS, UNIFORM
from glassworks.experiments.infini.names import called, model_name, rule_name
from glassworks.figures import (
    Axes,
    BarSeries,
    Dot,
    Figure,
    Heading,
    Panel,
    Reference,
    Series,
    bars,
    curves,
    dots,
    panels,
    series_of,
)

SEGMENTS = say("segments")


def draw(evidence: Evidence) -> list[Figure]:
    """Every figure whose measurements are at hand, in the order of the report."""
    painters: Painters = (
        (("memory_sizes",), _sizes),
        (("memory_growth",), _growth),
        *drawings_language.PAINTERS,
        *drawings_passkey.PAINTERS,
        (("capacity",), _capacity),
        (("repeats",), _repeats),
        (("update",), _update),
        (("running_sum",), _running_sums),
        (("kernel_ratio",), _kernels),
    )
    return [figure for needs, paint in painters if all(n in evidence for n in needs) for figure in paint(evidence)]


def _number(value: float) -> Interval:
    """A number without chance in it."""
    return Interval(value if value > 0 else math.nan, math.nan, math.nan, 0)


def _sizes(evidence: Evidence) -> list[Figure]:
    found = evidence["memory_sizes"]
    models = found.coords["model"]
    series = [
        BarSeries(called(part), tuple(_number(float(found.at(model=m, part=part).values)) for m in models))
        for part in found.coords["part"]
    ]
    heading = Heading(
        "memory-sizes",
        say("What each architecture has to keep, at the paper's sizes"),
        say(
            "Numbers kept across segments, and held of the segment that is being read, on a logarithmic axis (paper: tables 1, 2, "
            "which count only what is kept)."
        ),
    )
    axes = Axes(say("architecture"), say("numbers"), y_scale="log")
    return [bars(heading, tuple(model_name(m) for m in models), series, axes, height=400)]


def _growth(evidence: Evidence) -> list[Figure]:
    found = evidence["memory_growth"]
    series = [
        finite(series_of(_positive(found.at(model=model)), model_name(model), "tokens"))
        for model in known_labels(found, "model")
    ]
    heading = Heading(
        "memory-growth",
        say("What our own models hold while they read"),
        say(
            "Numbers in the memory of each small model after so many bytes, counted, the segment in progress included. A model that "
            "keeps everything has no limit."
        ),
    )
    axes = Axes(say("bytes read"), say("numbers held"), x_scale="log", y_scale="log")
    return [curves(heading, series, axes)]


def _positive(part: Measurement) -> Measurement:
    """What a logarithmic axis can show of it."""
    values = np.where(part.values > 0, part.values, np.nan)
    return part_of(part, values, *part.dims)


def _capacity(evidence: Evidence) -> list[Figure]:
    found = evidence["capacity"]
    plots = [
        Panel(
            say("{width} numbers per key", width=width),
            tuple(
                share_series(found.at(rule=rule, width=width), rule_name(rule), "pairs", i)
                for i, rule in enumerate(known_labels(found, "rule"))
            ),
        )
        for width in found.coords["width"]
    ]
    heading = Heading(
        "capacity",
        say("How many pairs a memory keeps"),
        say(
            "Random keys and values, one pair in each segment; a pair counts where the value read is nearest to the right one."
        ),
    )
    axes = Axes(say("pairs stored"), say("share read rightly"), y_range=(0.0, 1.05), x_scale="log")
    return [panels(heading, plots, axes, columns=min(3, len(plots)), height=260)]


def _repeats(evidence: Evidence) -> list[Figure]:
    found = evidence["repeats"]
    series = [
        finite(series_of(found.at(rule=rule), rule_name(rule), "times", STYLES.get(rule)))
        for rule in known_labels(found, "rule")
    ]
    heading = Heading(
        "repeats",
        say("The same pair stored again and again"),
        say(
            "How much of the value is read afterwards. With a normaliser that keeps growing, the delta rule adds the pair to z and "
            "nothing to M, so that from the second time on it reads one half."
        ),
    )
    marks = (Reference(say("the whole value"), 1.0), Reference(say("one half"), 0.5))
    axes = Axes(say("times stored"), say("share of the value"), y_range=(0.0, 1.1), x_scale="log", references=marks)
    return [curves(heading, series, axes, height=280)]


def _update(evidence: Evidence) -> list[Figure]:
    found = evidence["update"]
    series = [
        BarSeries(
            rule_name(rule),
            tuple(
                Interval(float(found.at(rule=rule, towards=t).values), math.nan, math.nan, 0)
                for t in found.coords["towards"]
            ),
        )
        for rule in known_labels(found, "rule")
    ]
    heading = Heading(
        "update",
        say("A key whose value changes"),
        say("Cosine of what is read after the change with the new value, the mean of both, and the old one."),
    )
    groups = tuple(called(t) for t in found.coords["towards"])
    return [bars(heading, groups, series, Axes(say("direction"), say("cosine")), height=280)]


def _running_sums(evidence: Evidence) -> list[Figure]:
    found = evidence["running_sum"]
    plots = [
        Panel(say("segments of {length}", length=length), tuple(_errors(found, length)))
        for length in found.coords["length"]
    ]
    heading = Heading(
        "running-sums",
        say("Running sums in half precision, and in ours"),
        say(
            "Relative error of a sum of keys over so many segments. The curve of float16 ends where the sum overflows; bfloat16 "
            "rounds small addends away, whatever the length of a segment."
        ),
    )
    axes = Axes(
        SEGMENTS, say("relative error"), x_scale="log", y_scale="log", references=(Reference(say("one tenth"), LOSS),)
    )
    return [panels(heading, plots, axes, columns=min(3, len(plots)), height=280)]


def _errors(found: Measurement, length: Label) -> list[Series]:
    formats = ("bfloat16", "float16", "ours")
    return [
        finite(series_of(_positive(found.at(format=name, length=length)), called(name), "segments", i))
        for i, name in enumerate(formats)
        if name in found.coords["format"]
    ]


def _kernels(evidence: Evidence) -> list[Figure]:
    found = evidence["kernel_ratio"]
    rows = [
        Dot(say("{width} numbers per key", width=width), found.interval(width=width)) for width in found.coords["width"]
    ]
    heading = Heading(
        "kernel-ratio",
        say("How much an untrained memory prefers the match"),
        say(
            "Kernel of a random key with itself over its average with other keys. To find one needle in a million bytes a model must "
            "learn to make the keys of filler tiny."
        ),
    )
    marks = tuple(Reference(f"{level}", level) for level in UNIFORM)
    axes = Axes(say("times the average"), say("width of a head"), references=marks)
    return [dots(heading, rows, axes)]
