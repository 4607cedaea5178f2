"""Families of plans: the published strategies for every start, and the ones that go beyond them (painters.md 1, 9)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from glassworks.core.errors import InvalidInput, InvalidSpec, UnknownName
from glassworks.core.shelf import Shelf
from glassworks.core.spec import Spec
from glassworks.core.text import say
from glassworks.surgery.plans import Layer, Plan, Stage, Variant, parallel

# What a strategy makes of a run of layers; the first argument is the run, the second the whole middle.
Rearranged = Callable[[Sequence[int], Sequence[int]], Sequence[Stage]]


class Family(Spec):
    """A way to make plans from the depth of a stack; `protected` layers stay where they are."""

    def variants(self, depth: int, protected: frozenset[int] = frozenset()) -> list[Variant]:
        """All its plans for a stack of `depth` layers."""
        raise NotImplementedError


class Full(Family):
    """The whole model, as it is: what every score is compared with."""

    kind: Literal["full"] = "full"

    def variants(self, depth: int, protected: frozenset[int] = frozenset()) -> list[Variant]:
        """One plan."""
        return [Variant(self.kind, Plan.identity(depth), 0)]


class SkipOne(Family):
    """All layers but one, for each layer (figure 2)."""

    kind: Literal["skip_one"] = "skip_one"

    def variants(self, depth: int, protected: frozenset[int] = frozenset()) -> list[Variant]:
        """One plan a layer; `start` is the layer left out."""
        kept = [number for number in range(depth) if depth > 1 and number not in protected]
        return [Variant(self.kind, Plan.of(n for n in range(depth) if n != out), 1, out) for out in kept]


class Switch(Family):
    """Two neighbours exchanged, for each pair (figure 2)."""

    kind: Literal["switch"] = "switch"

    def variants(self, depth: int, protected: frozenset[int] = frozenset()) -> list[Variant]:
        """One plan a pair; `start` is the first of the two."""
        found: list[Variant] = []
        for first in range(depth - 1):
            if not protected.intersection((first, first + 1)):
                order = [*range(first), first + 1, first, *range(first + 2, depth)]
                found.append(Variant(self.kind, Plan.of(order), 2, first))
        return found


class _Middle(Family):
    """A strategy on the middle layers s+1 .. T-s-1, for every start s (painters.md 1); M = T - 2s - 1 layers."""

    starts: tuple[int, ...] | None = None
    """The starts s to take; all that leave a middle if none is named."""

    def starts_of(self, depth: int) -> list[int]:
        """The starts for a stack of `depth` layers, largest middle last."""
        possible = [start for start in range(depth // 2) if depth - 2 * start - 1 > 0]
        if self.starts is None:
            return possible[::-1]
        for start in self.starts:
            if start not in possible:
                raise InvalidInput(
                    say("start {start} leaves no middle in a stack of {depth} layers", start=start, depth=depth),
                    right=say("starts 0 to {last}", last=max(possible, default=0)),
                )
        return list(self.starts)

    def made(
        self, depth: int, protected: frozenset[int], arrange: Rearranged, **facts: int | float | None
    ) -> Iterator[Variant]:
        """The plan of each start: front, rearranged middle, back; a protected layer splits the middle in runs."""
        for start in self.starts_of(depth):
            middle = [number for number in range(start + 1, depth - start) if number not in protected]
            if not middle:
                continue
            stages: list[Stage] = [Layer(number) for number in range(start + 1)]
            for run in _runs(range(start + 1, depth - start), protected):
                stages += [Layer(run[0])] if run[0] in protected else arrange(run, middle)
            stages += [Layer(number) for number in range(depth - start, depth)]
            kept = tuple(sorted(protected.intersection(range(start + 1, depth - start))))
            yield Variant(self.kind, Plan(tuple(stages)), len(middle), start, protected=kept, **facts)  # pyright: ignore[reportArgumentType] - the facts are fields of Variant


class SkipMiddle(_Middle):
    """The middle layers are left out (figure 4)."""

    kind: Literal["skip"] = "skip"

    def variants(self, depth: int, protected: frozenset[int] = frozenset()) -> list[Variant]:
        """One plan a start."""
        return list(self.made(depth, protected, lambda run, middle: ()))


class MiddleRepeat(_Middle):
    """The centre layer T/2 runs once for each middle layer (figure 5); `gain` scales each of its updates."""

    kind: Literal["middle_repeat"] = "middle_repeat"
    scaled: bool = False
    """Divide each update by the number of repeats: tells a different function from a norm that grows."""

    def variants(self, depth: int, protected: frozenset[int] = frozenset()) -> list[Variant]:
        """One plan a start."""

        def repeated(run: Sequence[int], middle: Sequence[int]) -> Sequence[Stage]:
            centre = min(middle, key=lambda number: (abs(number - depth // 2), number))
            gain = 1 / len(middle) if self.scaled else 1.0
            return parallel([centre], gain=gain) * len(run)

        found = list(self.made(depth, protected, repeated))
        return [_scaled(one) for one in found] if self.scaled else found


class Reverse(_Middle):
    """The middle layers run backwards (figure 6)."""

    kind: Literal["reverse"] = "reverse"

    def variants(self, depth: int, protected: frozenset[int] = frozenset()) -> list[Variant]:
        """One plan a start."""
        return list(self.made(depth, protected, _Refilled(lambda middle: middle[::-1])))


class RandomOrder(_Middle):
    """The middle layers in a random order (figure 7): Python's own shuffle with each seed, as published."""

    kind: Literal["random"] = "random"
    seeds: tuple[int, ...] = tuple(range(10))

    def variants(self, depth: int, protected: frozenset[int] = frozenset()) -> list[Variant]:
        """One plan for each start and seed."""

        def shuffled(seed: int) -> Callable[[list[int]], list[int]]:
            def order(middle: list[int]) -> list[int]:
                random.Random(seed).shuffle(middle)
                return middle

            return order

        return [one for seed in self.seeds for one in self.made(depth, protected, _Refilled(shuffled(seed)), seed=seed)]


