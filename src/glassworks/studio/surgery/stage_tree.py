"""Plans for the cards of a page: a text read into stages, presets made, what a plan costs; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.core.text import Text, say
from glassworks.surgery.families import (
    Family,
    LoopedParallel,
    MiddleRepeat,
    ParallelMiddle,
    RandomOrder,
    Reverse,
    SkipMiddle,
)
from glassworks.surgery.plans import Plan

# A page with more layer runs than this could neither be read nor answered while a person waits.
MOST_RUNS = 2_000
MOST_SIGNS = 20_000
DEEPEST = 2_000


@dataclass(frozen=True)
class Preset:
    """A strategy of the painters study as the page offers it; `uses` names the settings that change it."""

    name: str
    title: Text
    about: Text
    uses: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Plain data for the page."""
        return {"name": self.name, "title": self.title, "about": self.about, "uses": list(self.uses)}


PRESETS = (
    Preset("skip", say("skip the middle"), say("leaves the middle layers out")),
    Preset("middle_repeat", say("repeat the centre layer"), say("the centre layer runs in place of each middle layer")),
    Preset("reverse", say("reverse the middle"), say("the middle layers run backwards")),
    Preset("random", say("random order"), say("the middle layers in an order drawn by the seed"), ("seed",)),
    Preset("parallel", say("parallel middle"), say("the middle layers side by side; their outputs are averaged")),
    Preset("looped", say("looped parallel"), say("the parallel middle, fed to itself several times"), ("loops",)),
)


def told(plan: Plan, depth: int) -> dict[str, Any]:
    """The plan's one text, what it costs, and the layers that it never runs."""
    return {
        **plan.to_json(),
        "unused": list(plan.unused(depth)),
        "is_sequential": plan.is_sequential,
        "is_whole": plan == Plan.identity(depth),
    }


def read(text: str, depth: int) -> Plan:
    """A plan that was typed; InvalidInput marks the place of a mistake, or says that the plan is too long to try."""
    if len(text) > MOST_SIGNS:
        raise InvalidInput(
            say("the plan is too long"), given=len(text), right=say("at most {count} signs", count=MOST_SIGNS)
        )
    plan = Plan.parse(text, depth)
    if plan.layer_runs > MOST_RUNS:
        raise InvalidInput(
            say("the plan is too long"), given=plan.layer_runs, right=say("at most {count} layer runs", count=MOST_RUNS)
        )
    return plan


def preset(name: str, depth: int, affected: int, *, seed: int = 0, loops: int = 3) -> Plan:
    """The plan of a strategy that rearranges `affected` middle layers; InvalidInput where there is no such middle."""
    starts = starts_of(depth)
    if affected not in starts:
        raise InvalidInput(
            say("no middle of {count} layers in a stack of {depth}", count=affected, depth=depth),
            right=say("one of {known}", known=", ".join(map(str, starts)) or "-"),
        )
    [found] = _family(name, starts[affected], seed, loops).variants(depth)
    return found.plan


def starts_of(depth: int) -> Mapping[int, int]:
    """For each possible number of middle layers the start that leaves it, the smallest middle first (painters.md 1)."""
    return {depth - 2 * start - 1: start for start in range(depth // 2 - 1, -1, -1) if depth - 2 * start - 1 > 0}


def _family(name: str, start: int, seed: int, loops: int) -> Family:
    starts = (start,)
    match name:
        case "skip":
            return SkipMiddle(starts=starts)
        case "middle_repeat":
            return MiddleRepeat(starts=starts)
        case "reverse":
            return Reverse(starts=starts)
        case "random":
            return RandomOrder(starts=starts, seeds=(seed,))
        case "parallel":
            return ParallelMiddle(starts=starts)
        case "looped":
            return LoopedParallel(starts=starts, loops=(loops,))
        case other:
            raise UnknownName("preset", other, [one.name for one in PRESETS])
