"""The figures of the mesa study, drawn from its measurements; each measurement that is missing leaves its figure out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import interval_over_seeds
from glassworks.experiments.mesa import drawings_prompts, drawings_raw
from glassworks.experiments.mesa.curves_of import ratio
from glassworks.experiments.mesa.drawings_shared import (
    LOSS,
    POSITION,
    by_position,
    layers,
    probe_figure,
    without_gaps,
)
from glassworks.experiments.mesa.judging_linear import ALL, LATE, PAIRS, solver
from glassworks.experiments.mesa.names import called
from glassworks.figures import (
    Axes,
    ColourScale,
    Dot,
    Figure,
    Heading,
    Matrix,
    Panel,
    Reference,
    curves,
    dots,
    heatmaps,
    panels,
    series_of,
)

STEP = say("training step")


def draw(evidence: Evidence) -> list[Figure]:
    """Every figure whose measurements are at hand, in the order of the report."""
    painters: Sequence[tuple[tuple[str, ...], Callable[[Evidence], list[Figure]]]] = (
        (("training_one_layer", "one_layer_loss"), _one_layer_training),
        (("one_layer_loss",), _one_layer_loss),
        (("one_layer_coefficients",), _coefficients),
        (("one_layer_blocks",), _blocks),
        (("one_layer_interpolation",), _one_layer_interpolation),
        (("deep_loss",), _deep_loss),
        (("deep_loss", "softmax_loss"), _against_solvers),
        (("deep_interpolation",), _deep_interpolation),
        (("deep_probe", "deep_probe_r2"), _deep_probes),
        *drawings_raw.PAINTERS,
        *drawings_prompts.PAINTERS,
    )
    return [figure for needs, paint in painters if all(n in evidence for n in needs) for figure in paint(evidence)]


def _one_layer_training(evidence: Evidence) -> list[Figure]:
    found, losses = evidence["training_one_layer"].at(metric="loss"), evidence["one_layer_loss"]
    heading = Heading(
        "one-layer-training",
        say("A linear layer learns to take one gradient step; a mesa layer learns ridge regression"),
        say("Loss on fresh sequences while training, one layer on constructed tokens (paper: figures 3B, 4A)."),
    )
    levels = (("one step, best rate", "LSA-1"), ("ridge", "Mesa-1"))
    references = tuple(Reference(called(label), float(losses.at(model=label).values.mean())) for label, _ in levels)
    series = [
        without_gaps(series_of(found.at(model=model), called(model), style=i)) for i, (_, model) in enumerate(levels)
    ]
    return [curves(heading, series, Axes(STEP, LOSS, references=references))]


def _one_layer_loss(evidence: Evidence) -> list[Figure]:
    heading = Heading(
        "one-layer-loss",
        say("Position by position, the trained layer does what the gradient step does"),
        say("Held-out loss at each position. The gradient step has one rate for all, chosen by line search."),
    )
    models = ("LSA-1", "one step, best rate", "construction", "Mesa-1", "ridge")
    return [by_position(heading, evidence["one_layer_loss"], models)]


def _coefficients(evidence: Evidence) -> list[Figure]:
    found = evidence["one_layer_coefficients"]
    rows = [Dot(say("{term}", term=str(term)), found.interval(term=term)) for term in found.coords["term"]]
    heading = Heading(
        "coefficients",
        say("Of eight possible terms the trained layer uses one: the gradient"),
        say(
            "What LSA-1 adds to its prediction for each earlier pair, summed over heads: value, then the product of key and "
            "query. Theory says: that of s_i (s_i-1 . s_t) is the learning rate, all others are 0."
        ),
    )
    return [dots(heading, rows, Axes(say("coefficient"), say("term")))]


def _blocks(evidence: Evidence) -> list[Figure]:
    found = evidence["one_layer_blocks"]
    channels = ("out", "s_t*", "s_t", "s_t-1")
    plots: list[tuple[Text, Matrix]] = []
    for head in found.coords["head"]:
        for product in found.coords["product"]:
            values = found.at(model="LSA-1", product=product, head=head).values
            if not values.any():
                continue
            title = say("head {head}: {product}", head=int(head) + 1, product=str(product))
            plots.append((title, Matrix(values, channels, channels)))
    heading = Heading(
        "blocks",
        say("The products of trained weights are block scalars"),
        say(
            "Mean diagonal of each block of W_q W_kᵀ (query upwards, key across) and W_v P (value upwards, output across) of LSA-1, "
            "first seed. Channels: prediction (out), the masked copy (s_t*), s_t and s_(t-1). Heads share the work with either "
            "sign (paper: figure 3A)."
        ),
    )
    return (
        [heatmaps(heading, plots, ColourScale(say("mean of the diagonal"), "diverging"), columns=2, layers=False)]
        if plots
        else []
    )


_NETWORKS = {
    "trained": say("trained"),
    "interpolated": say("mean of both"),
    "construction": say("block scalars of the end"),
}


def _interpolated(heading: Heading, found: Measurement, models: Sequence[str]) -> Figure:
    plots = [
        Panel(
            called(model),
            tuple(
                without_gaps(series_of(found.at(model=model, network=network), name, style=i))
                for i, (network, name) in enumerate(_NETWORKS.items())
            ),
        )
        for model in models
    ]
    return panels(heading, plots, Axes(STEP, LOSS), columns=len(plots), height=280)


def _one_layer_interpolation(evidence: Evidence) -> list[Figure]:
    heading = Heading(
        "one-layer-interpolation",
        say("The trained layer, its block scalars, and the mean of both"),
        say(
            "Products of weights are averaged at every hundredth step (paper: figure 4C). The block scalars are those of the end."
        ),
    )
    found = evidence["one_layer_interpolation"]
    return [_interpolated(heading, found, [str(model) for model in found.coords["model"]])]


def _deep_interpolation(evidence: Evidence) -> list[Figure]:
    heading = Heading(
        "deep-interpolation",
        say("Six layers, their block scalars, and the mean of both"),
        say("As for one layer (paper: figures 4B, 9)."),
    )
    found = evidence["deep_interpolation"]
    return [_interpolated(heading, found, [str(model) for model in found.coords["model"]])]


def _deep_loss(evidence: Evidence) -> list[Figure]:
    heading = Heading(
        "deep-loss",
        say("More linear layers come nearer to ridge regression"),
        say(
            "Held-out loss at each position on a logarithmic axis. Published solvers know the last pair one position late "
            "(paper: figure 4D); with all pairs they are better than the trained networks."
        ),
    )
    models = (
        "LSA-2",
        "LSA-4",
        "LSA-6",
        solver(6, LATE),
        solver(6, ALL),
        "constructed network, 6 steps",
        "ridge, all pairs",
    )
    return [by_position(heading, evidence["deep_loss"], models, logarithmic=True)]


def _against_solvers(evidence: Evidence) -> list[Figure]:
    rows: list[Dot] = []
    for lag, group in ((LATE, say("solver as published, one pair late")), (ALL, say("solver with all pairs"))):
        for model, steps in PAIRS:
            losses = evidence["deep_loss" if model.startswith("LSA") else "softmax_loss"]
            found = interval_over_seeds(ratio(losses, model, solver(steps, lag)))
            rows.append(Dot(say("{model} against {steps} steps", model=model, steps=steps), found, group))
    heading = Heading(
        "against-solvers",
        say("Do k layers do as well as k preconditioning steps?"),
        say("Mean loss of the network over that of the solver: below 1 the network is better."),
    )
    return [dots(heading, rows, Axes(say("ratio of losses"), say("network")))]


def _deep_probes(evidence: Evidence) -> list[Figure]:
    plots = [
        Panel(called(target), layers(evidence["deep_probe_r2"].at(target=target)))
        for target in ("next", "polynomial", "exact")
    ]
    heading = Heading(
        "deep-probes",
        say("What can be read out of each of six linear layers"),
        say(
            "Share of variance (R²) that a linear probe explains on held-out sequences, for LSA-6, after each layer (0 is the "
            "input). The published target of preconditioning is a polynomial of six steps; the inverse is what it stands for."
        ),
    )
    return [
        panels(heading, plots, Axes(POSITION, say("R²"), y_range=(-0.1, 1.02)), height=280),
        probe_figure(
            "deep-probe-next", say("The next state becomes readable layer by layer in LSA-6"), evidence["deep_probe"]
        ),
    ]
