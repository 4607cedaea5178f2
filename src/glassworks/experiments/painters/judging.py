"""How each claim of Painters is judged (painters.md 4): thresholds fixed before the numbers; a changed one is a new claim.

Each test reads measurements only, so that a verdict can be reached again without torch. Numbers that do not exist
(NaN: no start in the range, a model no better than chance) leave a claim UNDECIDED, and so does a difference that is
not above 0 while its interval reaches there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence, Finding, Outcome
from glassworks.evidence.statistics import Interval, interval_over_seeds, rank_correlation
from glassworks.experiments.deciding import judged_by_lead, judged_by_level, judged_together
from glassworks.experiments.painters.tables import (
    RANKING,
    Strategies,
    Table,
    apart,
    best_loops,
    in_range,
    interval_of,
    mean_row,
    strategy_name,
)

Test = Callable[[Evidence], Finding]

AREA, SCORE = "area", "score"
_NO_NUMBER = say(
    "there is no number: the whole model is not better than chance, or it has too few layers for the range in question"
)
SINGLE_MIDDLE = (0.2, 0.8)
PLATEAU = (0.4, 0.9)


def _three(value: float) -> str:
    return f"{value:.3f}"


def same_space(evidence: Evidence) -> Finding:
    """The median score of skipping or switching in the middle, and the first layer's."""
    table = Table.of(evidence, "single")
    layers = table.parts.along("layer")
    low, high = (share * table.layers for share in SINGLE_MIDDLE)
    skipped = table.rows(strategy="skip_one")[(layers >= low) & (layers < high)]
    switched = table.rows(strategy="switch")[(layers >= low) & (layers + 1 < high)]
    middle = table.interval(lambda scores: float(np.median(scores)), [*skipped, *switched])
    first = float(table.scores(strategy="skip_one", layer=0))
    because = say(
        "skipping or switching in the middle leaves a median score of {middle}, skipping layer 0 one of {first}",
        middle=_three(middle.mean), first=_three(first),
    )  # fmt: skip
    return Finding(judged_by_level(middle.mean, 0.95, 0.9, also=first <= 0.7), middle, SCORE, because)


def cosine_plateau(evidence: Evidence) -> Finding:
    """The smallest flat cosine among the states of the middle."""
    value = smallest_cosine(evidence, "flat")
    because = say("the smallest flat cosine between two layers of the plateau is {value}", value=_three(value))
    return Finding(judged_by_level(value, 0.9, 0.8), _exactly(value), "cosine", because)


def cosine_per_token(evidence: Evidence) -> Finding:
    """The smallest cosine token by token among the same states."""
    value, flat = smallest_cosine(evidence, "per_token_no_sinks"), smallest_cosine(evidence, "flat")
    because = say(
        "token by token and without the sink the smallest cosine is {value}; flat it was {flat}",
        value=_three(value), flat=_three(flat),
    )  # fmt: skip
    return Finding(judged_by_level(value, 0.7, 0.5), _exactly(value), "cosine", because)


def smallest_cosine(evidence: Evidence, definition: str) -> float:
    """The smallest similarity among the states after layers 0.4 T to 0.9 T."""
    found = evidence["similarity"].at(definition=definition)
    states = found.along("state")
    depth = len(states) - 1
    inside = (states >= PLATEAU[0] * depth) & (states <= PLATEAU[1] * depth)
    return float(found.values[np.ix_(inside, inside)].min()) if inside.any() else math.nan


def some_can_go(evidence: Evidence) -> Finding:
    """The best score of skipping at least three layers, and how many may go."""
    found = Strategies.of(evidence, "strategies")
    large = found.affected >= 3
    rows, affected = found.rows("skip")[large], found.affected[large]
    if not len(rows):
        return _nothing(SCORE)
    best = found.fixed.interval(lambda scores: float(scores.max()), list(rows))
    scores = rows.sum(-1)
    because = say(
        "with {count} middle layers left out the score is {score}; {most} may go before it falls below 0.9",
        count=int(affected[scores.argmax()]), score=_three(best.mean),
        most=int(found.affected[found.scores("skip") >= 0.9].max(initial=0)),
    )  # fmt: skip
    return Finding(judged_by_level(best.mean, 0.9, 0.8), best, SCORE, because)


