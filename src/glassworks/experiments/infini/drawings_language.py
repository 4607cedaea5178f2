"""Figures of the Infini study about language: training, loss by position, leads, and the gates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import interval_over_seeds
from glassworks.experiments.infini.curves_of import beyond_first, spans
from glassworks.experiments.infini.drawings_shared import (
    BITS_PER_BYTE,
    STEP,
    STYLES,
    Painters,
    finite,
    known_labels,
)
from glassworks.experiments.infini.judging_language import MIXED, last_gates
from glassworks.experiments.infini.names import model_name, setting_name
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

# The paper's models with the two controls it lacks, and other layers that remember; both beside ours.
PUBLISHED = ("infini", "infini delta", "infini, longer", "transformer-xl", "memorizing", "rmt", "local", "full")
OTHERS = ("infini", "mesa", "gated linear", "window", "local", "full")
MEMORY = say("weight of the memory")
# A gate below or above these has chosen its side.
CHOSEN = (0.1, 0.9)


def _training(evidence: Evidence) -> list[Figure]:
    found = evidence["training_language"].at(metric="loss")
    texts = (
        ("language-training", say("Models of the book while they learn"), say("Loss of each fresh batch.")),
        (
            "language-training-others",
            say("Other layers that remember, while they learn"),
            say("Loss of each fresh batch; the same bytes in the same order."),
        ),
    )
    return [
        curves(
            Heading(name, title, caption),
            _series(found, models, "step"),
            Axes(STEP, say("loss in nats per byte")),
        )
        for (name, title, caption), models in zip(texts, (PUBLISHED, OTHERS), strict=True)
    ]


def _series(found: Measurement, models: Sequence[str], dim: str) -> list[Series]:
    return [
        finite(series_of(found.at(model=model), model_name(model), dim, STYLES.get(model)))
        for model in known_labels(found, "model", models)
    ]


def _by_position(evidence: Evidence) -> list[Figure]:
    found = evidence["language_by_position"]
    texts = (
        (
            "language-position",
            say("Beyond the first segment a memory can help; beyond the training length it must not harm"),
            say(
                "Held-out bits per byte by the place of the byte in the text, with local and full attention, which the paper lacks. "
                "What rises out of the frame is in the data."
            ),
        ),
        (
            "language-position-others",
            say("The same for other layers that remember"),
            say(
                "Held-out bits per byte by the place of the byte in the text. What rises out of the frame is in the data."
            ),
        ),
    )
    figures: list[Figure] = []
    for (name, title, caption), models in zip(texts, (PUBLISHED, OTHERS), strict=True):
        series = _series(found, models, "position")
        figures.append(curves(Heading(name, title, caption), series, _places(found, series), height=420))
    return figures


def _places(found: Measurement, series: Sequence[Series]) -> Axes:
    """Axes of bits per byte by place; a model that fails beyond its training length does not flatten the others."""
    length = spans(found)[1]
    trained = [float(y) for s in series for x, y in zip(s.x, s.mean, strict=True) if x <= length]
    everything = [float(y) for s in series for y in s.mean]
    frame: tuple[float, float] | None = None
    if trained:
        low, top = min(everything), max(trained)
        highest = top + 0.3 * (top - min(trained))
        if max(everything) > highest:
            frame = (low - 0.05 * (highest - low), highest)
    marks = (Reference(say("training length"), float(length), "vertical"),)
    return Axes(say("place in the text (bytes)"), BITS_PER_BYTE, y_range=frame, x_scale="log", references=marks)


def _leads(evidence: Evidence) -> list[Figure]:
    found = evidence["language_by_position"]
    if "infini" not in known_labels(found, "model"):
        return []
    ours = beyond_first(found, "infini")
    wanted = dict.fromkeys((*PUBLISHED[3:], *OTHERS[1:4], "infini delta", "infini, longer"))
    rows = [
        Dot(model_name(model), interval_over_seeds(beyond_first(found, model) - ours))
        for model in known_labels(found, "model", list(wanted))
    ]
    heading = Heading(
        "language-leads",
        say("What each model needs more than Infini-attention"),
        say(
            "Bits per byte beyond the first segment, up to the training length, less those of Infini-attention with the linear "
            "rule, seed by seed: right of 0 Infini-attention is better (paper: table 2)."
        ),
    )
    axes = Axes(say("bits per byte more than Infini, linear"), say("model"), references=(Reference(say("equal"), 0.0),))
    return [dots(heading, rows, axes)] if rows else []


def _gate_maps(evidence: Evidence) -> list[Figure]:
    path = evidence["gates_path"]
    layers = tuple(str(layer) for layer in path.coords["layer"])
    heads = tuple(str(head) for head in path.coords["head"])
    plots: list[tuple[Text, Matrix]] = []
    for setting in known_labels(path, "setting"):
        gates = last_gates(path, setting)
        for place, seed in enumerate(path.seeds):
            title = say("{setting}, seed {seed}", setting=setting_name(setting), seed=seed)
            plots.append((title, Matrix(gates[..., place], layers, heads, say("layer"), say("attention head"))))
    if not plots:
        return []
    heading = Heading(
        "gate-maps",
        say("Gates after training: 0 listens to the segment alone, 1 to the memory alone"),
        say(
            "The gate of every head (paper: figure 3). Layer 1 is at the bottom; heads of different seeds are unrelated."
        ),
    )
    scale = ColourScale(MEMORY, low=0.0, high=1.0)
    return [heatmaps(heading, plots, scale, columns=max(1, len(path.seeds)), layers=False)]


def _gate_paths(evidence: Evidence) -> list[Figure]:
    path = evidence["gates_path"]
    seed = path.seeds[0]
    plots = [
        Panel(
            setting_name(setting),
            tuple(
                finite(
                    series_of(
                        path.at(setting=setting, layer=layer, head=head, seed=seed),
                        say("layer {layer}", layer=layer),
                        style=place,
                    )
                )
                for place, layer in enumerate(path.coords["layer"])
                for head in path.coords["head"]
            ),
        )
        for setting in known_labels(path, "setting")
    ]
    heading = Heading(
        "gate-paths",
        say("How far gates travel with each rate and decay"),
        say("The gate of every head while it is trained; the first seed."),
    )
    marks = (Reference(say("where gates begin"), 0.5),)
    axes = Axes(STEP, MEMORY, y_range=(0.0, 1.0), references=marks)
    return [panels(heading, plots, axes, columns=len(plots), height=280)] if plots else []


def _gate_histogram(evidence: Evidence) -> list[Figure]:
    path = evidence["gates_path"]
    low, high = CHOSEN
    series: list[BarSeries] = []
    for setting in known_labels(path, "setting"):
        gates = last_gates(path, setting)
        rows = gates.reshape(-1, gates.shape[-1])
        inside = ((rows < low), (rows >= MIXED[0]) & (rows <= MIXED[1]), (rows > high))
        shares = [*(part.mean(axis=0) for part in inside), 1.0 - sum(part.mean(axis=0) for part in inside)]
        known = ~np.isnan(rows).any(axis=0)
        values = tuple(interval_over_seeds(np.where(known, share, np.nan)) for share in shares)
        series.append(BarSeries(setting_name(setting), values))
    groups = (say("below 0.1"), say("0.4 to 0.6"), say("above 0.9"), say("elsewhere"))
    heading = Heading(
        "gate-histogram",
        say("Specialised heads and mixers"),
        say("Share of gates near 0, near one half and near 1 after training (paper: figure 3, in words)."),
    )
    axes = Axes(MEMORY, say("share of gates"), y_range=(0.0, 1.05))
    return [bars(heading, groups, series, axes)] if series else []


PAINTERS: Painters = (
    (("training_language",), _training),
    (("language_by_position",), _by_position),
    (("language_by_position",), _leads),
    (("gates_path",), _gate_maps),
    (("gates_path",), _gate_paths),
    (("gates_path",), _gate_histogram),
)
