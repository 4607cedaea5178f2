"""The figures of the life study, drawn from its measurements; each measurement that is missing leaves its figure out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import band_over_seeds, interval_over_seeds
from glassworks.experiments.life.judging import BEST, FREE
from glassworks.experiments.life.names import CODERS, SCORERS, STAGES, called
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
)

BITS = say("bits per byte")
DISTANCE = say("distance from the fine-tuned model, square root of KL")
REWARD = say("reward, standard deviations")


def draw(evidence: Evidence) -> list[Figure]:
    """Every figure whose measurements are at hand, in the order of the report."""
    painters = (
        ("training", _training),
        ("compression", _compression),
        ("stage_bits", _stage_bits),
        ("reward_accuracy", _accuracy),
        ("stage_rewards", _rewards),
        ("policy_paths", _paths),
        ("preferences", _preferences),
        ("overoptimisation", _overoptimisation),
        ("stream_likeness", _likeness),
        ("head_scores", _heads),
        ("skip_costs", _skips),
        ("stage_seconds", _seconds),
    )
    return [figure for name, paint in painters if name in evidence for figure in paint(evidence[name])]


def known_stages(found: Measurement, dim: str = "stage") -> list[str]:
    """The labels of a dimension with a number in them, in the order of a model's life."""
    labels = [str(label) for label in found.coords[dim]]
    order = [*(stage for stage in STAGES if stage in labels), *(label for label in labels if label not in STAGES)]
    return [label for label in order if np.isfinite(found.at(**{dim: label}).values).any()]


def _training(found: Measurement) -> list[Figure]:
    plots = [
        Panel(called(stage), tuple(_curve(found.at(stage=stage, metric="loss"), say("loss"), "step", 0)))
        for stage in known_stages(found)
        if np.isfinite(found.at(stage=stage, metric="loss").values).any()
    ]
    heading = Heading(
        "life-training",
        say("Every stage while it learns"),
        say(
            "Losses as each stage defines its own: nats per token in pretraining and fine-tuning, the preference loss of reward "
            "model and DPO. They share axes, not meaning."
        ),
    )
    axes = Axes(say("training step"), say("loss"), x_scale="log")
    return [panels(heading, plots, axes, columns=3, height=210)] if plots else []


def _compression(found: Measurement) -> list[Figure]:
    rows = [
        # Parts of one text are no seeds, and the caption says over what the interval is.
        Dot(called(coder), replace(interval_over_seeds(np.ravel(found.at(coder=coder).values)), count=0))
        for coder in CODERS
        if coder in found.coords["coder"]
    ]
    heading = Heading(
        "life-compression",
        say("The pretrained model as a packer"),
        say(
            "Bits per byte of text that was held out; the model's interval is over parts of the text. The last packer may read all of "
            "the training text first, as the model did. The model's own parameters are not counted."
        ),
    )
    return [dots(heading, rows, Axes(BITS, ""))]


def _stage_bits(found: Measurement) -> list[Figure]:
    stages = known_stages(found)
    series = [
        BarSeries(called(text), tuple(found.interval(stage=stage, text=text) for stage in stages))
        for text in found.coords["text"]
    ]
    heading = Heading(
        "life-bits",
        say("What each stage knows of text and of answers"),
        say("Bits per byte of held-out text of the pretraining and of held-out answers, after each stage."),
    )
    return [bars(heading, tuple(called(stage) for stage in stages), series, Axes(say("stage"), BITS))]


def _accuracy(found: Measurement) -> list[Figure]:
    rows = [
        Dot(called(scorer), found.interval(scorer=scorer, part=part), called(part))
        for part in found.coords["part"]
        for scorer in SCORERS
        if scorer in found.coords["scorer"] and np.isfinite(found.at(scorer=scorer, part=part).values).any()
    ]
    heading = Heading(
        "life-accuracy",
        say("Which of two answers did people choose?"),
        say(
            "Share of pairs in which the chosen answer gets the higher score. Two rules that read no sentence stand beside the reward "
            "model: the answer's length, and its words without their order."
        ),
    )
    axes = Axes(say("share of pairs"), "", references=(Reference(say("guessing"), 0.5),))
    return [dots(heading, rows, axes)]


def _rewards(found: Measurement) -> list[Figure]:
    stages = known_stages(found.at(metric="reward"))
    figures: list[Figure] = []
    for metric, name, title, label in (
        ("reward", "life-rewards", say("The learned reward of each stage's answers"), say("reward")),
        ("kl", "life-kl", say("How far each stage has moved"), say("KL, nats per answer")),
    ):
        part = found.at(metric=metric)
        series = [BarSeries(called(metric), tuple(part.interval(stage=stage) for stage in stages))]
        heading = Heading(name, title, say("Answers to prompts that no stage was trained on."))
        figures.append(
            bars(heading, tuple(called(stage) for stage in stages), series, Axes(say("stage"), label), height=280)
        )
    return figures


def _paths(found: Measurement) -> list[Figure]:
    series = [
        line
        for i, method in enumerate(known_stages(found, "method"))
        for line in _against_distance(found.at(method=method), "reward", called(method), i)
    ]
    heading = Heading(
        "life-paths",
        say("Reward against distance while a policy learns"),
        say("Each point is one look during training: mean over seeds of learned reward and of KL."),
    )
    return [curves(heading, series, Axes(DISTANCE, REWARD))] if series else []


