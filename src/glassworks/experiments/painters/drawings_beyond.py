"""The figures that go beyond the paper's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.statistics import Interval
from glassworks.experiments.painters.drawings_published import (
    AFFECTED,
    LEVELS,
    SCORE,
    SHORT_SCORE,
    SHOWN,
    STYLES,
    series_of_rows,
    strategy_panels,
)
from glassworks.experiments.painters.tables import RANKING, Strategies, Table, bands, interval_of, strategy_name
from glassworks.figures import (
    Axes,
    BarSeries,
    ColourScale,
    Figure,
    Heading,
    Matrix,
    Panel,
    Reference,
    Series,
    bars,
    curves,
    heatmap,
    panels,
)
from glassworks.figures.words import Label
from glassworks.surgery.points import name_of

_AXES = Axes(AFFECTED, SCORE, y_range=SHOWN, references=LEVELS)
_SMALL_AXES = Axes(AFFECTED, SHORT_SCORE, y_range=SHOWN, references=LEVELS)


def variants(evidence: Evidence) -> list[Figure]:
    """What tells a different function from a norm that grows: sums and divided updates."""
    found = Strategies.of(evidence, "strategies")
    heading = Heading(
        "variants",
        say("Mean, sum and divided updates"),
        say(
            "Parallel layers whose updates are added up instead of averaged; the centre layer repeated with its update divided by the number of repeats, which keeps the norm from growing."
        ),
    )
    order = np.argsort(found.affected)
    names = [name for name in ("parallel", "sum", "middle_repeat", "middle_repeat_scaled") if name in found.names]
    series = [
        series_of_rows(strategy_name(name), found.affected[order], found.rows(name)[order], found.full)
        for name in names
    ]
    return [curves(heading, series, _AXES)]


def rescaling(evidence: Evidence) -> list[Figure]:
    """The best number of loops against the best single scaled step."""
    loops, scaled = Table.of(evidence, "loops"), Table.of(evidence, "scaled")
    heading = Heading(
        "rescaling",
        say("Looping against one scaled step"),
        say(
            "The best number of loops and the best factor on the mean update of a single step, each chosen at every M on the windows shown; with small updates K loops would equal a factor K."
        ),
    )
    x = loops.parts.along("affected")
    steps = np.concatenate([scaled.rows(), loops.rows(loops=1)[:, None]], axis=1)
    pairs: tuple[tuple[Label, NDArray[np.float64], int], ...] = (
        (say("best number of loops"), _best(loops.rows()), 0),
        (say("best scaled step"), _best(steps), 6),
        (name_of("parallel"), loops.rows(loops=1), 4),
    )
    return [curves(heading, [series_of_rows(name, x, rows, loops.full, style) for name, rows, style in pairs], _AXES)]


def _best(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of [M, setting, part] the setting with the best score at each M."""
    scores = np.nan_to_num(rows.sum(-1), nan=-np.inf)
    return np.take_along_axis(rows, scores.argmax(1)[:, None, None], 1)[:, 0]


def disorder(evidence: Evidence) -> list[Figure]:
    """Damage against inversions at each start, with a straight line through."""
    table, counts = Table.of(evidence, "order"), evidence["inversions"]
    heading = Heading(
        "disorder",
        say("Damage of an order against its inversions"),
        say(
            "Each point is one order of the middle; an inversion is a pair of layers in the wrong order. The line is a least-squares fit. The reverse order has them all."
        ),
    )
    plots: list[Panel] = []
    for middle in table.parts.coords["affected"]:
        x, y = counts.at(affected=middle).values.ravel(), table.scores(affected=middle).ravel()
        points = Series(say("one order"), x, y, style=2, joined=False)
        plots.append(Panel(say("M = {middle}", middle=middle), (points, *_fit(x, y))))
    axes = Axes(say("inversions"), SHORT_SCORE, references=LEVELS[:1])
    return [panels(heading, plots, axes, height=240)]


