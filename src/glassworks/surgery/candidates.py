"""Plans that a search tries next: single removals, mutations, removals in a given order; no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.surgery.plans import Layer, Parallel, Plan, Stage, parallel
from glassworks.surgery.specs import Mutation

# A mutated plan changes in at most so many places; few are likelier than many, as in EvoPress.
MOST_CHANGES = 3

Stages = tuple[Stage, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class Room:
    """What a plan may be: of so many layers and layer runs, with some layers once, untouched and in their order."""

    depth: int
    budget: int
    protected: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        beyond = sorted(number for number in self.protected if not 0 <= number < self.depth)
        if beyond:
            raise InvalidInput(
                say("this model has no layer {number}", number=beyond[0]),
                right=say("layers 0 to {last}", last=self.depth - 1),
            )
        if self.budget < max(1, len(self.protected)):
            raise InvalidInput(
                say("{budget} layer runs cannot hold all protected layers", budget=self.budget),
                right=say("at least {count}", count=max(1, len(self.protected))),
            )

    def may_change(self, stage: Stage) -> bool:
        """Whether no protected layer is in a stage."""
        return self.protected.isdisjoint(Plan((stage,)).executions)


def removals(plan: Plan, room: Room) -> list[Plan]:
    """Every plan with one stage less, different ones once; protected layers stay."""
    found = [
        Plan((*plan.stages[:place], *plan.stages[place + 1 :]))
        for place, stage in enumerate(plan.stages)
        if len(plan) > 1 and room.may_change(stage)
    ]
    return list(dict.fromkeys(found))


def removed_in_order(depth: int, order: Sequence[int], least: int) -> list[Plan]:
    """The plans left when layers go in a given order, one after the other, down to so many layers."""
    counts = range(1, depth - least + 1)
    return [Plan.of(number for number in range(depth) if number not in order[:count]) for count in counts]


def random_plan(room: Room, chance: np.random.Generator) -> Plan:
    """Layers left out (or run twice) at random until the budget is met."""
    return Plan(_fitted(Plan.identity(room.depth).stages, room, chance))


def mutated(plan: Plan, room: Room, mutations: Sequence[Mutation], chance: np.random.Generator) -> Plan:
    """A plan with one to three changes, of the budget's layer runs again."""
    stages = plan.stages
    for _ in range(min(chance.integers(1, MOST_CHANGES + 1, size=2))):
        stages = _CHANGES[_one_of(mutations, chance)](stages, room, chance)
    return Plan(_fitted(stages, room, chance))


def _drop(stages: Stages, room: Room, chance: np.random.Generator) -> Stages:
    """One run for a layer that is left out, which comes back to its own place."""
    unused = Plan(stages).unused(room.depth)
    shorter = _without_one(stages, room, chance)
    return _put_back(shorter, unused, chance) if unused else shorter


def _swap(stages: Stages, room: Room, chance: np.random.Generator) -> Stages:
    place = _pair(stages, room, chance)
    if place is None:
        return stages
    return (*stages[:place], stages[place + 1], stages[place], *stages[place + 2 :])


def _duplicate(stages: Stages, room: Room, chance: np.random.Generator) -> Stages:
    """A stage run a second time, right after itself."""
    places = [place for place, stage in enumerate(stages) if room.may_change(stage)]
    if not places:
        return stages
    place = _one_of(places, chance)
    return (*stages[: place + 1], *stages[place:])


def _group(stages: Stages, room: Room, chance: np.random.Generator) -> Stages:
    """Two neighbours side by side; or, as often where there are any, a parallel stage one after the other again."""
    grouped = [place for place, stage in enumerate(stages) if isinstance(stage, Parallel) and room.may_change(stage)]
    if grouped and chance.random() < 0.5:
        place = _one_of(grouped, chance)
        apart = [one for branch in _branches(stages[place]) for one in branch]
        return (*stages[:place], *apart, *stages[place + 1 :])
    place = _pair(stages, room, chance)
    if place is None:
        return stages
    both = [*_branches(stages[place]), *_branches(stages[place + 1])]
    together = parallel(both) if len(set(both)) == len(both) else stages[place : place + 2]
    return (*stages[:place], *together, *stages[place + 2 :])


_CHANGES: dict[Mutation, Callable[[Stages, Room, np.random.Generator], Stages]] = {
    "drop": _drop,
    "swap": _swap,
    "duplicate": _duplicate,
    "group": _group,
}


def _fitted(stages: Stages, room: Room, chance: np.random.Generator) -> Stages:
    """The stages with runs taken away or added at random until there are as many as the budget says."""
    while (runs := Plan(stages).layer_runs) != room.budget:
        unused = Plan(stages).unused(room.depth)
        if runs > room.budget:
            changed = _without_one(stages, room, chance)
        elif unused:
            changed = _put_back(stages, unused, chance)
        else:
            changed = _duplicate(stages, room, chance)
        if changed == stages:
            break
        stages = changed
    return stages


def _without_one(stages: Stages, room: Room, chance: np.random.Generator) -> Stages:
    """One run less: a layer, or one branch of a parallel stage."""
    places = [place for place, stage in enumerate(stages) if room.may_change(stage)]
    if not places or Plan(stages).layer_runs == 1:
        return stages
    place = _one_of(places, chance)
    branches = _branches(stages[place])
    out = chance.integers(len(branches))
    left = parallel([branch for number, branch in enumerate(branches) if number != out]) if len(branches) > 1 else ()
    return (*stages[:place], *left, *stages[place + 1 :])


def _put_back(stages: Stages, unused: Sequence[int], chance: np.random.Generator) -> Stages:
    """A layer that is left out, before the first stage of later layers."""
    number = _one_of(unused, chance)
    later = (place for place, stage in enumerate(stages) if min(Plan((stage,)).executions) > number)
    place = next(later, len(stages))
    return (*stages[:place], Layer(number), *stages[place:])


def _pair(stages: Stages, room: Room, chance: np.random.Generator) -> int | None:
    """The place of the first of two neighbours that may both change."""
    may = [room.may_change(stage) for stage in stages]
    places = [place for place in range(len(stages) - 1) if may[place] and may[place + 1]]
    return _one_of(places, chance) if places else None


def _branches(stage: Stage) -> list[Stages]:
    return [(stage,)] if isinstance(stage, Layer) else list(stage.branches)


def _one_of(found: Sequence[T], chance: np.random.Generator) -> T:
    return found[int(chance.integers(len(found)))]