def _preferences(found: Measurement) -> list[Figure]:
    rows = [Dot(called(stage), found.interval(stage=stage)) for stage in known_stages(found)]
    heading = Heading(
        "life-preferences",
        say("Is the chosen answer the likelier one?"),
        say("Share of held-out pairs whose chosen answer has the higher probability, divided among its tokens."),
    )
    axes = Axes(say("share of pairs"), "", references=(Reference(say("guessing"), 0.5),))
    return [dots(heading, rows, axes)]


def _overoptimisation(found: Measurement) -> list[Figure]:
    plots = [
        Panel(
            called(method),
            tuple(
                line
                for i, metric in enumerate(("proxy", "gold"))
                for line in _against_distance(found.at(method=method), metric, called(metric), i)
            ),
        )
        for method in (FREE, BEST)
        if method in found.coords["method"]
    ]
    heading = Heading(
        "life-overoptimisation",
        say("The learned reward rises, the true one need not"),
        say(
            "A reward model trained on people's choices plays the truth (gold); a second one, trained on few pairs that it labelled, is "
            "what the policy is optimised for (proxy). KL of best-of-n is exact: log n - (n - 1)/n (Gao et al. 2022)."
        ),
    )
    return [panels(heading, plots, Axes(DISTANCE, REWARD), columns=2, height=300)] if plots else []


def _likeness(found: Measurement) -> list[Figure]:
    series = [
        line
        for i, stage in enumerate(known_stages(found))
        for line in _curve(found.at(stage=stage), called(stage), "layer", i)
    ]
    heading = Heading(
        "life-likeness",
        say("How much each stage changed inside"),
        say(
            "Cosine of the stream after every layer with that of the model the stage began from, on held-out text; layer 0 is the first."
        ),
    )
    return [curves(heading, series, Axes(say("layer"), say("cosine")))]


def _heads(found: Measurement) -> list[Figure]:
    scale = ColourScale(say("score"), low=0.0, high=1.0, format=".2f")
    figures: list[Figure] = []
    for score in found.coords["score"]:
        plots = [
            (
                called(stage),
                Matrix(
                    np.nanmean(np.moveaxis(part.values, part.dims.index("seed"), 0), 0),
                    tuple(str(layer) for layer in found.coords["layer"]),
                    tuple(str(head) for head in found.coords["head"]),
                    say("layer"),
                    say("head"),
                ),
            )
            for stage in known_stages(found)
            for part in (found.at(stage=stage, score=score),)
        ]
        heading = Heading(
            f"life-heads-{str(score).replace(' ', '-')}",
            say("Heads through the stages: {score}", score=called(score)),
            say("Mean over seeds; a score of 1 means that the head does nothing else."),
        )
        figures.append(heatmaps(heading, plots, scale, columns=3))
    return figures


def _skips(found: Measurement) -> list[Figure]:
    series = [
        line
        for i, stage in enumerate(known_stages(found))
        for line in _curve(found.at(stage=stage), called(stage), "layer", i)
    ]
    heading = Heading(
        "life-skips",
        say("What each layer is worth, stage by stage"),
        say(
            "Bits per byte of held-out text that are lost when the layer is skipped, for the model as it is after each stage."
        ),
    )
    return [curves(heading, series, Axes(say("layer skipped"), say("bits per byte more")))]


def _seconds(found: Measurement) -> list[Figure]:
    labels = [str(label) for label in found.coords["stage"] if np.isfinite(found.at(stage=label).values).any()]
    rows = [Dot(called(label), found.interval(stage=label)) for label in labels]
    heading = Heading("life-seconds", say("What each stage cost"), say("Seconds of training on this machine."))
    return [dots(heading, rows, Axes(say("seconds"), "", x_scale="log"))]


def _curve(part: Measurement, label: Text, dim: str, style: int) -> list[Series]:
    """A curve with its band over seeds, without what was not measured; none at all where nothing was."""
    axis = part.dims.index("seed")
    mean, low, high = band_over_seeds(part.values, axis)
    known = np.isfinite(mean)
    if not known.any():
        return []
    x = part.along(dim)
    # A logarithmic axis has no place for step 0.
    x = x + 1 if dim == "step" else x
    return [Series(label, x[known], mean[known], low[known], high[known], _count(part, axis), style)]


def _against_distance(path: Measurement, metric: str, label: Text, style: int) -> list[Series]:
    """A number against sqrt(KL), both means over seeds, in the order of the distance."""
    axis = path.at(metric=metric).dims.index("seed")
    kl, values = path.at(metric="kl").values, path.at(metric=metric)
    mean, low, high = band_over_seeds(values.values, axis)
    distance = np.sqrt(np.clip(_mean(kl, axis), 0, None))
    order = np.argsort(distance)
    order = order[np.isfinite(distance[order]) & np.isfinite(mean[order])]
    if not order.size:
        return []
    return [Series(label, distance[order], mean[order], low[order], high[order], _count(values, axis), style)]


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return band_over_seeds(values, axis)[0]


def _count(part: Measurement, axis: int) -> int:
    """Seeds with a number in them."""
    rows = np.moveaxis(part.values, axis, 0).reshape(part.values.shape[axis], -1)
    return int(np.isfinite(rows).any(1).sum())