def not_the_same(evidence: Evidence) -> Finding:
    """The area of the repeated centre layer against every other strategy's."""
    found = Strategies.of(evidence, "strategies")
    others = [name for name in RANKING if name != "middle_repeat"]
    leads = {name: found.difference(name, "middle_repeat") for name in others}
    closest = min(leads, key=lambda name: leads[name].mean)
    because = say(
        "the repeated centre layer has area {own}, the next worst strategy ({next}) {other}",
        own=_three(found.areas()["middle_repeat"]), next=strategy_name(closest), other=_three(found.areas()[closest]),
    )  # fmt: skip
    return Finding(judged_together(list(leads.values()), len(leads) - 1), leads[closest], AREA, because)


def _lead(evidence: Evidence, first: str, second: str) -> Finding:
    """Whether one strategy's area is above another's."""
    found = Strategies.of(evidence, "strategies")
    lead, areas = found.difference(first, second), found.areas()
    return Finding(judged_by_lead(lead), lead, AREA, _areas(areas, (first, second)))


def _areas(areas: dict[str, float], names: Sequence[str]) -> Text:
    first, *others = (say("{name} {value}", name=strategy_name(name), value=_three(areas[name])) for name in names)
    return say(
        "areas: {list}", list=reduce(lambda all_, one: say("{list}, {next}", list=all_, next=one), others, first)
    )


def random_beats_reverse(evidence: Evidence) -> Finding:
    """Random against reverse order."""
    return _lead(evidence, "random", "reverse")


def order_beats_skip(evidence: Evidence) -> Finding:
    """Random and reverse order against leaving the middle out."""
    found = Strategies.of(evidence, "strategies")
    leads = [found.difference(name, "skip") for name in ("random", "reverse")]
    smaller = min(leads, key=lambda lead: lead.mean)
    return Finding(judged_together(leads, 1), smaller, AREA, _areas(found.areas(), ("random", "reverse", "skip")))


def inversions(evidence: Evidence) -> Finding:
    """Rank correlation of damage and inversions at each start, the smallest of them."""
    table, counts = Table.of(evidence, "order"), evidence["inversions"]
    rows = table.rows()
    starts, orders = rows.shape[0], rows[0].shape[0] * rows[0].shape[1]
    numbers = counts.values.reshape(starts, orders)

    def correlations(scores: NDArray[np.float64]) -> list[float]:
        damage = 1 - scores.reshape(starts, orders)
        return [rank_correlation(numbers[start], damage[start]) for start in range(starts)]

    smallest = table.interval(
        lambda scores: float(np.min(correlations(scores))), list(rows.reshape(-1, rows.shape[-1]))
    )
    each = ", ".join(
        f"{value:.2f} (M = {middle})"
        for value, middle in zip(correlations(rows.sum(-1)), table.parts.coords["affected"], strict=True)
    )
    because = say("rank correlation of damage and inversions: {each}", each=each)
    return Finding(judged_by_level(smallest.mean, 0.8, 0.5), smallest, "rank correlation", because)


def parallel_works(evidence: Evidence) -> Finding:
    """The parallel middle against leaving it out."""
    return _lead(evidence, "parallel", "skip")


def parallel_below_reverse(evidence: Evidence) -> Finding:
    """Reverse order against the parallel middle."""
    return _lead(evidence, "reverse", "parallel")


def averaged_cache(evidence: Evidence) -> Finding:
    """What the averaged cache adds to the exact one, over sequences."""
    nats = evidence["cache"]
    added = {
        str(name): _over_sequences(
            nats.at(strategy=name, mode="mean").values, nats.at(strategy=name, mode="exact").values
        )
        for name in nats.coords["strategy"]
    }
    because = say(
        "the averaged cache adds {parallel} nats per token to parallel plans and {looped} to looped ones",
        parallel=_three(added["parallel"].mean), looped=_three(added["looped"].mean),
    )  # fmt: skip
    smaller = min(added.values(), key=lambda one: one.mean)
    return Finding(judged_together(list(added.values()), 1), smaller, "nats per token", because)


def _over_sequences(first: NDArray[np.float64], second: NDArray[np.float64]) -> Interval:
    """The mean difference of two [middle, sequence] tables, with its interval over sequences."""
    difference = (first - second).mean(axis=0)
    return interval_of(lambda means: float(means[0]), [difference], np.ones_like(difference))


