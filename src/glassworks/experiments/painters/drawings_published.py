"""The paper's own figures, from our measurements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.statistics import band_over_seeds
from glassworks.experiments.painters.tables import (
    MAIN_LOOPS,
    RANKING,
    Strategies,
    Table,
    bands,
    benchmarks,
    best_loops,
    medians,
    strategy_name,
)
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
    heatmap,
    heatmaps,
    panels,
)
from glassworks.figures.words import Label
from glassworks.surgery.points import name_of

# Colour and line of a strategy stay the same in every figure.
STYLES = {"skip": 6, "middle_repeat": 1, "reverse": 2, "random": 3, "parallel": 4, "looped": 0}
SCORE = say("normalised score (1 whole model, 0 chance)")
SHORT_SCORE = say("normalised score")
AFFECTED = say("number of affected layers M")
LEVELS = (Reference(say("whole model"), 1.0), Reference(say("chance"), 0.0))
# Beyond these a plan has ruined the model; how much more says nothing.
SHOWN = (-0.35, 1.08)
# A layer writes or erases a sink where it does so in this share of the texts.
HALF = 0.5


def series_of_rows(
    label: Label, x: NDArray[np.float64], rows: NDArray[np.float64], full: NDArray[np.float64], style: int | None = None
) -> Series:
    """Scores over x with their 95 % band over documents; places without a number are left out."""
    mean, low, high = bands(rows, full)
    known = ~np.isnan(mean)
    return Series(label, x[known], mean[known], low[known], high[known], style=style)


def strategy_series(found: Strategies, strategy: str) -> Series:
    """A strategy's scores by M; random orders have their band over seeds, all others over documents."""
    style = STYLES.get(strategy)
    order = np.argsort(found.affected)
    x = found.affected[order]
    if strategy != "random":
        return series_of_rows(strategy_name(strategy), x, found.rows(strategy)[order], found.full, style)
    scores = found.random.scores()[:, order]
    mean, low, high = band_over_seeds(scores, 0)
    return Series(strategy_name(strategy), x, mean, low, high, seeds=len(scores), style=style)


def strategy_panels(found: Strategies) -> list[Panel]:
    """One small plot for each published strategy."""
    return [Panel(strategy_name(name), (strategy_series(found, name),)) for name in STYLES if name in found.names]


def single(evidence: Evidence) -> list[Figure]:
    """Score against the layer that is left out or switched with the next (figure 2)."""
    table = Table.of(evidence, "single")
    heading = Heading(
        "single-layers",
        say("One layer left out, or switched with the next"),
        say("Bands: 95 % interval over windows of text (paper: figure 2)."),
    )
    series = [
        series_of_rows(name_of(name), table.parts.along("layer"), table.rows(strategy=name), table.full, style)
        for name, style in (("skip_one", 0), ("switch", 1))
    ]
    axes = Axes(say("layer, or first of the two"), SCORE, y_range=SHOWN, references=LEVELS)
    return [curves(heading, series, axes)]


def similarity(evidence: Evidence) -> list[Figure]:
    """How alike the states after two layers are, in the published and in stricter definitions (figure 3)."""
    found = evidence["similarity"]
    names = {
        "flat": say("cosine, text as one vector"),
        "per_token": say("cosine per token"),
        "per_token_no_sinks": say("cosine per token, no sinks"),
        "cka_no_sinks": say("CKA, unbiased, no sinks"),
    }
    heading = Heading(
        "similarity",
        say("How alike the stream is after different layers"),
        say(
            "Top left as published (paper: figure 3): a token far longer than the others decides it, while the other definitions look at every token alike. Alike does not mean exchangeable."
        ),
    )
    labels = tuple(str(state) for state in found.coords["state"])
    axis = say("after layer (−1: the embedding)")
    plots = [
        (title, Matrix(found.at(definition=name).values, labels, labels, axis, axis)) for name, title in names.items()
    ]
    return [heatmaps(heading, plots, ColourScale(say("similarity"), low=0.0, high=1.0), columns=2)]


def sinks(evidence: Evidence) -> list[Figure]:
    """Length of the most prominent token beside the others'."""
    found = evidence["sinks"]
    heading = Heading(
        "sinks",
        say("The most prominent token beside the others"),
        say(
            "Length of the state of each text's most prominent token beside the median of its other tokens, medians over the texts. Marked: the layers that lengthen or shorten it. {rule}",
            rule=found.says,
        ),
    )
    names = {
        "sink norm": say("most prominent token"),
        "median norm of the others": say("the other tokens"),
    }
    layers = found.along("state")
    series = [Series(name, layers, found.at(quantity=quantity).values) for quantity, name in names.items()]
    acting = layers[(found.at(quantity="share written").values + found.at(quantity="share erased").values) >= HALF]
    # The first of a run of neighbours names itself, or the names would overlap.
    marks = [Reference("" if layer - 1 in acting else f"L{int(layer)}", float(layer), "vertical") for layer in acting]
    axes = Axes(
        say("after layer (−1: the embedding)"), say("length of the state"), y_scale="log", references=tuple(marks)
    )
    return [curves(heading, series, axes)]


def each_strategy(evidence: Evidence) -> list[Figure]:
    """Score against M, a plot for each strategy (figures 4 to 9)."""
    found = Strategies.of(evidence, "strategies")
    heading = Heading(
        "each-strategy",
        say("Each strategy by the number of affected layers"),
        say(
            "Bands: 95 % interval over windows of text, for random orders over seeds. What lies below the frame is in the data (paper: figures 4 to 9)."
        ),
    )
    return [panels(heading, strategy_panels(found), Axes(AFFECTED, SHORT_SCORE, y_range=SHOWN, references=LEVELS))]


