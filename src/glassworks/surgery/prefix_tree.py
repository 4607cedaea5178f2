"""Many plans over one batch: what plans have in common at their beginning is run once (painters.md 6)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.anatomy import Subject, TokenBatch
from glassworks.anatomy.calls import Arguments, Keywords
from glassworks.surgery.caches import cache_of, without_cache
from glassworks.surgery.operate import added, combined, run_stage
from glassworks.surgery.plans import Layer, Parallel, Plan, Stage
from glassworks.surgery.slots import Recorded, Slots, choose_stack

Schedule = Literal["depth", "layers"]
Stream = Float[Tensor, "batch position width"]
Runner = Callable[[int, Tensor], Tensor]


@dataclass(eq=False)
class Node:
    """A common beginning of plans: what ends here, and what follows."""

    ends: list[Plan] = field(default_factory=list[Plan])
    after: dict[Stage, Node] = field(default_factory=dict["Stage", "Node"])

    @property
    def sets(self) -> dict[tuple[int, ...], list[Parallel]]:
        """The parallel stages that follow and consist of single layers, by their members."""
        found: dict[tuple[int, ...], list[Parallel]] = {}
        for stage in self.after:
            if isinstance(stage, Parallel) and stage.members is not None:
                found.setdefault(stage.members, []).append(stage)
        return found

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers to run on the stream here: next steps and members of parallel sets, each once."""
        single = {stage.number for stage in self.after if isinstance(stage, Layer)}
        return tuple(sorted(single.union(*self.sets)))

    @property
    def others(self) -> list[Parallel]:
        """Parallel stages with branches of several layers; these are run whole."""
        return [stage for stage in self.after if isinstance(stage, Parallel) and stage.members is None]

    def runs(self) -> int:
        """Layer runs below this node, each common one counted once."""
        here = len(self.layers) + sum(Plan((stage,)).layer_runs for stage in self.others)
        return here + sum(child.runs() for child in self.after.values())


def tree_of(plans: Iterable[Plan]) -> Node:
    """The prefix tree of a set of plans; equal plans meet in one place."""
    root = Node()
    for plan in dict.fromkeys(plans):
        node = root
        for stage in plan.stages:
            node = node.after.setdefault(stage, Node())
        node.ends.append(plan)
    return root


@dataclass(frozen=True)
class Cost:
    """What a set of plans costs in layer runs over one batch: asked for one by one, and done with sharing."""

    plans: int
    asked: int
    done: int

    @classmethod
    def of(cls, plans: Sequence[Plan]) -> Cost:
        """Counts, without running anything."""
        return cls(len(plans), sum(plan.layer_runs for plan in plans), tree_of(plans).runs())


def execute(
    subject: Subject,
    batch: TokenBatch,
    plans: Iterable[Plan],
    *,
    stack: str | None = None,
    schedule: Schedule = "depth",
) -> Generator[tuple[Plan, Stream]]:
    """The stream [batch, position, width] after each plan (before the final norm), equal plans once, in any order.

    "depth" walks the tree depth first and keeps one stream (and one running sum per parallel set) per level;
    "layers" runs one layer for all plans that need it next, which loads weights less often and keeps all streams.
    Bit for bit what `operated` computes for the plan alone. `to_logits` turns a stream into logits.
    """
    stack = choose_stack(subject.anatomy, stack)
    depth = len(subject.anatomy.stacks[stack])
    root = tree_of(plans)
    for plan in _plans_in(root):
        plan.check(depth, stack if len(subject.anatomy.stacks) > 1 else "")
    with torch.no_grad():
        recorded, stream = record(subject, batch, stack)
        walk = _depth_first if schedule == "depth" else _layer_major
        yield from walk(root, stream, recorded.run)


def record(subject: Subject, batch: TokenBatch, stack: str | None = None) -> tuple[Recorded, Stream]:
    """What the model passes to each layer of a stack on a batch, and the stream that enters the first."""
    stack = choose_stack(subject.anatomy, stack)
    recorder = _Recorder()
    with Slots(subject, stack, recorder) as slots, torch.no_grad():
        recorder.recorded = Recorded(slots.layers)
        with suppress(_Enough):
            subject.forward(batch)
    assert recorder.stream is not None, "the model called its layers"
    recorder.recorded.last_output = None
    return recorder.recorded, recorder.stream


def to_logits(
    subject: Subject, batch: TokenBatch, stream: Stream, *, stack: str | None = None
) -> Float[Tensor, "batch query vocabulary"]:
    """The logits the model gives when the stack's last layer returns this stream, through the model's own code.

    Where the stream is an encoder's, the logits are at the decoder's positions.
    """
    stack = choose_stack(subject.anatomy, stack)
    injector = _Injector(stream)
    with Slots(subject, stack, injector) as slots, torch.no_grad():
        injector.recorded = Recorded(slots.layers)
        return subject.forward(batch)