class ParallelMiddle(_Middle):
    """The middle layers side by side: the mean of their outputs (figure 8); `combine` and `gain` go beyond."""

    kind: Literal["parallel"] = "parallel"
    combine: Literal["mean", "sum"] = "mean"

    def variants(self, depth: int, protected: frozenset[int] = frozenset()) -> list[Variant]:
        """One plan a start."""
        found = self.made(depth, protected, lambda run, middle: parallel(run, self.combine))
        return [replace(one, strategy="sum") for one in found] if self.combine == "sum" else list(found)


class LoopedParallel(_Middle):
    """The parallel middle, fed to itself `loops` times (figures 9 and 10)."""

    kind: Literal["looped"] = "looped"
    loops: tuple[int, ...] = (3,)

    def variants(self, depth: int, protected: frozenset[int] = frozenset()) -> list[Variant]:
        """One plan for each start and loop count."""
        return [
            one
            for count in self.loops
            for one in self.made(depth, protected, lambda run, middle, k=count: parallel(run) * k, loops=count)
        ]


class ScaledParallel(_Middle):
    """One parallel step whose mean update is multiplied by K: what K loops would do if updates were small (painters.md 4)."""

    kind: Literal["scaled"] = "scaled"
    gains: tuple[float, ...] = (2.0, 4.0, 8.0)

    def variants(self, depth: int, protected: frozenset[int] = frozenset()) -> list[Variant]:
        """One plan for each start and gain."""
        return [
            one
            for gain in self.gains
            for one in self.made(depth, protected, lambda run, middle, a=gain: parallel(run, gain=a), gain=gain)
        ]


class RepeatBlock(Family):
    """Layers i to j run twice in a row, for every pair: the block-repeat map; `most` bounds the block's length."""

    kind: Literal["repeat_block"] = "repeat_block"
    times: int = Field(2, ge=2)
    most: int | None = None
    step: int = Field(1, ge=1)

    def variants(self, depth: int, protected: frozenset[int] = frozenset()) -> list[Variant]:
        """One plan for each block; `start` is its first layer, `second` its last."""
        found: list[Variant] = []
        for first in range(0, depth, self.step):
            for last in range(first, min(depth, first + (self.most or depth))):
                block = list(range(first, last + 1))
                if not protected.intersection(block) and (len(block) - 1) % self.step == 0:
                    plan = Plan.of([*range(first), *block * self.times, *range(last + 1, depth)])
                    found.append(Variant(self.kind, plan, len(block), first, second=last, loops=self.times))
        return found


class DropBlock(Family):
    """Layers i to j left out, for every pair: the best block to cut may lie anywhere."""

    kind: Literal["drop_block"] = "drop_block"
    most: int | None = None

    def variants(self, depth: int, protected: frozenset[int] = frozenset()) -> list[Variant]:
        """One plan for each block; `start` is its first layer, `second` its last."""
        found: list[Variant] = []
        for first in range(depth):
            for last in range(first, min(depth, first + (self.most or depth))):
                block = range(first, last + 1)
                if len(block) < depth and not protected.intersection(block):
                    plan = Plan.of(number for number in range(depth) if number not in block)
                    found.append(Variant(self.kind, plan, len(block), first, second=last))
        return found


class RepeatEach(_Middle):
    """Each middle layer runs `times` times in place (one reading of figure 17)."""

    kind: Literal["repeat_each"] = "repeat_each"
    times: int = Field(2, ge=2)

    def variants(self, depth: int, protected: frozenset[int] = frozenset()) -> list[Variant]:
        """One plan a start."""
        return list(
            self.made(
                depth, protected, lambda run, _: [Layer(n) for n in run for _ in range(self.times)], loops=self.times
            )
        )