def all_in_one(evidence: Evidence) -> list[Figure]:
    """All strategies together, on running text (figure 11)."""
    found = Strategies.of(evidence, "strategies")
    heading = Heading(
        "all-in-one",
        say("All strategies beside each other, on running text"),
        say("Normalised nats per token against the number of affected layers (paper: figure 11, there on benchmarks)."),
    )
    series = [strategy_series(found, name) for name in RANKING]
    return [curves(heading, series, Axes(AFFECTED, SCORE, y_range=SHOWN, references=LEVELS), height=420)]


def equal_effort(evidence: Evidence) -> list[Figure]:
    """The same scores against layer runs, and against the longest path."""
    found = Strategies.of(evidence, "strategies")
    kinds = (
        (
            "equal-compute",
            say("At equal compute"),
            say(
                "Scores against layer runs. Reverse and random order, the repeated centre layer and the parallel middle always run as many as the whole model; so they have no curve."
            ),
            say("layer runs"),
            _runs,
        ),
        (
            "equal-depth",
            say("At equal depth"),
            say(
                "Scores against the number of layers one after the other, if all parallel ones run at once. Orders and repeats are always as deep as the whole model."
            ),
            say("layers one after the other"),
            _depths,
        ),
    )
    drawn: list[Figure] = []
    for name, title, caption, axis, effort in kinds:
        series = [
            _against(strategy_series(found, strategy), effort(strategy, found))
            for strategy in ("skip", "parallel", "looped")
        ]
        varying = [one for one in series if np.ptp(one.x) > 0]
        if varying:
            axes = Axes(axis, SCORE, y_range=SHOWN, references=LEVELS)
            drawn.append(curves(Heading(name, title, caption), varying, axes))
    return drawn


def _runs(strategy: str, found: Strategies) -> NDArray[np.float64]:
    """Layer runs of a strategy by M (painters.md 1), in rising M."""
    middle = np.sort(found.affected)
    outside = found.layers - middle
    return outside + {"skip": 0, "looped": MAIN_LOOPS}.get(strategy, 1) * middle


def _depths(strategy: str, found: Strategies) -> NDArray[np.float64]:
    """Layers on the longest path by M, parallel ones counted once, in rising M."""
    return found.layers - np.sort(found.affected) + {"skip": 0, "looped": MAIN_LOOPS}.get(strategy, 1)


def _against(series: Series, x: NDArray[np.float64]) -> Series:
    order = np.argsort(x)

    def sorted_by_x(values: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        return None if values is None else np.asarray(values)[order]

    mean = np.asarray(series.mean)[order]
    low, high = sorted_by_x(series.low), sorted_by_x(series.high)
    return Series(series.label, x[order], mean, low, high, series.seeds, series.style)


def loop_map(evidence: Evidence) -> list[Figure]:
    """Score by number of parallel layers and of loops, the best of each row framed (figure 10)."""
    table = Table.of(evidence, "loops")
    loops = table.parts.along("loops")
    middles, best = best_loops(table)
    scores = table.scores()
    if np.isnan(scores).all():
        return []
    heading = Heading(
        "loop-map",
        say("How many loops are best"),
        say(
            "Framed: the best number of loops for each number of parallel layers, on these windows (paper: figure 10)."
        ),
    )
    marked = tuple((row, int(np.flatnonzero(loops == count)[0])) for row, count in enumerate(best))
    matrix = Matrix(
        np.clip(scores, SHOWN[0], None),
        tuple(f"{int(middle)}" for middle in middles),
        tuple(f"{int(count)}" for count in loops),
        say("parallel layers M"),
        say("loops K"),
        marked,
    )
    return [heatmap(heading, matrix, ColourScale(SCORE), numbers=len(loops) <= 14)]


def tasks(evidence: Evidence) -> list[Figure]:
    """The strategies on benchmarks: each benchmark, and the median over them as published (figure 11)."""
    names = benchmarks(evidence)
    each = [(name, Strategies.of(evidence, f"tasks_{name}")) for name in names]
    per_task = Heading(
        "each-task",
        say("The strategies on each benchmark"),
        say("Normalised per benchmark; a benchmark on which the whole model only guesses has no scale and no curve."),
    )
    together = Heading(
        "all-in-one-tasks",
        say("All strategies beside each other, median over benchmarks"),
        say("The median of the normalised scores of {names} (paper: figure 11).", names=", ".join(names)),
    )
    plots = [Panel(name, tuple(_scores_only(found))) for name, found in each if not np.isnan(found.full).any()]
    affected = each[0][1].affected
    order = np.argsort(affected)
    medianed = [
        Series(strategy_name(name), affected[order], medians(evidence, name)[order], style=STYLES[name])
        for name in RANKING
    ]
    axes = Axes(AFFECTED, SCORE, y_range=SHOWN, references=LEVELS)
    if not plots:
        return []
    small = replace(axes, y_label=SHORT_SCORE)
    return [curves(together, medianed, axes, height=420), panels(per_task, plots, small, columns=2)]


def _scores_only(found: Strategies) -> Iterator[Series]:
    """The strategies' scores without bands: with few questions the bands would cover all."""
    order = np.argsort(found.affected)
    for name in _known(found.names):
        yield Series(strategy_name(name), found.affected[order], found.scores(name)[order], style=STYLES[name])


def _known(names: Sequence[str]) -> list[str]:
    return [name for name in STYLES if name in names]