def logits_under(
    subject: Subject, batch: TokenBatch, plans: Iterable[Plan], *, stack: str | None = None
) -> Iterator[tuple[Plan, Float[Tensor, "batch position vocabulary"]]]:
    """The logits of each plan, shared beginnings run once."""
    for plan, stream in execute(subject, batch, plans, stack=stack):
        yield plan, to_logits(subject, batch, stream, stack=stack)


class _Enough(Exception):
    """Leaves a pass that has told all it was asked for."""


class _Recorder:
    """Notes every layer's arguments and runs no layer, save the first where it hands on more than the stream."""

    def __init__(self) -> None:
        self.recorded = Recorded([])
        self.stream: Tensor | None = None

    def called(self, number: int, args: Arguments, kwargs: Keywords) -> Any:
        if cache_of(args, kwargs) is not None:
            args, kwargs = without_cache(args, kwargs)
        stream = self.recorded.note(number, args, kwargs)
        if number == 0:
            self.stream = stream
            self.recorded.run(0, stream)
        if number == len(self.recorded.layers) - 1:
            raise _Enough
        return self.recorded.wrapped(stream)


class _Injector:
    """Lets the model run with a given stream as the output of its last layer."""

    def __init__(self, stream: Tensor) -> None:
        self.recorded = Recorded([])
        self._stream = stream

    def called(self, number: int, args: Arguments, kwargs: Keywords) -> Any:
        stream = self.recorded.note(number, args, kwargs)
        if number == 0:
            self.recorded.run(0, stream)
        return self.recorded.wrapped(self._stream if number == len(self.recorded.layers) - 1 else stream)


def _plans_in(node: Node) -> Iterator[Plan]:
    yield from node.ends
    for child in node.after.values():
        yield from _plans_in(child)


def _depth_first(node: Node, stream: Tensor, run: Runner) -> Generator[tuple[Plan, Tensor]]:
    for plan in node.ends:
        yield plan, stream
    sets = node.sets
    totals: dict[tuple[int, ...], Tensor] = {}
    for layer in node.layers:
        output = run(layer, stream)
        for members in sets:
            if layer in members:
                totals[members] = added(totals.get(members), output)
        following = node.after.get(Layer(layer))
        if following is not None:
            yield from _depth_first(following, output, run)
        del output
    for members, stages in sets.items():
        total = totals.pop(members)
        for stage in stages:
            yield from _depth_first(node.after[stage], combined(stage, stream, total), run)
    for stage in node.others:
        yield from _depth_first(node.after[stage], run_stage(stage, stream, run), run)


@dataclass(eq=False)
class _Waiting:
    """A node whose stream is known and whose layers are being run."""

    node: Node
    stream: Tensor
    left: set[int]
    totals: dict[tuple[int, ...], Tensor] = field(default_factory=dict[tuple[int, ...], Tensor])


def _layer_major(root: Node, stream: Tensor, run: Runner) -> Generator[tuple[Plan, Tensor]]:
    """One layer for all that wait for it, then the one that is most wanted next."""
    arrived = [(root, stream)]
    waiting: dict[int, list[_Waiting]] = {}
    while arrived or waiting:
        for node, here in arrived:
            for plan in node.ends:
                yield plan, here
            for stage in node.others:
                yield from _layer_major(node.after[stage], run_stage(stage, here, run), run)
            one = _Waiting(node, here, set(node.layers))
            for layer in node.layers:
                waiting.setdefault(layer, []).append(one)
        arrived = []
        if waiting:
            layer = max(waiting, key=lambda number: (len(waiting[number]), -number))
            for one in waiting.pop(layer):
                arrived += _advanced(one, layer, run)


def _advanced(one: _Waiting, layer: int, run: Runner) -> list[tuple[Node, Tensor]]:
    """Runs a layer for one waiting node; returns the nodes that this makes known."""
    output = run(layer, one.stream)
    one.left.discard(layer)
    known: list[tuple[Node, Tensor]] = []
    for members, stages in one.node.sets.items():
        if layer not in members:
            continue
        one.totals[members] = added(one.totals.get(members), output)
        if not one.left.intersection(members):
            total = one.totals.pop(members)
            known += [(one.node.after[stage], combined(stage, one.stream, total)) for stage in stages]
    following = one.node.after.get(Layer(layer))
    if following is not None:
        known.append((following, output))
    return known
