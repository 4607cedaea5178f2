"""Plan: in which order, how often and side by side which layers run, as a value with a text form.

`0..3 (4 | 5 | 6)x3 7..11` runs layers 0 to 3, then three times the mean of layers 4, 5 and 6, then layers 7 to 11.
Equal plans are one value, however they were written: a plan is kept as its stages in order, the branches of a
parallel stage sorted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say

Combine = Literal["mean", "sum"]


@dataclass(frozen=True)
class Layer:
    """One layer run once: h <- f(h)."""

    number: int

    def __str__(self) -> str:
        return str(self.number)


@dataclass(frozen=True)
class Parallel:
    """Branches that all start from the same stream; their updates are combined.

    With branch outputs f_j(h): h <- h + gain * mean_j(f_j(h) - h), or the sum over j in place of the mean. Mean with
    gain 1 is the published parallel (painters.md 1). `branches` are sorted; each is a sequence of stages.
    """

    branches: tuple[tuple[Stage, ...], ...]
    combine: Combine = "mean"
    gain: float = 1.0

    def __str__(self) -> str:
        inner = " | ".join(_text(branch) for branch in self.branches)
        short = f"{self.gain:g}"
        head = "" if self.gain == 1.0 else f"{short if float(short) == self.gain else repr(self.gain)}*"
        return f"{head}{'sum' if self.combine == 'sum' else ''}({inner})"

    @property
    def members(self) -> tuple[int, ...] | None:
        """The layers, where every branch is a single one; None otherwise."""
        found = [b[0].number for b in self.branches if len(b) == 1 and isinstance(b[0], Layer)]
        return tuple(found) if len(found) == len(self.branches) else None

    @property
    def is_plain_mean(self) -> bool:
        """Whether the result is the mean of the branches' outputs."""
        return self.combine == "mean" and self.gain == 1.0


Stage = Layer | Parallel


def parallel(
    branches: Iterable[Sequence[Stage] | int], combine: Combine = "mean", gain: float = 1.0
) -> tuple[Stage, ...]:
    """The stages of a parallel run in their one form: branches sorted, a lone branch without parentheses."""
    made = [(Layer(branch),) if isinstance(branch, int) else tuple(branch) for branch in branches]
    if len(made) == 1 and gain == 1.0:
        return made[0]
    ordered = tuple(sorted(made, key=lambda branch: ([_order(stage) for stage in branch], _text(branch))))
    return (Parallel(ordered, "mean" if len(made) == 1 else combine, gain),)


