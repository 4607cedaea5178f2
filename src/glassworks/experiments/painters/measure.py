"""What each study of Painters measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from glassworks.anatomy import Subject
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.painters.sweeps import (
    Found,
    Labels,
    loaded,
    numbers,
    published,
    stacked,
    swept,
    task_evals,
    text_evals,
    windows_of,
)
from glassworks.experiments.painters.tables import MAIN_LOOPS
from glassworks.instruments.similarity import Similarity
from glassworks.instruments.sinks import SinkNorms, Sinks, find_sinks
from glassworks.surgery.choice import SweepChoice
from glassworks.surgery.families import inversions
from glassworks.surgery.plans import Variant

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.painters.spec import Painters


def measure(painters: Painters, study: str, bench: Bench) -> Sequence[Measurement]:
    """The measurements of one study."""
    # They build on what stands below.
    from glassworks.experiments.painters.measure_cache import cache_study
    from glassworks.experiments.painters.measure_trained import encoder_decoder_study, encoder_study, healing_study

    studies: dict[str, Callable[[Painters, Bench], Sequence[Measurement]]] = {
        "single": _single,
        "strategies": _strategies,
        "protected": _protected,
        "loops": _loops,
        "order": _order,
        "tasks": _tasks,
        "blocks": _blocks,
        "similarity": _similarity,
        "cache": cache_study,
        "encoder": encoder_study,
        "healing": healing_study,
        "encoder_decoder": encoder_decoder_study,
    }
    return studies[study](painters, bench)


def strategy_tables(found: Found, name: str, says: Text) -> list[Measurement]:
    """Two tables of a sweep over the middle layers: strategies without chance, and random orders with their seeds."""

    def fixed(one: Variant) -> Labels | None:
        is_main = one.strategy != "looped" or one.loops == MAIN_LOOPS
        return (one.strategy, middle_of(found, one)) if one.start is not None and one.seed is None and is_main else None

    def shuffled(one: Variant) -> Labels | None:
        return None if one.seed is None else (one.seed, middle_of(found, one))

    return [
        *stacked(found, name, says, ("strategy", "affected"), fixed),
        *stacked(found, f"{name}_random", say("random orders of the middle layers"), ("seed", "affected"), shuffled),
    ]


def middle_of(found: Found, one: Variant) -> int:
    """M of a variant's start, layers kept in place counted in (painters.md 1)."""
    assert one.start is not None, "strategies on a middle have a start"
    return found.depth - 2 * one.start - 1


