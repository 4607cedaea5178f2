"""Figures of the Infini study about hidden keys and recalled facts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.infini.drawings_shared import (
    ACCURACY,
    LENGTH,
    STEP,
    STYLES,
    Painters,
    averaged,
    finite,
    known_labels,
    part_of,
    share_series,
)
from glassworks.experiments.infini.judging_passkey import BOTH, EARLY, NEEDLE_AT, REAL_LENGTHS, TRAINED, WITHOUT_MEMORY
from glassworks.experiments.infini.names import called, length_name, model_name, rule_name, score_name, stage_name
from glassworks.figures import (
    Axes,
    ColourScale,
    Figure,
    Heading,
    Matrix,
    Reference,
    Series,
    curves,
    heatmap,
    heatmaps,
    series_of,
)

CHANCE = Reference(say("guessing"), 0.1)
TRAINED_UP_TO = Reference(say("training length"), float(TRAINED), "vertical")
SHARES = (0.0, 1.05)
_COMPARED = ("linear", "window", "gated linear", "mesa")


def _maps(evidence: Evidence) -> list[Figure]:
    found = evidence["passkey"]
    kinds = (
        (
            BOTH,
            Heading(
                "passkey-map",
                say("A key hidden in a text, by the text's length and the key's depth"),
                say(
                    "Digits right in per cent, mean over seeds; trained on at most {trained} bytes (paper: table 3).",
                    trained=TRAINED,
                ),
            ),
        ),
        (
            REAL_LENGTHS,
            Heading(
                "passkey-map-real",
                say("The same without virtual length"),
                say(
                    "Digits right in per cent of models trained on texts as they are: the paper's recipe, at this size."
                ),
            ),
        ),
        (
            WITHOUT_MEMORY,
            Heading(
                "passkey-map-off",
                say("The same models with their memory switched off"),
                say("Digits right in per cent where every gate is held at 0: what local attention finds on its own."),
            ),
        ),
    )
    return [figure for rules, heading in kinds for figure in _map(heading, found, rules)]


def _map(heading: Heading, found: Measurement, rules: Sequence[str]) -> list[Figure]:
    known = known_labels(found, "rule", rules)
    depths = [str(depth) for depth in found.coords["depth"]]
    rows = [found.at(rule=rule, depth=depth).values.mean(axis=1) for rule in known for depth in depths]
    if not rows:
        return []
    values = 100 * np.stack(rows)
    read = np.flatnonzero(~np.isnan(values).all(axis=0))
    names = tuple(
        say("{rule}, {depth}", rule=rule_name(rule.partition(",")[0]), depth=called(depth))
        for rule in known
        for depth in depths
    )
    columns = tuple(length_name(found.coords["length"][place]) for place in read)
    matrix = Matrix(values[:, read], names, columns, say("write rule, depth of the key"), LENGTH)
    scale = ColourScale(say("digits right (%)"), low=0.0, high=100.0, format=".1f")
    return [heatmap(heading, matrix, scale, numbers=True)]


def _lengths(evidence: Evidence) -> list[Figure]:
    found = averaged(evidence["passkey"], "depth", EARLY)
    heading = Heading(
        "passkey-lengths",
        say("How long a text may be before the key is lost"),
        say(
            "Keys from the start and the middle, mean of both. Virtual length lets a training on short texts weigh filler as if "
            "there were more of it; it is ours, and the runs with real lengths are the paper's recipe."
        ),
    )
    rules = known_labels(found, "rule", (*BOTH, *REAL_LENGTHS, *WITHOUT_MEMORY))
    series = [share_series(found.at(rule=rule), rule_name(rule), "length", i) for i, rule in enumerate(rules)]
    axes = Axes(LENGTH, ACCURACY, y_range=SHARES, x_scale="log", references=(CHANCE, TRAINED_UP_TO))
    return [curves(heading, series, axes)]


def _comparators(evidence: Evidence) -> list[Figure]:
    found = averaged(evidence["passkey_comparators"], "depth", EARLY)
    heading = Heading(
        "passkey-comparators",
        say("Other layers on the same task, with the same budget"),
        say("Keys from the start and the middle, mean of both; real lengths only, no virtual length for any of them."),
    )
    series = [
        share_series(found.at(model=model), model_name(model), "length", STYLES.get(model))
        for model in known_labels(found, "model", _COMPARED)
    ]
    axes = Axes(LENGTH, ACCURACY, y_range=SHARES, x_scale="log", references=(CHANCE,))
    return [curves(heading, series, axes)]


def _needle(evidence: Evidence) -> list[Figure]:
    found = evidence["needle_share"]
    rules = known_labels(found, "rule")
    best = part_of(found, found.values.max(axis=(1, 2)), "rule", "length", "seed")
    heading = Heading(
        "needle-share",
        say("How much of its reading the best head takes from the needle"),
        say(
            "Share of the memory's reading weight that the answer puts on the bytes of the needle, for the head with the largest "
            "share. An untrained head reads every byte about alike, so its share falls as one over the length."
        ),
    )
    series = [share_series(best.at(rule=rule), rule_name(rule), "length", i) for i, rule in enumerate(rules)]
    axes = Axes(LENGTH, say("share of the reading"), y_range=SHARES, x_scale="log")
    return [curves(heading, series, axes), *_needle_heads(found, rules)]


def _needle_heads(found: Measurement, rules: Sequence[str]) -> list[Figure]:
    if NEEDLE_AT not in found.coords["length"]:
        return []
    layers, heads = (tuple(str(label) for label in found.coords[dim]) for dim in ("layer", "head"))
    plots: list[tuple[Text, Matrix]] = [
        (
            say("{rule}, seed {seed}", rule=rule_name(rule), seed=seed),
            Matrix(
                found.at(rule=rule, length=NEEDLE_AT, seed=seed).values,
                layers,
                heads,
                say("layer"),
                say("attention head"),
            ),
        )
        for rule in rules
        for seed in found.seeds
    ]
    heading = Heading(
        "needle-heads",
        say("Which heads read the needle, in {length} bytes", length=NEEDLE_AT),
        say("The same share for every head. Layer 1 is at the bottom; heads of different seeds are unrelated."),
    )
    scale = ColourScale(say("share of the reading"), low=0.0, high=1.0)
    return [heatmaps(heading, plots, scale, columns=max(1, len(found.seeds)), layers=False)] if plots else []


def _training(evidence: Evidence) -> list[Figure]:
    found = evidence["training_passkey"].at(metric="loss")
    stages = [label for label in known_labels(found, "model") if label not in _COMPARED[1:]]
    others = known_labels(found, "model", _COMPARED[1:])
    headings = (
        Heading(
            "passkey-training",
            say("The stages of the recipe"),
            say(
                "Loss of each fresh batch: digits of the key, and half as much of all other bytes. Stages follow each other."
            ),
        ),
        Heading(
            "passkey-training-others",
            say("Other layers while they learn the task"),
            say("Loss of each fresh batch; one stage, as long as the first of the recipe."),
        ),
    )
    drawn = (
        [_loss(found, label, stage_name(label), i) for i, label in enumerate(stages)],
        [_loss(found, label, model_name(label), STYLES[label]) for label in others],
    )
    axes = Axes(STEP, say("loss in nats"))
    return [curves(heading, series, axes) for heading, series in zip(headings, drawn, strict=True) if series]


def _books_training(evidence: Evidence) -> list[Figure]:
    found = evidence["training_books"].at(metric="loss")
    heading = Heading(
        "books-training",
        say("The passkey model learns to recall facts"),
        say("Loss of each fresh batch: the facts asked for, and half as much of all other bytes."),
    )
    series = [_loss(found, label, stage_name(label), i) for i, label in enumerate(known_labels(found, "model")[:8])]
    return [curves(heading, series, Axes(STEP, say("loss in nats")))] if series else []


def _loss(found: Measurement, label: str, name: Text, style: int) -> Series:
    return finite(series_of(found.at(model=label), name, style=style % 8))


def _facts(evidence: Evidence) -> list[Figure]:
    found = evidence["facts"]
    heading = Heading(
        "facts",
        say("Recalled facts against how much of the text was read"),
        say(
            "Several facts lie scattered in a long text and are asked for at its end; only its last bytes are read. The paper shows "
            "that book summaries gain from more of the book (figure 4); this is a small relative of that task."
        ),
    )
    series = [
        share_series(found.at(score=score), score_name(score), "read", i)
        for i, score in enumerate(known_labels(found, "score"))
    ]
    read = found.along("read")
    # A logarithmic axis shows powers of ten alone, too few of them where not much more is read at the end.
    scale = "log" if read.max() >= 100 * read.min() else "linear"
    axes = Axes(say("bytes read of the document's end"), say("score"), y_range=SHARES, x_scale=scale)
    return [curves(heading, series, axes)]


PAINTERS: Painters = (
    (("passkey",), _maps),
    (("passkey",), _lengths),
    (("passkey_comparators",), _comparators),
    (("needle_share",), _needle),
    (("training_passkey",), _training),
    (("facts",), _facts),
    (("training_books",), _books_training),
)
