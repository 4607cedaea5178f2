"""What the report of Painters says in words and tables: summary, one section for each question, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence, Outcome, Verdict, judge
from glassworks.experiments.painters.claims import CLAIMS
from glassworks.experiments.painters.drawings_beyond import cuts, kept_layers
from glassworks.experiments.painters.judging import PLATEAU
from glassworks.experiments.painters.questions import QUESTIONS, Question
from glassworks.experiments.painters.tables import (
    RANKING,
    Strategies,
    Table,
    benchmarks,
    in_range,
    mean_row,
    strategy_name,
)
from glassworks.experiments.telling import summary_of, told
from glassworks.figures import Figure
from glassworks.report import page
from glassworks.report.page import Section, SummaryLine

if TYPE_CHECKING:
    from glassworks.experiments.painters.spec import Painters

# The section that shows what a claim is about.
ANCHORS = {f"painters.{claim}": question.key for question in QUESTIONS for claim in question.claims}
# What a reader should know first, in the order of the paper.
HEADLINES = tuple(
    f"painters.{key}"
    for key in (
        "same-space", "some-can-go", "not-the-same", "order-beats-skip", "parallel-works", "tasks-differ", "best-loops",
        "ranking", "sink-carries",
    )
)  # fmt: skip
# Of the published code's own results these two can be read as numbers (Llama 2 7B, layers 15 to 17 left out).
KNOWN = {"accuracy": 0.7270, "perplexity": 3.5034}
KNOWN_BENCHMARK, KNOWN_MIDDLE = "lambada_openai", 3
RETAINED = (0.95, 0.9, 0.8)


def summary(evidence: Evidence) -> list[SummaryLine]:
    """How many claims hold, the headlines, and every claim that fails."""
    return summary_of(CLAIMS, evidence, HEADLINES, ANCHORS)


def sections(evidence: Evidence, figures: Mapping[str, Figure], decoder: str) -> list[Section]:
    """One section a question, answered or not: question, the paper's answer, ours with verdicts, what stays open."""
    verdicts = {verdict.claim: verdict for verdict in judge(CLAIMS, evidence)}
    return [_section(question, evidence, figures, (verdicts, decoder)) for question in QUESTIONS]


def _section(
    question: Question,
    evidence: Evidence,
    figures: Mapping[str, Figure],
    known: tuple[Mapping[str, Verdict], str],
) -> Section:
    verdicts, decoder = known
    found = [verdicts[f"painters.{claim}"] for claim in question.claims]
    shown = tuple(figures[name] for name in question.figures if name in figures)
    paragraphs = (
        say("The paper: {answer}", answer=question.answered),
        say("Measured here: {what}", what=question.measured),
        *(say("{word}. {told}", word=_word(verdict), told=told(verdict)) for verdict in found),
        say("What this does not show: {limit}", limit=question.leaves_open),
    )
    return Section(question.key, question.asks, paragraphs, shown, _tables(question.key, evidence, decoder))


def _word(verdict: Verdict) -> Text:
    match verdict.outcome:
        case Outcome.HOLDS:
            return say("HOLDS")
        case Outcome.HOLDS_IN_PART:
            return say("HOLDS IN PART")
        case Outcome.FAILS:
            return say("FAILS")
        case Outcome.UNDECIDED:
            return say("UNDECIDED")


def _tables(key: str, evidence: Evidence, decoder: str) -> tuple[page.Table, ...]:
    match key:
        case "question-1" if "similarity" in evidence:
            return (_cosines(evidence),)
        case "question-2":
            return (*([_retained(evidence)] if _has_strategies(evidence, "strategies") else []), *_cuts(evidence))
        case "question-6" if benchmarks(evidence):
            return (_benchmarks(evidence), *_published(evidence, decoder))
        case "question-8" if _has_strategies(evidence, "strategies"):
            return (_areas(evidence), _nats(evidence))
        case "sink-study" if _has_strategies(evidence, "protected"):
            return (_gains(evidence),)
        case _:
            return ()


def _has_strategies(evidence: Evidence, name: str) -> bool:
    return name in evidence and f"{name}_random" in evidence