def _fit(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[Series]:
    if np.isnan(y).any() or np.ptp(x) == 0:
        return []
    ends = np.array([x.min(), x.max()])
    slope, level = np.polyfit(x, y, 1)
    return [Series(say("straight line"), ends, level + slope * ends, style=6)]


def protected(evidence: Evidence) -> list[Figure]:
    """Strategies with the sink's layers in place, without, and with as many others in place."""
    free = Strategies.of(evidence, "strategies")
    tables: list[tuple[Label, Strategies, int]] = [
        (say("nothing kept"), free, 0),
        (say("sink's layers kept"), Strategies.of(evidence, "protected"), 2),
    ]
    if "control" in evidence and "control_random" in evidence:
        tables.append((say("as many others kept"), Strategies.of(evidence, "control"), 6))
    layers = kept_layers(evidence)
    heading = Heading(
        "protected",
        say("Keeping the attention sink's layers in place"),
        say(
            "Layers {kept} write or erase the attention sink; the control keeps {others}. A start whose middle holds none of them is unchanged.",
            kept=layers["kept"],
            others=layers["control"],
        ),
    )
    plots = [
        Panel(
            strategy_name(strategy),
            tuple(
                series_of_rows(
                    name, np.sort(one.affected), one.rows(strategy)[np.argsort(one.affected)], one.full, style
                )
                for name, one, style in tables
                if strategy in one.names
            ),
        )
        for strategy in STYLES
    ]
    return [panels(heading, plots, _SMALL_AXES)]


def kept_layers(evidence: Evidence) -> dict[str, str]:
    """The layers kept in place and those of the control, as text."""
    if "kept" not in evidence:
        return {"kept": "-", "control": "-"}
    found = evidence["kept"]
    layers = found.along("layer")

    def listed(*roles: str) -> str:
        chosen = np.any([found.at(role=role).values > 0 for role in roles], axis=0)
        return ", ".join(f"{int(layer)}" for layer in layers[chosen]) or "-"

    return {"kept": listed("writes", "erases"), "control": listed("control")}


def blocks(evidence: Evidence) -> list[Figure]:
    """Every block left out or repeated, and the best block against the centred one."""
    dropped = Table.of(evidence, "dropped")
    if np.isnan(dropped.full).any():
        return []
    heading = Heading(
        "where-to-cut",
        say("The best block to leave out against the centred one"),
        say(
            "For each size the best of all blocks of neighbouring layers, chosen on these windows, and the paper's, in the centre."
        ),
    )
    sizes, best, centred = cuts(dropped)
    at_centre = ~np.isnan(centred)
    series = [
        Series(say("best block anywhere"), sizes, best, style=0),
        Series(say("block in the centre"), sizes[at_centre], centred[at_centre], style=1),
    ]
    axes = Axes(say("layers left out"), SCORE, y_range=SHOWN, references=LEVELS)
    return [
        curves(heading, series, axes),
        _block_map(dropped, Heading(
            "dropped",
            say("Every block left out"),
            say("Score without the layers from the first (down) to the last (across). Framed: the best block of each size."),
        )),
        _block_map(Table.of(evidence, "repeated"), Heading(
            "repeated",
            say("Every block run twice"),
            say("Score with the layers from the first (down) to the last (across) run twice in a row. Framed: the best block of each size."),
        )),
    ]  # fmt: skip


def cuts(table: Table) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Sizes of blocks left out, the best score at each, and that of the block in the centre (NaN where there is none)."""
    scores, first, last = _square(table)
    size = last[None, :] - first[:, None] + 1
    sizes = np.array(sorted({int(n) for n in size[~np.isnan(scores)]}), dtype=np.float64)
    best = np.array([np.nanmax(scores[size == n]) for n in sizes])
    # painters.md 1: one more layer is kept in front than at the back.
    is_centred = first[:, None] + last[None, :] == table.layers
    centred = [scores[(size == n) & is_centred] for n in sizes]
    return sizes, best, np.array([one[0] if one.size else np.nan for one in centred])


def _square(table: Table) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    return table.scores(), table.parts.along("first"), table.parts.along("last")


def _block_map(table: Table, heading: Heading) -> Figure:
    scores, first, last = _square(table)
    size = last[None, :] - first[:, None] + 1
    marked: list[tuple[int, int]] = []
    for n in sorted({int(one) for one in size[~np.isnan(scores)]}):
        of_size = np.where((size == n) & ~np.isnan(scores), scores, -np.inf)
        row, column = np.unravel_index(int(of_size.argmax()), scores.shape)
        marked.append((int(row), int(column)))
    names = (tuple(f"{int(n)}" for n in first), tuple(f"{int(n)}" for n in last))
    matrix = Matrix(np.clip(scores, SHOWN[0], None), *names, say("first layer"), say("last layer"), tuple(marked))
    return heatmap(heading, matrix, ColourScale(SCORE))


def caches(evidence: Evidence) -> list[Figure]:
    """What each plan adds to the whole model's nats, decoded with each cache."""
    nats, whole = evidence["cache"], evidence["cache_full"].values
    heading = Heading(
        "caches",
        say("Generation with the exact and with the averaged cache"),
        say(
            "Nats per decoded token more than the whole model's; 95 % intervals over sequences. The exact cache equals no cache; the averaged one is the published code's. {note}",
            note=nats.caveats[0] if nats.caveats else say("none"),
        ),
    )
    modes = {"uncached": say("no cache"), "exact": say("exact cache"), "mean": say("averaged cache")}
    groups = [(strategy, middle) for strategy in nats.coords["strategy"] for middle in nats.coords["affected"]]
    series = [
        BarSeries(
            name,
            tuple(
                _mean_of(nats.at(strategy=strategy, affected=middle, mode=mode).values - whole)
                for strategy, middle in groups
            ),
        )
        for mode, name in modes.items()
    ]
    names = [say("{strategy}, M = {middle}", strategy=strategy_name(str(one)), middle=middle) for one, middle in groups]
    return [bars(heading, names, series, Axes(say("plan"), say("added nats per token")))]


def _mean_of(values: NDArray[np.float64]) -> Interval:
    found = interval_of(lambda means: float(means[0]), [values], np.ones_like(values))
    # Documents, not seeds: the caption says so.
    return Interval(found.mean, found.low, found.high, 0)


def encoder(evidence: Evidence) -> list[Figure]:
    """Hit rate of the encoder under every strategy, and by number of loops."""
    found, loops = Strategies.of(evidence, "encoder"), Table.of(evidence, "encoder_loops")
    strategies = Heading(
        "encoder",
        say("An encoder under all strategies, untrained"),
        say("Retrieval of the second half of a paragraph by its first; 95 % intervals over paragraphs."),
    )
    looping = Heading(
        "encoder-loops",
        say("Loops on the encoder"),
        say("Hit rate by the number of loops through the parallel middle; bands: 95 % interval over paragraphs."),
    )
    middles = np.sort(found.affected)
    order = np.argsort(found.affected)
    series = [
        BarSeries(strategy_name(name), tuple(_hits(found.fixed, row) for row in found.rows(name)[order]))
        for name in RANKING
    ]
    whole, chance = (found.fixed.quantity(name) for name in ("full", "chance"))
    levels = (Reference(say("whole model"), whole), Reference(say("chance"), chance))
    groups = [say("M = {middle}", middle=int(middle)) for middle in middles]
    counts = loops.parts.along("loops")
    by_loops = [
        _as_hits(
            series_of_rows(say("M = {middle}", middle=middle), counts, loops.rows(affected=middle), loops.full), loops
        )
        for middle in loops.parts.coords["affected"]
    ]
    hit_rate = say("hit rate")
    return [
        bars(strategies, groups, series, Axes(AFFECTED, hit_rate, references=levels)),
        curves(looping, by_loops, Axes(say("loops K"), hit_rate, references=levels)),
    ]


def _hits(table: Table, row: NDArray[np.float64]) -> Interval:
    mean, low, high = (table.value(float(one[0])) for one in bands(row[None], table.full))
    return Interval(mean, low, high, 0)


def _as_hits(series: Series, table: Table) -> Series:
    scaled = [
        None if v is None else np.array([table.value(float(one)) for one in v])
        for v in (series.mean, series.low, series.high)
    ]
    assert scaled[0] is not None, "every curve has a mean"
    return Series(series.label, series.x, scaled[0], scaled[1], scaled[2], series.seeds, series.style)


def classifiers(evidence: Evidence) -> list[Figure]:
    """Score of linear classifiers on the frozen encoder."""
    found = evidence["classifier"]
    heading = Heading(
        "classifiers",
        say("Classifiers on the frozen, rearranged encoder"),
        say("Linear classifiers on mean vectors, three layers rearranged (paper: appendix A.9)."),
    )
    tasks = [str(task) for task in found.coords["task"]]
    series = [
        BarSeries(strategy_name(str(name)), tuple(found.interval(task=task, strategy=name) for task in tasks))
        for name in found.coords["strategy"]
    ]
    return [bars(heading, tasks, series, Axes(say("task"), say("accuracy; Matthews correlation for CoLA")))]


def healing(evidence: Evidence) -> list[Figure]:
    """Nats before the cut, after it, and healed."""
    found = evidence["healing"]
    names = {
        "whole": say("whole model"),
        "cut": say("layers left out"),
        "healed": say("after a short training"),
        "control": say("whole model, trained alike"),
    }
    note = found.caveats[0] if found.caveats else say("none")
    heading = Heading(
        "healing", say("A short training after a cut"), say("Nats per token on held-out text. {note}", note=note)
    )
    values = tuple(found.interval(state=state) for state in names)
    series = [BarSeries(say("held-out text"), values)]
    return [bars(heading, list(names.values()), series, Axes(say("model"), say("nats per token")))]


def stacks(evidence: Evidence) -> list[Figure]:
    """The strategies on each stack of an encoder-decoder."""
    drawn: list[Figure] = []
    titles = {
        "encoder": say("The strategies on the encoder of an encoder-decoder"),
        "decoder": say("The strategies on the decoder of an encoder-decoder"),
    }
    for stack, title in titles.items():
        if f"stack_{stack}" in evidence:
            caption = say("Normalised nats per token of titles; bands: 95 % interval over titles.")
            found = Strategies.of(evidence, f"stack_{stack}")
            drawn.append(panels(Heading(f"stack-{stack}", title, caption), strategy_panels(found), _SMALL_AXES))
    return drawn
