"""Figures of the mesa study about raw tokens, other worlds, prompts and text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.measurements import Label, Measurement
from glassworks.experiments.mesa.judging_linear import ALL, LATE, solver
from glassworks.experiments.mesa.names import called
from glassworks.figures import (
    Axes,
    BarSeries,
    ColourScale,
    Dot,
    Figure,
    Heading,
    Matrix,
    Panel,
    Reference,
    Series,
    bars,
    curves,
    dots,
    heatmaps,
    panels,
    series_of,
)

LOSS = say("half squared error")
POSITION = say("position t")
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


def by_position(heading: Heading, losses: Measurement, models: Sequence[str], *, logarithmic: bool = False) -> Figure:
    """Held-out loss at each position, one curve for each of these models that was measured."""
    known = [model for model in models if model in losses.coords["model"]]
    series = [series_of(losses.at(model=model), called(model), "position", style=i) for i, model in enumerate(known)]
    return curves(heading, series, Axes(POSITION, LOSS, y_scale="log" if logarithmic else "linear"))


def probe_figure(name: str, title: Text, probe: Measurement) -> Figure:
    """The error of reading the next state after each layer, at each position."""
    caption = say(
        "Error of a linear probe for the next state on held-out sequences, logarithmic axis (paper: figures 4E, 6A)."
    )
    return curves(Heading(name, title, caption), layers(probe.at(target="next")), Axes(POSITION, LOSS, y_scale="log"))


def _softmax_loss(evidence: Evidence) -> list[Figure]:
    heading = Heading(
        "softmax-loss",
        say("Softmax layers on raw tokens, and a hybrid with one mesa layer"),
        say("Held-out loss at each position, logarithmic axis (paper: figure 7)."),
    )
    models = (
        "Softmax-3",
        "Softmax-7",
        "Hybrid-mesa",
        solver(2, LATE),
        solver(6, LATE),
        solver(6, ALL),
        "ridge, all pairs",
    )
    return [by_position(heading, evidence["softmax_loss"], models, logarithmic=True)]


def _softmax_probe(evidence: Evidence) -> list[Figure]:
    title = say("The next state becomes readable layer by layer in Softmax-7")
    plots = [
        Panel(
            called(target),
            layers(evidence["softmax_probe_r2"].at(target=target)),
        )
        for target in ("next", "polynomial", "exact")
    ]
    heading = Heading(
        "softmax-probes",
        say("What can be read out of each of seven softmax layers"),
        say("Share of variance (R²) that a linear probe explains on held-out sequences (paper: figure 6)."),
    )
    return [
        panels(heading, plots, Axes(POSITION, say("R²"), y_range=(-0.1, 1.02)), height=280),
        probe_figure("softmax-probe-next", title, evidence["softmax_probe"]),
    ]


def _decode(evidence: Evidence) -> list[Figure]:
    plots = [
        Panel(
            say("seen whole") if name == "binding_decode" else say("seen in part"),
            tuple(
                _relative(evidence[name], model, float(evidence[variance].values), i)
                for i, model in enumerate(evidence[name].coords["model"])
            ),
        )
        for name, variance in (("binding_decode", "binding_variance"), ("partial_decode", "partial_variance"))
        if name in evidence and variance in evidence
    ]
    heading = Heading(
        "binding-decode",
        say("How many earlier tokens the first layer has bound"),
        say(
            "Error of a linear probe that reads an earlier token from the first layer's output at the last position, over the "
            "token's variance: 1 means that nothing of it is there (paper: figures 2, 16, 17)."
        ),
    )
    return [
        panels(
            heading,
            plots,
            Axes(say("tokens back"), say("share of variance left"), y_range=(0.0, 1.1)),
            columns=2,
            height=260,
        )
    ]


def _relative(found: Measurement, model: Label, variance: float, style: int) -> Series:
    part = found.at(model=model)
    shares = Measurement(part.name, part.says, part.values / variance, part.dims, part.coords, "share")
    return series_of(shares, called(model), "back", style=style)


def _maps(evidence: Evidence) -> list[Figure]:
    found = evidence["binding_maps"]
    names = tuple(say("{position}", position=str(p)) for p in found.coords["query"])
    plots = [
        (
            say("{model}, head {head}", model=str(model), head=int(head) + 1),
            Matrix(found.at(model=model, head=head).values, names, names),
        )
        for model in found.coords["model"]
        for head in found.coords["head"]
    ]
    heading = Heading(
        "binding-maps",
        say("The first layer looks at the present and the previous token"),
        say(
            "Attention of the first layer, mean over sequences, first seed; queries down, keys across (paper: figures 2, 14)."
        ),
    )
    return [heatmaps(heading, plots, ColourScale(say("attention")), columns=4)]


def _sensitivity(evidence: Evidence) -> list[Figure]:
    found = evidence["binding_sensitivity"]
    shown = ("0", "1", "2", "older")
    plots = [
        Panel(
            called(model),
            tuple(
                without_gaps(series_of(found.at(model=model, back=back), _back_name(back), style=i))
                for i, back in enumerate(shown)
            ),
        )
        for model in found.coords["model"]
    ]
    heading = Heading(
        "binding-sensitivity",
        say("Binding appears during training"),
        say("Norm of the derivative of the first layer's last output by earlier tokens (paper: figure 22)."),
    )
    return [panels(heading, plots, Axes(say("training step"), say("norm of the derivative")), height=260)]


def _back_name(back: str) -> Text:
    match back:
        case "0":
            return say("the present token")
        case "older":
            return say("older than five")
        case _:
            return say("{count} back", count=back)


def _linearise(evidence: Evidence) -> list[Figure]:
    found = evidence["linearise"]
    series = [
        series_of(found.at(dimension=d), say("{dimension} dimensions", dimension=int(d)), "layer", style=i)
        for i, d in enumerate(found.coords["dimension"])
    ]
    heading = Heading(
        "linearise",
        say("What replacing one softmax layer by a fitted linear one costs"),
        say("Loss with the replaced layer over the loss of the unmodified model (paper: figure 5A)."),
    )
    axes = Axes(say("layer"), say("ratio of losses"), references=(Reference(say("no cost"), 1.0),))
    return [curves(heading, series, axes)]


def _kernels(evidence: Evidence) -> list[Figure]:
    found = evidence["kernels"]
    series = [
        series_of(found.at(solver=name), called(name), "dimension", style=i)
        for i, name in enumerate(found.coords["solver"])
    ]
    heading = Heading(
        "kernels",
        say("Ridge regression and a softmax kernel in growing dimension"),
        say(
            "Half squared error per dimension, best constant of each, sequences of four times the dimension (paper: figure 5B)."
        ),
    )
    return [curves(heading, series, Axes(say("dimension"), say("half squared error per dimension")))]


def _world(name: str, title: Text, note: Text) -> Painter:
    def paint(evidence: Evidence) -> list[Figure]:
        losses = evidence[f"{name}_loss"]
        heading = Heading(f"{name.replace('_', '-')}-loss", title, note)
        models = [str(m) for m in losses.coords["model"] if not str(m).startswith("zero")]
        return [by_position(heading, losses, models[:8], logarithmic=True)]

    return paint


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
                series_of(found.at(model=model, prompt=prompt), called(prompt), "pairs", style=i)
                for i, prompt in enumerate(found.coords["prompt"])
            ),
        )
        for model in found.coords["model"]
    ]
    return panels(
        heading, plots, Axes(say("complete pairs before"), LOSS, references=references), columns=2, height=320
    )


def _fixed_probe(evidence: Evidence) -> list[Figure]:
    series = layers(evidence["fixed_teacher_probe_r2"].at(target="polynomial"))
    heading = Heading(
        "fixed-teacher-probe",
        say("With one law for all, no layer prepares the input"),
        say(
            "Share of variance of the preconditioned input (polynomial) that a linear probe explains in LSA-4 (paper: figure 12)."
        ),
    )
    return [curves(heading, series, Axes(POSITION, say("R²")))]


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
    (("softmax_loss",), _softmax_loss),
    (("softmax_probe", "softmax_probe_r2"), _softmax_probe),
    (("binding_decode", "binding_variance"), _decode),
    (("binding_maps",), _maps),
    (("binding_sensitivity",), _sensitivity),
    (("linearise",), _linearise),
    (("kernels",), _kernels),
    (
        ("partial_loss",),
        _world(
            "partial",
            say("States seen only in part"),
            say("Held-out loss at each position, logarithmic axis (paper: figure 7)."),
        ),
    ),
    (
        ("nonlinear_loss",),
        _world(
            "nonlinear",
            say("A nonlinear world"),
            say("Held-out loss at each position, logarithmic axis (paper: figure 7)."),
        ),
    ),
    (("few_shot",), _few_shot),
    (("few_shot_two_tasks",), _two_tasks),
    (
        ("contracting_loss",),
        _world(
            "contracting",
            say("A contracting world"),
            say("Held-out loss at each position, logarithmic axis (paper: figure 11)."),
        ),
    ),
    (
        ("fixed_teacher_loss",),
        _world(
            "fixed_teacher",
            say("One law for all sequences"),
            say(
                "Held-out loss at each position, logarithmic axis: networks know the law and need no gradient (paper: figure 12)."
            ),
        ),
    ),
    (("fixed_teacher_probe_r2",), _fixed_probe),
    (("language_loss",), _language),
    (("language_copy",), _copy_heads),
)