def tasks_differ(evidence: Evidence) -> Finding:
    """The area of WinoGrande against that of ARC, over the six strategies."""
    areas = {name: _task_area(Strategies.of(evidence, f"tasks_{name}")) for name in ("winogrande", "arc_easy")}
    lead = apart(areas["winogrande"], areas["arc_easy"])
    if math.isnan(lead.low):
        because = say("the whole model is not surely better than chance on both tasks, so there is no scale")
        return Finding(Outcome.UNDECIDED, lead, AREA, because)
    because = say(
        "mean area of the six strategies: WinoGrande {winogrande}, ARC easy {arc}",
        winogrande=_three(float(areas["winogrande"][0].sum())), arc=_three(float(areas["arc_easy"][0].sum())),
    )  # fmt: skip
    return Finding(judged_by_lead(lead), lead, AREA, because)


def _task_area(found: Strategies) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.mean([found.area(name) for name in RANKING], axis=0), found.full


def looping_helps(evidence: Evidence) -> Finding:
    """Three loops against one."""
    return _lead(evidence, "looped", "parallel")


def loops_grow(evidence: Evidence) -> Finding:
    """Rank correlation of the best number of loops with M."""
    table = Table.of(evidence, "loops")
    affected, loops = table.parts.along("affected"), table.parts.along("loops")
    inside = in_range(affected, table.layers)
    rows = table.rows()[inside]

    def correlation(scores: NDArray[np.float64]) -> float:
        best = loops[scores.reshape(rows.shape[:2]).argmax(axis=1)]
        return rank_correlation(affected[inside], best)

    if inside.sum() < 2:
        return _nothing("rank correlation")
    found = table.interval(correlation, list(rows.reshape(-1, rows.shape[-1])))
    middles, best = best_loops(table)
    shown = zip(middles[inside], best[inside], strict=True)
    because = say(
        "best number of loops by M: {pairs}", pairs=", ".join(f"{int(middle)}: {int(count)}" for middle, count in shown)
    )
    return Finding(judged_by_level(found.mean, 0.8, 0.5), found, "rank correlation", because)


def more_than_rescaling(evidence: Evidence) -> Finding:
    """At how many starts the best number of loops beats the best scaled single step."""
    loops, scaled = Table.of(evidence, "loops"), Table.of(evidence, "scaled")
    large = loops.parts.along("affected") >= 5
    # One loop is the single step with factor 1, so it competes on that side too.
    single = np.concatenate([scaled.rows()[large], loops.rows(loops=1)[large][:, None]], axis=1)
    looped = loops.rows()[large]
    if not len(looped):
        return _nothing("share of starts")

    def share(scores: NDArray[np.float64]) -> float:
        by_loops, by_gain = np.split(scores, [looped[..., 0].size])
        best, rival = (part.reshape(len(looped), -1).max(axis=1) for part in (by_loops, by_gain))
        return float((best > rival).mean())

    rows = [*looped.reshape(-1, looped.shape[-1]), *single.reshape(-1, single.shape[-1])]
    found = loops.interval(share, rows)
    because = say(
        "the best number of loops beats the best scaled step at {share} of {count} starts",
        share=f"{found.mean:.0%}", count=len(looped),
    )  # fmt: skip
    return Finding(judged_by_level(found.mean, 0.75, 0.5), found, "share of starts", because)


def ranking(evidence: Evidence) -> Finding:
    """Rank correlation of the six areas with the published order."""
    found = Strategies.of(evidence, "strategies")
    published = -np.arange(len(RANKING), dtype=np.float64)
    rows = [found.area(name) for name in RANKING]
    if np.isnan(rows).any():
        return _nothing("rank correlation")
    agreement = found.fixed.interval(lambda scores: rank_correlation(scores, published), rows)
    areas = found.areas()
    because = _areas(areas, sorted(areas, key=lambda name: -areas[name]))
    return Finding(judged_by_level(agreement.mean, 0.9, 0.6), agreement, "rank correlation", because)


