"""The report of a sweep, composed from its rows: what was found in sentences, figures and tables; no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from glassworks.core.text import Text, say
from glassworks.figures import Figure
from glassworks.report import FileLink, Page, Row, Section, SummaryLine, Table
from glassworks.surgery.drawings import loop_map
from glassworks.surgery.points import (
    BLOCKS,
    MEDIAN,
    SINGLE,
    Point,
    benchmarks_of,
    curves_of,
    name_of,
    of_strategy,
    points_of,
    variant_name,
    whole_model,
)
from glassworks.surgery.record import BenchmarkFacts, SweepRecord

if TYPE_CHECKING:
    import pandas as pd

# A strategy "keeps" the model as long as so much of its score is left.
KEPT = 0.9
BEST_SHOWN = 10
HARMFUL_SHOWN = 3


@dataclass(frozen=True)
class Standing:
    """A strategy over all its starts: the mean score, how far 90 % of the whole model's are kept, its best plan."""

    name: Text
    plans: int
    mean: float
    keeps: int | None
    best: Point


def compared(rows: pd.DataFrame) -> list[Point]:
    """The points that plans are compared by: the median of normalised scores, or where none is known one benchmark's."""
    points = points_of(rows)
    return points if math.isfinite(whole_model(points).value) else points_of(rows, benchmarks_of(rows)[0])


def standings(points: Sequence[Point]) -> list[Standing]:
    """Every strategy on the middle layers, the least harmful first; an unknown mean comes last."""
    sign = 1.0 if whole_model(points).higher_is_better else -1.0
    found: list[Standing] = []
    for curve in curves_of(points):
        by_size = curve.at(lambda point: point.affected)
        # One mean a size, so that ten seeds weigh no more than one plan.
        means = {size: float(np.mean([point.value for point in own])) for size, own in by_size.items()}
        kept = [size for size in means if all(means[n] >= KEPT for n in means if n <= size)]
        best = max(curve.points, key=lambda point: (point.goodness, point.affected))
        mean = float(np.mean(list(means.values())))
        keeps = max(kept, default=None) if best.benchmark == MEDIAN else None
        found.append(Standing(curve.name, len(curve.points), mean, keeps, best))
    return sorted(found, key=lambda one: -sign * one.mean if math.isfinite(one.mean) else math.inf)


def harmful(points: Sequence[Point], strategy: str) -> list[Point]:
    """The points of a single-layer strategy, the most harmful first."""
    return sorted(of_strategy(points, strategy), key=lambda point: point.goodness)


def page_of(record: SweepRecord) -> Page:
    """The report as a value."""
    points = compared(record.rows)
    return Page(
        title=say("Plans of layers: {model}", model=record.spec.model),
        lead=say(
            "{plans} plans of the model's layers, each scored on the same {documents} documents and compared with the whole model.",
            plans=record.cost["plans"], documents=sum(one.documents for one in record.benchmarks),
        ),
        summary=tuple(_summary(record, points)),
        passport=_passport(record),
        sections=tuple(section for section in _sections(record, points) if section.figures or section.tables),
        limits=tuple(_limits(record)),
        cost=_cost(record),
        files=(
            FileLink("tables/rows.csv", say("every score with its interval as one tidy table")),
            FileLink("tables/rows.parquet", say("the same as Parquet")),
            FileLink("tables/rows.columns.json", say("what the columns mean")),
            FileLink("benchmarks.json", say("the benchmarks: data, chance, notes")),
            FileLink("spec.json", say("every setting of this run")),
            FileLink("events.jsonl", say("the log of the run")),
        ),
        command=record.command,
    )  # fmt: skip


