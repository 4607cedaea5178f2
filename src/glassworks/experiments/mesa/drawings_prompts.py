"""Figures of the mesa study about prompts and text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.mesa.drawings_shared import (
    LOSS,
    Painter,
    on_logarithms,
)
from glassworks.experiments.mesa.names import called
from glassworks.figures import (
    Axes,
    BarSeries,
    Dot,
    Figure,
    Heading,
    Panel,
    Reference,
    bars,
    curves,
    dots,
    panels,
    series_of,
)


def _few_shot(evidence: Evidence) -> list[Figure]:
    heading = Heading(
        "few-shot",
        say("Prompts of a task never trained on"),
        say(
            "Loss of the label after so many complete pairs; the weights never change. Ridge on all transitions is misled by "
            "the pairs (label, next input) as the models are; ridge on the pairs is not (paper: figure 8)."
        ),
    )
    return [_prompts(heading, evidence["few_shot"])]


def _two_tasks(evidence: Evidence) -> list[Figure]:
    found = evidence["few_shot_two_tasks"]
    heading = Heading(
        "two-tasks",
        say("A second task in the same prompt"),
        say("The map changes at the vertical line; loss of the label after so many pairs in all (paper: figure 18)."),
    )
    references: tuple[Reference, ...] = ()
    if "few_shot_switch" in evidence:
        switch = found.along("pairs")[int(evidence["few_shot_switch"].values)]
        references = (Reference(say("second task"), float(switch), "vertical"),)
    return [_prompts(heading, found, references)]


def _prompts(heading: Heading, found: Measurement, references: tuple[Reference, ...] = ()) -> Figure:
    plots = [
        Panel(
            called(model),
            tuple(
                on_logarithms(found.at(model=model, prompt=prompt), called(prompt), "pairs", i)
                for i, prompt in enumerate(found.coords["prompt"])
            ),
        )
        for model in found.coords["model"]
    ]
    return panels(
        heading, plots, Axes(say("complete pairs before"), LOSS, references=references), columns=2, height=320
    )


def _language(evidence: Evidence) -> list[Figure]:
    found = evidence["language_loss"]
    means = Measurement(
        found.name,
        found.says,
        found.values.mean(axis=2),
        ("model", "seed"),
        {d: found.coords[d] for d in ("model", "seed")},
        found.unit,
    )
    rows = [Dot(called(model), means.interval(model=model)) for model in found.coords["model"]]
    heading = Heading(
        "language-loss",
        say("The same mixers on text"),
        say(
            "Held-out bits per byte of two-layer decoders whose second layer differs; equal width, tokens and order of data."
        ),
    )
    figures = [dots(heading, rows, Axes(say("bits per byte"), say("second layer")))]
    if "language_by_position" in evidence:
        places = evidence["language_by_position"]
        series = [
            series_of(places.at(model=model), called(model), "position", style=i)
            for i, model in enumerate(places.coords["model"])
        ]
        title = say("How much more context helps")
        caption = say("Bits per byte by place in the window: what falls from left to right is learned in context.")
        figures.append(
            curves(
                Heading("language-position", title, caption),
                series,
                Axes(say("byte of the window"), say("bits per byte")),
            )
        )
    return figures


def _copy_heads(evidence: Evidence) -> list[Figure]:
    found = evidence["language_copy"]
    near = np.stack([found.at(back=str(back)).values for back in range(4)]).sum(axis=0)
    mass = Measurement(
        found.name, found.says, near, found.dims[:-1], {d: found.coords[d] for d in found.dims[:-1]}, "mass"
    )
    heads = tuple(say("head {head}", head=int(h) + 1) for h in found.coords["head"])
    series = [
        BarSeries(called(model), tuple(mass.interval(model=model, head=h) for h in found.coords["head"]))
        for model in found.coords["model"]
    ]
    heading = Heading(
        "copy-heads",
        say("Heads of the first layer that look at the last few bytes"),
        say("Share of attention on the present and the three bytes before it (paper: figure 28)."),
    )
    return [bars(heading, heads, series, Axes(say("head"), say("share of attention"), y_range=(0.0, 1.0)))]


PAINTERS: Sequence[tuple[tuple[str, ...], Painter]] = (
    (("few_shot",), _few_shot),
    (("few_shot_two_tasks",), _two_tasks),
    (("language_loss",), _language),
    (("language_copy",), _copy_heads),
)