class RepeatMiddle(_Middle):
    """The middle block runs `times` times in sequence (the other reading of figure 17)."""

    kind: Literal["repeat_middle"] = "repeat_middle"
    times: int = Field(2, ge=2)

    def variants(self, depth: int, protected: frozenset[int] = frozenset()) -> list[Variant]:
        """One plan a start."""
        return list(self.made(depth, protected, lambda run, _: [Layer(n) for n in run] * self.times, loops=self.times))


class Transpositions(_Middle):
    """Middle orders with a given number of inversions, for regressing damage on disorder (painters.md 4, question 4).

    For each start and each share of the largest possible number of inversions, one order a seed, made by neighbour
    swaps that each add one inversion.
    """

    kind: Literal["inversions"] = "inversions"
    shares: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 0.9)
    seeds: tuple[int, ...] = (0, 1, 2)

    def variants(self, depth: int, protected: frozenset[int] = frozenset()) -> list[Variant]:
        """One plan for each start, share and seed; `gain` holds the share."""
        return [
            one
            for share in self.shares
            for seed in self.seeds
            for one in self.made(depth, protected, _Refilled(_disordered(share, seed)), seed=seed, gain=share)
        ]


FAMILIES: Shelf[Family] = Shelf(
    "plan family",
    Full,
    SkipOne,
    Switch,
    SkipMiddle,
    MiddleRepeat,
    Reverse,
    RandomOrder,
    ParallelMiddle,
    LoopedParallel,
    ScaledParallel,
    RepeatBlock,
    DropBlock,
    RepeatEach,
    RepeatMiddle,
    Transpositions,
)

PAINTERS = ("full", "skip", "middle_repeat", "reverse", "random", "parallel", "looped")


def parse_families(text: str, seeds: int = 10) -> tuple[Family, ...]:
    """`painters`, or family names with commas between, settings after a colon: `skip,looped:loops=[2,3]`.

    `painters` is the set of figure 11; the full model is always among them. Raises UnknownName for an unknown family.
    """
    words: list[str] = []
    for word in _split(text):
        words += PAINTERS if word == "painters" else [word]
    found: list[Family] = [Full()]
    for word in words:
        kind, _, settings = word.partition(":")
        if kind not in FAMILIES.kinds:
            raise UnknownName("plan family", kind, ["painters", *FAMILIES.kinds])
        family = RandomOrder(seeds=tuple(range(seeds))) if kind == "random" else FAMILIES.parse({"kind": kind})
        for assignment in filter(None, settings.split("&")):
            if "=" not in assignment:
                raise InvalidSpec(
                    say("a plan family's setting needs name=value"),
                    given=assignment,
                    right=say("for example {example}", example="looped:loops=[2,3]&starts=[1,2]"),
                )
            family = family.replaced_from_text(assignment)
        if family not in found:
            found.append(family)
    return tuple(found)


def variants_of(families: Sequence[Family], depth: int, protected: frozenset[int] = frozenset()) -> list[Variant]:
    """The plans of several families, each with its reason."""
    return [variant for family in families for variant in family.variants(depth, protected)]


def inversions(order: Sequence[int]) -> int:
    """Pairs out of order: the number of neighbour swaps that would sort it."""
    return sum(left > right for i, left in enumerate(order) for right in order[i + 1 :])


class _Refilled:
    """Puts the middle in another order; each run takes its share, so that protected layers keep their places."""

    def __init__(self, order: Callable[[list[int]], list[int]]) -> None:
        self._order = order

    def __call__(self, run: Sequence[int], middle: Sequence[int]) -> Sequence[Stage]:
        ordered = self._order(list(middle))
        begin = list(middle).index(run[0])
        return [Layer(number) for number in ordered[begin : begin + len(run)]]


def _disordered(share: float, seed: int) -> Callable[[list[int]], list[int]]:
    def order(middle: list[int]) -> list[int]:
        chance = random.Random(seed)
        wanted = round(share * len(middle) * (len(middle) - 1) / 2)
        for _ in range(wanted):
            ascents = [i for i in range(len(middle) - 1) if middle[i] < middle[i + 1]]
            at = chance.choice(ascents)
            middle[at], middle[at + 1] = middle[at + 1], middle[at]
        return middle

    return order


def _runs(numbers: Sequence[int], protected: frozenset[int]) -> list[list[int]]:
    """The numbers in order, cut so that each protected one stands alone."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number not in protected and runs[-1][0] not in protected:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _scaled(one: Variant) -> Variant:
    return replace(one, strategy="middle_repeat_scaled", gain=1 / one.affected)


def _split(text: str) -> list[str]:
    """Words between commas; commas inside brackets belong to a setting."""
    words, depth = [""], 0
    for sign in text:
        depth += (sign == "[") - (sign == "]")
        if sign == "," and depth == 0:
            words.append("")
        else:
            words[-1] += sign
    return [word.strip() for word in words if word.strip()]