def _cosines(evidence: Evidence) -> page.Table:
    """Mean and minimum of each definition over the plateau."""
    found = evidence["similarity"]
    states = found.along("state")
    depth = len(states) - 1
    inside = np.flatnonzero((states >= PLATEAU[0] * depth) & (states <= PLATEAU[1] * depth))
    rows = [
        (str(name), *_mean_and_least(found.at(definition=name).values[np.ix_(inside, inside)]))
        for name in found.coords["definition"]
        if name != "angular_distance"
    ]
    return page.Table(
        "plateau",
        say("Similarity among the states of layers 0.4 T to 0.9 T"),
        (say("definition"), say("mean"), say("smallest")),
        tuple(rows),
        say(
            "Pairs of different layers. One token far longer than the others brings the flat cosine near 1 whatever the others do."
        ),
    )


def _mean_and_least(block: np.ndarray) -> tuple[float, float]:
    pairs = block[~np.eye(len(block), dtype=bool)]
    return (float(pairs.mean()), float(pairs.min())) if pairs.size else (float("nan"), float("nan"))


def _retained(evidence: Evidence) -> page.Table:
    """How many layers each strategy may affect before its score falls below a level for the first time."""
    found = Strategies.of(evidence, "strategies")
    # One affected layer is no middle yet: all strategies but two are the whole model there.
    middles = np.sort(found.affected[found.affected > 1])
    rows: list[tuple[page.Cell, ...]] = []
    for name in RANKING:
        scores = found.scores(name)[np.argsort(found.affected)][-len(middles) :]
        counts = [_leading(scores >= level) for level in RETAINED]
        rows.append((strategy_name(name), *(int(middles[count - 1]) if count else None for count in counts)))
    return page.Table(
        "retained",
        say("How many layers may be affected"),
        (say("strategy"), *(say("score of at least {level}", level=level) for level in RETAINED)),
        tuple(rows),
        say(
            "The largest M up to which the normalised score never falls below the level; a dash: it does at the smallest."
        ),
    )


def _leading(is_good: np.ndarray) -> int:
    """How many entries at the beginning are true."""
    return int(np.argmin(is_good)) if not is_good.all() else len(is_good)


def _cuts(evidence: Evidence) -> tuple[page.Table, ...]:
    if "dropped" not in evidence or np.isnan(evidence["dropped_full"].values).any():
        return ()
    sizes, best, centred = cuts(Table.of(evidence, "dropped"))
    rows = tuple((int(n), float(top), float(middle)) for n, top, middle in zip(sizes, best, centred, strict=True))
    columns = (say("layers left out"), say("best block anywhere"), say("block in the centre"))
    return (
        page.Table(
            "cuts", say("Where to cut"), columns, rows, say("Normalised scores; the best is chosen on the text shown.")
        ),
    )


def _benchmarks(evidence: Evidence) -> page.Table:
    """What 1 and 0 stand for on each benchmark, and each strategy's area."""
    rows: list[tuple[page.Cell, ...]] = []
    for name in benchmarks(evidence):
        found = Strategies.of(evidence, f"tasks_{name}")
        scale = found.fixed
        areas = found.areas()
        numbers = [scale.quantity(one) for one in ("full", "chance")]
        rows.append(
            (name, scale.scale.unit, *numbers, int(scale.quantity("documents")), *(areas[one] for one in RANKING))
        )
    return page.Table(
        "benchmarks",
        say("The benchmarks, and the area of each strategy"),
        (
            say("benchmark"), say("metric"), say("whole model"), say("chance"), say("questions"),
            *(strategy_name(name) for name in RANKING),
        ),
        tuple(rows),
        say("Areas are means of normalised scores over middles of 3 to 2T/3 layers; a dash: the whole model is not better than chance."),
    )  # fmt: skip


def _published(evidence: Evidence, decoder: str) -> tuple[page.Table, ...]:
    """The few end-to-end numbers of the published code that can be read, beside ours; for its own model only."""
    if decoder != "llama-2-7b" or f"tasks_{KNOWN_BENCHMARK}" not in evidence:
        return ()
    table = Strategies.of(evidence, f"tasks_{KNOWN_BENCHMARK}")
    at = np.flatnonzero(table.affected == KNOWN_MIDDLE)
    ours = table.fixed.value(float(table.scores("skip")[at[0]])) if at.size else None
    rows = (
        (say("LAMBADA, accuracy, middle of 3 left out"), KNOWN["accuracy"], ours),
        (say("LAMBADA, perplexity, middle of 3 left out"), KNOWN["perplexity"], None),
    )
    columns = (say("what"), say("published code's log"), say("here"))
    return (page.Table("published", say("The published numbers"), columns, rows),)