def sink_carries(evidence: Evidence) -> Finding:
    """What skip, reverse and random gain when the sink's layers stay in place."""
    free, kept = Strategies.of(evidence, "strategies"), Strategies.of(evidence, "protected")
    gains = {name: _gain(free, kept, name) for name in ("skip", "reverse", "random")}
    smallest = min(gains.values(), key=lambda one: one.mean)
    because = say(
        "areas gained by keeping the sink's layers: skip {skip}, reverse {reverse}, random {random}",
        **{name: _three(one.mean) for name, one in gains.items()},
    )
    return Finding(judged_together(list(gains.values()), 2), smallest, AREA, because)


def _gain(free: Strategies, kept: Strategies, strategy: str) -> Interval:
    """Area with layers kept in place minus area without, over the starts that both have."""
    common = np.intersect1d(free.affected, kept.affected)
    common = common[in_range(common, free.layers)]
    rows = [mean_row(one.rows(strategy)[np.isin(one.affected, common)]) for one in (kept, free)]
    return free.fixed.interval(lambda scores: float(scores[0] - scores[1]), rows)


def encoder_looped(evidence: Evidence) -> Finding:
    """Looping three times against all other strategies on the encoder, at M = 3."""
    found = Strategies.of(evidence, "encoder")
    if 3 not in found.affected:
        return _nothing("hit rate")
    place = found.affected.tolist().index(3)
    others = [name for name in RANKING if name != "looped"]
    room = found.fixed.quantity("full") - found.fixed.quantity("chance")
    rows = [found.rows(name)[place] for name in ("looped", *others)]
    lead = found.fixed.interval(lambda scores: float(scores[0] - scores[1:].max()) * room, rows)
    hits = {name: found.fixed.value(float(row.sum())) for name, row in zip(("looped", *others), rows, strict=True)}
    best = max(others, key=lambda name: hits[name])
    because = say(
        "hit rate at M = 3: looped {looped}, best of the others ({name}) {other}",
        looped=_three(hits["looped"]), name=strategy_name(best), other=_three(hits[best]),
    )  # fmt: skip
    return Finding(judged_by_level(lead.mean, 0.0, -0.02), lead, "hit rate", because)


def frozen_classifier(evidence: Evidence) -> Finding:
    """What the best rearranged encoder keeps of the whole one's accuracy above chance, over tasks."""
    found = evidence["classifier"]
    chance = evidence["classifier_chance"].values[:, None]
    above = {str(name): (found.at(strategy=name).values - chance).mean(axis=0) for name in found.coords["strategy"]}
    whole = above.pop("full")
    if not above or (whole <= 0).any():
        return _nothing("share")
    best = max(above, key=lambda name: float(above[name].mean()))
    kept = interval_over_seeds(above[best] / whole)
    because = say(
        "the best strategy ({name}) keeps {share} of the whole encoder's accuracy above chance",
        name=strategy_name(best), share=_three(kept.mean),
    )  # fmt: skip
    return Finding(judged_by_level(kept.mean, 0.9, 0.75), kept, "share", because)


def healing(evidence: Evidence) -> Finding:
    """The share of the lost nats that a short training regains."""
    nats = evidence["healing"]
    whole, cut, healed = (nats.at(state=name).values for name in ("whole", "cut", "healed"))
    if (cut <= whole).any():
        return _nothing("share regained")
    regained = interval_over_seeds((cut - healed) / (cut - whole))
    because = say(
        "nats per token on held-out text: whole model {whole}, cut {cut}, healed {healed}; the whole model after the same training {control}",
        whole=_three(float(whole.mean())), cut=_three(float(cut.mean())), healed=_three(float(healed.mean())),
        control=_three(float(nats.at(state="control").values.mean())),
    )  # fmt: skip
    return Finding(judged_by_level(regained.mean, 0.5, 0.25), regained, "share regained", because)


def _exactly(value: float) -> Interval:
    return Interval(value, math.nan, math.nan, 1)


def _nothing(unit: str) -> Finding:
    """The finding where a model has no start in the range that is asked for."""
    return Finding(Outcome.UNDECIDED, Interval(math.nan, math.nan, math.nan, 0), unit, _NO_NUMBER)


def with_number(test: Test) -> Test:
    """The same test; where it found no number it says why there can be none."""

    def tested(evidence: Evidence) -> Finding:
        found = test(evidence)
        return replace(found, because=_NO_NUMBER) if math.isnan(found.value.mean) else found

    return tested
