"""Figures of the mesa study about raw tokens, other worlds and controls."""

from __future__ import annotations

from collections.abc import Sequence

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.measurements import Label, Measurement
from glassworks.experiments.mesa.drawings_shared import (
    POSITION,
    Painter,
    by_position,
    layers,
    probe_figure,
    without_gaps,
)
from glassworks.experiments.mesa.judging_linear import ALL, LATE, solver
from glassworks.experiments.mesa.names import called
from glassworks.figures import (
    Axes,
    ColourScale,
    Figure,
    Heading,
    Matrix,
    Panel,
    Reference,
    Series,
    curves,
    heatmaps,
    panels,
    series_of,
)


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
            "Attention of the first layer, mean over sequences, first seed; queries upwards, keys across (paper: figures 2, 14)."
        ),
    )
    return [heatmaps(heading, plots, ColourScale(say("attention")), columns=4, layers=False)]


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
)