@dataclass(frozen=True)
class Plan:
    """A sequence of stages over the layers of one stack; `str(plan)` is its text, `Plan.parse` reads it back."""

    stages: tuple[Stage, ...]

    @classmethod
    def parse(cls, text: str, depth: int | None = None) -> Plan:
        """Reads a plan's text; with `depth` (number of layers) it also checks that every layer is there.

        Raises InvalidInput, marking the place of the mistake.
        """
        # Deferred: the grammar needs the values of this module.
        from glassworks.surgery.grammar import parse

        return cls(parse(text, depth))

    @classmethod
    def identity(cls, depth: int) -> Plan:
        """Every layer once, in order."""
        return cls(tuple(Layer(number) for number in range(depth)))

    @classmethod
    def of(cls, layers: Iterable[int]) -> Plan:
        """A sequential plan from layer numbers."""
        return cls(tuple(Layer(number) for number in layers))

    def __str__(self) -> str:
        return _text(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    @property
    def executions(self) -> tuple[int, ...]:
        """The layer of every execution, in the order in which they own cache slots."""
        return tuple(_executions(self.stages))

    @property
    def layer_runs(self) -> int:
        """How many times a layer is run."""
        return len(self.executions)

    @property
    def critical_depth(self) -> int:
        """Layer runs on the longest path, if all branches of a parallel stage could run at once."""
        return _depth(self.stages)

    @property
    def is_sequential(self) -> bool:
        """Whether it is a plain list of layers, as a checkpoint can hold."""
        return all(isinstance(stage, Layer) for stage in self.stages)

    def unused(self, depth: int) -> tuple[int, ...]:
        """The layers of a stack of `depth` that it never runs."""
        used = set(self.executions)
        return tuple(number for number in range(depth) if number not in used)

    def keeps(self, layer: int) -> bool:
        """Whether a layer runs once, by itself and in its place.

        Its place is behind lower layers only and before higher ones only, or as the n-th execution where n is its number.
        """
        if self.executions.count(layer) != 1 or Layer(layer) not in self.stages:
            return False
        place = self.executions.index(layer)
        before, after = self.executions[:place], self.executions[place + 1 :]
        return place == layer or (all(n < layer for n in before) and all(n > layer for n in after))

    def check(self, depth: int, stack: str = "") -> None:
        """Raises InvalidInput where it names a layer that a stack of `depth` layers has not."""
        beyond = [number for number in self.executions if number >= depth]
        if not self.stages:
            raise InvalidInput(say("the plan is empty"), right=_example(depth))
        if beyond:
            named = say("this model has no layer {number}", number=beyond[0])
            if stack:
                named = say("the {stack} of this model has no layer {number}", stack=stack, number=beyond[0])
            raise InvalidInput(
                named,
                given=str(self),
                right=say("layers 0 to {last}, for example {example}", last=depth - 1, example=_example_text(depth)),
            )

    def to_json(self) -> dict[str, object]:
        """Plain data: the text and what it costs."""
        return {"plan": str(self), "layer_runs": self.layer_runs, "critical_depth": self.critical_depth}


@dataclass(frozen=True)
class Variant:
    """A plan with the reason for it: which strategy, at which start, with which seed or loop count.

    `affected` is the number of layers the strategy rearranges (painters.md 1: M); `start` its s, or the layer of a
    single-layer strategy. `gain` is the factor on the combined update where the strategy scales it.
    """

    strategy: str
    plan: Plan
    affected: int
    start: int | None = None
    seed: int | None = None
    loops: int = 1
    gain: float | None = None
    second: int | None = None
    protected: tuple[int, ...] = ()

    def facts(self) -> Mapping[str, object]:
        """The columns of a tidy table that tell one variant from another."""
        return {
            "strategy": self.strategy,
            "start": self.start,
            "second": self.second,
            "affected": self.affected,
            "seed": self.seed,
            "loops": self.loops,
            "gain": self.gain,
            "protected": " ".join(map(str, self.protected)),
            "plan": str(self.plan),
            "layer_runs": self.plan.layer_runs,
            "critical_depth": self.plan.critical_depth,
        }


def _executions(stages: Sequence[Stage]) -> Iterator[int]:
    for stage in stages:
        if isinstance(stage, Layer):
            yield stage.number
        else:
            for branch in stage.branches:
                yield from _executions(branch)


def _depth(stages: Sequence[Stage]) -> int:
    return sum(1 if isinstance(stage, Layer) else max(_depth(branch) for branch in stage.branches) for stage in stages)


def _order(stage: Stage) -> int:
    return stage.number if isinstance(stage, Layer) else min(_executions((stage,)))


def _text(stages: Sequence[Stage]) -> str:
    """The shortest simple form: ranges for runs of neighbours, `x3` for a stage three times in a row."""
    words: list[str] = []
    at = 0
    while at < len(stages):
        word, count = _word(stages, at)
        words.append(word)
        at += count
    return " ".join(words)


def _word(stages: Sequence[Stage], at: int) -> tuple[str, int]:
    """One word of a plan's text, and how many stages it stands for."""
    same = _run_length(stages, at, 0)
    if same > 1:
        return f"{stages[at]}x{same}", same
    count = max(_run_length(stages, at, step) for step in (1, -1))
    # A run ends before a stage that repeats: `4..6 7x3`, not `4..7 7x2`.
    if count > 1 and _run_length(stages, at + count - 1, 0) > 1:
        count -= 1
    return (f"{stages[at]}..{stages[at + count - 1]}" if count > 1 else str(stages[at])), count


def _run_length(stages: Sequence[Stage], start: int, step: int) -> int:
    """How many stages from `start` on are layers that follow each other by `step` (0: equal stages of any kind)."""
    first = stages[start]
    count = 1
    while start + count < len(stages):
        here = stages[start + count]
        if step == 0:
            goes_on = here == first
        else:
            goes_on = isinstance(first, Layer) and here == Layer(first.number + step * count)
        if not goes_on:
            break
        count += 1
    return count


def _example_text(depth: int) -> str:
    if depth < 4:
        return f"0..{depth - 1}" if depth > 1 else "0x2"
    third = depth // 3
    return f"0..{third - 1} ({' | '.join(str(n) for n in range(third, third + 2))})x2 {third + 2}..{depth - 1}"


def _example(depth: int) -> Text:
    return say("for example {example}", example=_example_text(depth))