def _summary(record: SweepRecord, points: Sequence[Point]) -> list[SummaryLine]:
    ranked = [one for one in standings(points) if math.isfinite(one.mean)]
    lines: list[SummaryLine] = []
    if len(ranked) > 1:
        told = say(
            "Least harmful over all starts: {best} ({mean}); most harmful: {worst} ({low}). The whole model: {whole}.",
            best=ranked[0].name, mean=_number(ranked[0].mean), worst=ranked[-1].name, low=_number(ranked[-1].mean),
            whole=_number(whole_model(points).value),
        )  # fmt: skip
        lines.append(SummaryLine(told, "standings"))
    keeping = [one for one in ranked if one.keeps is not None]
    if keeping:
        far = max(keeping, key=lambda one: one.keeps or 0)
        told = say(
            "{share} of the score is kept furthest by {strategy}: up to {count} layers affected.",
            share=f"{KEPT:.0%}", strategy=far.name, count=far.keeps,
        )  # fmt: skip
        lines.append(SummaryLine(told, "standings"))
    for strategy in SINGLE:
        worst = harmful(points, strategy)[:HARMFUL_SHOWN]
        if worst:
            told = say(
                "{strategy}: most harmful at layers {layers}.",
                strategy=name_of(strategy), layers=", ".join(str(point.start) for point in worst),
            )  # fmt: skip
            lines.append(SummaryLine(told, _first(record, "layers_", "standings")))
    lines += _loop_line(record, points)
    cost = say(
        "Asked for {asked} layer runs over each batch, {done} were done: beginnings that plans share are run once.",
        asked=f"{record.cost['asked']:,}", done=f"{record.cost['done']:,}",
    )  # fmt: skip
    return [*lines, SummaryLine(cost, "cost")]


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _loop_line(record: SweepRecord, points: Sequence[Point]) -> list[SummaryLine]:
    if loop_map(points) is None:
        return []
    best: dict[int, Point] = {}
    for point in of_strategy(points, "looped"):
        if point.affected not in best or point.goodness > best[point.affected].goodness:
            best[point.affected] = point
    told = ", ".join(f"{size}: {best[size].loops}" for size in sorted(best))
    return [SummaryLine(say("Best number of loops by number of parallel layers: {counts}.", counts=told), "loops")]


def _first(record: SweepRecord, prefix: str, otherwise: str) -> str:
    return next((name for name in record.figures if name.startswith(prefix)), otherwise)


def _passport(record: SweepRecord) -> tuple[Row, ...]:
    spec, choice, environment = record.spec, record.spec.choice, record.environment
    packages = environment.get("packages", {})
    return (
        Row(say("model"), spec.model),
        Row(say("digest of the weights"), spec.weights),
        Row(say("device and number format"), f"{environment.get('device', '-')}, {spec.dtype}"),
        Row(say("plan families"), choice.plans),
        *([] if choice.stack is None else [Row(say("stack"), choice.stack)]),
        Row(say("layers kept in place"), ", ".join(map(str, choice.protect)) or say("none")),
        Row(say("seeds of random orders"), str(choice.seeds)),
        *(Row(say("benchmark {name}", name=one.name), _told(one)) for one in record.benchmarks),
        Row(say("settings digest"), record.run.path.name),
        Row(say("versions"), ", ".join(f"{name} {version}" for name, version in packages.items() if version)),
    )


def _told(one: BenchmarkFacts) -> Text:
    return say(
        "{documents} documents, {tokens} tokens, compared by {metric} (chance {chance}); {data}",
        documents=one.documents, tokens=one.tokens, metric=one.metric, chance=f"{one.chance:.3g}", data=one.data,
    )  # fmt: skip


def _sections(record: SweepRecord, points: Sequence[Point]) -> list[Section]:
    figures = record.figures

    def chosen(*prefixes: str) -> tuple[Figure, ...]:
        return tuple(figure for name, figure in figures.items() if name.startswith(prefixes))

    whole = whole_model(points)
    return [
        Section(
            "compared", say("All strategies"),
            (say("A start s leaves layers 0 to s and the last s layers alone and rearranges the layers between."),),
            chosen("all_in_one"), (_standings_table(points),) if curves_of(points) else (),
        ),
        Section("cost_views", say("At equal cost"), (), chosen("equal_")),
        Section("loops_section", say("Loops"), (), chosen("loops")),
        Section("single", say("One layer"), (), chosen("layers_")),
        Section("blocks", say("Blocks"), (), tuple(f for name, f in figures.items() if name in BLOCKS)),
        Section("benchmarks", say("Each benchmark"), (), chosen("strategies_")),
        Section("plans", say("The best plans"), (), (), (_best_table(points, whole), _budget_table(points, whole))),
    ]  # fmt: skip