def _areas(evidence: Evidence) -> page.Table:
    """Area of each strategy with its interval, best first, and its place in the paper."""
    found = Strategies.of(evidence, "strategies")
    intervals = {
        name: found.fixed.interval(lambda scores: float(scores[0]), [found.area(name)]) for name in found.names
    }
    best_first = sorted(intervals, key=lambda name: -np.nan_to_num(intervals[name].mean, nan=-np.inf))
    rows = tuple(
        (strategy_name(name), str(intervals[name]), RANKING.index(name) + 1 if name in RANKING else None)
        for name in best_first
    )
    return page.Table(
        "areas",
        say("Areas, best first"),
        (say("strategy"), say("area [95 % interval]"), say("place in the paper")),
        rows,
        say(
            "Mean normalised score over middles of 3 to 2T/3 layers; intervals over windows of text. Strategies without a place are ours."
        ),
    )


def _nats(evidence: Evidence) -> page.Table:
    """The benchmark's own numbers behind the normalised scores."""
    found = Strategies.of(evidence, "strategies")
    order = np.argsort(found.affected)
    rows = tuple(
        (int(found.affected[place]), *(found.fixed.value(float(found.scores(name)[place])) for name in found.names))
        for place in order
    )
    whole, chance = (found.fixed.quantity(one) for one in ("full", "chance"))
    return page.Table(
        "nats",
        say("Nats per token"),
        (say("M"), *(strategy_name(name) for name in found.names)),
        rows,
        say(
            "Whole model {whole}, chance {chance}, {tokens} tokens scored. Random order: mean over seeds.",
            whole=f"{whole:.3f}", chance=f"{chance:.3f}", tokens=int(found.fixed.quantity("targets")),
        ),
    )  # fmt: skip


def _gains(evidence: Evidence) -> page.Table:
    """Areas without and with the sink's layers kept, and the control's, over the starts that all have."""
    tables = {"strategies": Strategies.of(evidence, "strategies"), "protected": Strategies.of(evidence, "protected")}
    if _has_strategies(evidence, "control"):
        tables["control"] = Strategies.of(evidence, "control")
    common = np.array(sorted(set.intersection(*({*one.affected} for one in tables.values()))))
    common = common[in_range(common, tables["strategies"].layers)] if common.size else common

    def area(name: str, strategy: str) -> float | None:
        if name not in tables or strategy not in tables[name].names:
            return None
        one = tables[name]
        return float(mean_row(one.rows(strategy)[np.isin(one.affected, common)]).sum())

    rows = tuple(
        (strategy_name(s), *(area(name, s) for name in ("strategies", "protected", "control"))) for s in RANKING
    )
    layers = kept_layers(evidence)
    return page.Table(
        "kept-in-place",
        say("Areas with layers kept in place"),
        (say("strategy"), say("nothing kept"), say("sink's layers kept"), say("as many others kept")),
        rows,
        say("Sink's layers: {kept}; others: {others}.", kept=layers["kept"], others=layers["control"]),
    )


def limits(painters: Painters) -> list[Text]:
    """What this report does not show."""
    found = [
        say(
            "One decoder ({model}, in {precision}) speaks here; the paper's are Llama 2, Mistral and Pythia. At laptop scale it is a chat model of 135 million parameters whose 4-bit weights were widened: it is weak on all benchmarks.",
            model=painters.decoder, precision=painters.precision,
        ),
        say(
            "The strategies are scored on {windows} windows of {window} tokens, large plan sets on {few}: differences within the intervals are no differences, and those cover text, not models.",
            windows=painters.windows, window=painters.window, few=painters.short_windows,
        ),
        say("Benchmarks have {count} questions each at most, and {seeds} random orders.", count=painters.questions, seeds=min(painters.task_seeds, len(painters.seeds))),
        say("GSM8K asks for generated text and is not swept; the median over benchmarks has other members than the paper's five."),
        say("The areas, their range and every threshold are ours: the paper gives pictures without numbers. They were fixed before these runs, after a prototype had measured the same model on other text."),
        say("No timing: what parallel layers could save needs memory and hardware for all of them at once."),
    ]  # fmt: skip
    return found