def start_near(depth: int, middle: int | float) -> int:
    """The start whose middle is nearest to so many layers, at least 2."""
    starts = [start for start in range(depth // 2) if depth - 2 * start - 1 >= 2] or [0]
    return min(starts, key=lambda start: (abs(depth - 2 * start - 1 - middle), start))


def _decoder(painters: Painters, bench: Bench) -> Subject:
    return loaded(painters.decoder, bench, painters.precision)


def _text_sweep(painters: Painters, bench: Bench, plans: str, windows: int) -> Found:
    choice = SweepChoice(plans=plans, evals=text_evals(painters, windows))
    return swept(_decoder(painters, bench), choice, bench)


def _single(painters: Painters, bench: Bench) -> list[Measurement]:
    found = _text_sweep(painters, bench, "skip_one,switch", painters.windows)

    def label(one: Variant) -> Labels | None:
        return None if one.start is None else (one.strategy, one.start)

    return stacked(found, "single", say("one layer skipped, or exchanged with the next"), ("strategy", "layer"), label)


def _all_strategies(painters: Painters) -> str:
    return f"{published(painters.seeds)},middle_repeat:scaled=true,parallel:combine=sum"


def _strategies(painters: Painters, bench: Bench) -> list[Measurement]:
    found = _text_sweep(painters, bench, _all_strategies(painters), painters.windows)
    return strategy_tables(found, "strategies", say("strategies on the middle layers"))


def _protected(painters: Painters, bench: Bench) -> list[Measurement]:
    """The strategies with the sink's layers kept in place, and a control that keeps as many others."""
    subject = _decoder(painters, bench)
    sinks = find_sinks(subject, [list(ids) for ids in windows_of(subject, painters, painters.texts)])
    kept, others = sinks.protected, beside(sinks.protected, subject.anatomy.depth)
    made = [_kept(sinks, others, subject.anatomy.depth)]
    evals = text_evals(painters, painters.windows)
    if kept:
        choice = SweepChoice(plans=_all_strategies(painters), evals=evals, protect=kept)
        says = say("strategies with the layers that write or erase the attention sink kept in place")
        made += strategy_tables(swept(subject, choice, bench), "protected", says)
    if others:
        choice = SweepChoice(plans=f"skip,reverse,random:seeds={numbers(painters.seeds)}", evals=evals, protect=others)
        says = say("a control: as many other layers kept in place")
        made += strategy_tables(swept(subject, choice, bench), "control", says)
    return made


def beside(kept: Sequence[int], depth: int) -> tuple[int, ...]:
    """As many other layers: for each one kept, the nearest that is free, rather towards the centre."""
    chosen: list[int] = []
    for layer in kept:
        free = [one for one in range(1, depth) if one not in kept and one not in chosen]
        if free:
            chosen.append(min(free, key=lambda one: (abs(one - layer), abs(one - depth // 2))))
    return tuple(sorted(chosen))


def _kept(sinks: Sinks, others: Sequence[int], depth: int) -> Measurement:
    roles = {"writes": sinks.writers, "erases": sinks.erasers, "control": others}
    values = np.array([[float(layer in layers) for layer in range(depth)] for layers in roles.values()])
    return Measurement(
        "kept", say("which layers are kept in place, and why"), values, ("role", "layer"),
        {"role": tuple(roles), "layer": tuple(range(depth))}, "1 is yes",
    )  # fmt: skip


def _loops(painters: Painters, bench: Bench) -> list[Measurement]:
    plans = f"looped:loops={numbers(painters.loops)},scaled:gains={numbers(painters.gains)}"
    found = _text_sweep(painters, bench, plans, painters.short_windows)

    def looped(one: Variant) -> Labels | None:
        return (middle_of(found, one), one.loops) if one.strategy == "looped" else None

    def scaled(one: Variant) -> Labels | None:
        return (middle_of(found, one), float(one.gain)) if one.strategy == "scaled" and one.gain else None

    return [
        *stacked(found, "loops", say("the parallel middle, looped"), ("affected", "loops"), looped),
        *stacked(found, "scaled", say("one parallel step, its mean update scaled"), ("affected", "gain"), scaled),
    ]


def _order(painters: Painters, bench: Bench) -> list[Measurement]:
    subject = _decoder(painters, bench)
    depth = subject.anatomy.depth
    starts = sorted({start_near(depth, depth / divisor) for divisor in (4, 3, 2)})
    plans = f"inversions:starts={numbers(starts)}&shares={numbers(painters.shares)}"
    choice = SweepChoice(plans=plans, evals=text_evals(painters, painters.short_windows))
    found = swept(subject, choice, bench)

    def label(one: Variant) -> Labels | None:
        return None if one.gain is None or one.seed is None else (middle_of(found, one), one.gain, one.seed)

    dims = ("affected", "share", "seed")
    made = stacked(found, "order", say("middle orders with a given share of all inversions"), dims, label)
    counts = np.full(made[0].values.shape[:-1], np.nan)
    for one in found.order.variants:
        labels = label(one)
        if labels is not None:
            place = tuple(made[0].coords[dim].index(name) for dim, name in zip(dims, labels, strict=True))
            counts[place] = inversions(one.plan.executions)
    coords = {dim: made[0].coords[dim] for dim in dims}
    return [*made, Measurement("inversions", say("pairs of layers out of order"), counts, dims, coords, "pairs")]


def _tasks(painters: Painters, bench: Bench) -> list[Measurement]:
    choice = SweepChoice(plans=published(painters.seeds[: painters.task_seeds]), evals=task_evals(painters))
    found = swept(_decoder(painters, bench), choice, bench)
    return strategy_tables(found, "tasks_{benchmark}", say("strategies on a benchmark"))


def _blocks(painters: Painters, bench: Bench) -> list[Measurement]:
    plans = f"drop_block:most={painters.longest_block},repeat_block"
    found = _text_sweep(painters, bench, plans, painters.short_windows)

    def of(strategy: str) -> Callable[[Variant], Labels | None]:
        def label(one: Variant) -> Labels | None:
            return (one.start or 0, one.second or 0) if one.strategy == strategy else None

        return label

    return [
        *stacked(found, "dropped", say("layers i to j left out"), ("first", "last"), of("drop_block")),
        *stacked(found, "repeated", say("layers i to j run twice"), ("first", "last"), of("repeat_block")),
    ]


def _similarity(painters: Painters, bench: Bench) -> list[Measurement]:
    subject = loaded(painters.decoder, bench)
    batch = subject.batch([list(ids) for ids in windows_of(subject, painters, painters.texts)])
    return [Similarity().read(subject, batch), SinkNorms().read(subject, batch)]