def _standings_table(points: Sequence[Point]) -> Table:
    rows = tuple((one.name, one.plans, one.mean, one.keeps, one.best.plan, one.best.value) for one in standings(points))
    columns = (
        say("strategy"), say("plans"), say("mean score over all starts"),
        say("keeps {share} up to this many layers", share=f"{KEPT:.0%}"), say("best plan"), say("its score"),
    )  # fmt: skip
    note = say("A mean gives every start the same weight.")
    if points[0].benchmark == MEDIAN:
        note = say(
            "Scores are normalised: 1 is the whole model, 0 is chance. A mean gives every start the same weight."
        )
    return Table("standings", say("Strategies, the least harmful first"), columns, rows, note)


def _best_table(points: Sequence[Point], whole: Point) -> Table:
    ranked = sorted(_different(points, whole), key=lambda point: -point.goodness)
    note = say("Chosen among {count} plans on the documents shown here, so these scores flatter.", count=len(ranked))
    title = say("The best plans that are not the whole model")
    return Table("best", title, _PLAN_COLUMNS, tuple(_cells(point) for point in ranked[:BEST_SHOWN]), note)


def _budget_table(points: Sequence[Point], whole: Point) -> Table:
    best: dict[int, Point] = {}
    for point in _different(points, whole):
        if point.layer_runs > whole.layer_runs:
            continue
        if point.layer_runs not in best or point.goodness > best[point.layer_runs].goodness:
            best[point.layer_runs] = point
    rows = tuple(_cells(best[runs]) for runs in sorted(best))
    note = say("The whole model runs {count} layers.", count=whole.layer_runs)
    return Table("budget", say("The best plan for each number of layer runs"), _PLAN_COLUMNS, rows, note)


def _different(points: Sequence[Point], whole: Point) -> list[Point]:
    """Points with a known score whose plan is not the whole model's, equal plans once."""
    found: dict[str, Point] = {}
    for point in points:
        if math.isfinite(point.value) and point.plan != whole.plan:
            found.setdefault(point.plan, point)
    return list(found.values())


def _cells(point: Point) -> tuple[Text | str | int | float, ...]:
    return (point.plan, variant_name(point), point.layer_runs, point.critical_depth, point.value, point.low, point.high)


_PLAN_COLUMNS = (
    say("plan"), say("strategy"), say("layer runs"), say("depth"),
    say("score"), say("low"), say("high"),
)  # fmt: skip


def _limits(record: SweepRecord) -> list[Text]:
    choice = record.spec.choice
    few = min(record.benchmarks, key=lambda one: one.documents)
    lines = [
        say("One model: nothing here says that another one would answer alike."),
        say(
            "{benchmark} has {documents} documents here; intervals are over documents and say nothing about other texts.",
            benchmark=few.name, documents=few.documents,
        ),
        say("The best plan, loop count or block is chosen on the documents that it is scored on."),
    ]  # fmt: skip
    lines += [
        say("On {benchmark} the whole model is not better than chance, so it has no part in normalised scores.", benchmark=name)
        for name in benchmarks_of(record.rows)
        if not whole_model(points_of(record.rows, name)).beats_chance
    ]  # fmt: skip
    if not choice.protect:
        lines.append(
            say("No layer was kept in place: a cut through the layers that write an attention sink may decide much of this; compare with --protect auto.")
        )  # fmt: skip
    return [*lines, *(note for one in record.benchmarks for note in one.notes)]


def _cost(record: SweepRecord) -> tuple[Row, ...]:
    cost = record.cost
    batches = sum(one.batches for one in record.benchmarks)
    return (
        Row(say("plans"), str(cost["plans"])),
        Row(say("layer runs asked for, over each batch"), f"{cost['asked']:,}"),
        Row(say("layer runs done, over each batch"), f"{cost['done']:,}"),
        Row(say("batches"), str(batches)),
        Row(say("time"), f"{record.seconds:.0f} s"),
    )
