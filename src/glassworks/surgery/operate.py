"""Operating: a model that runs a plan in place of its own order of layers, generation and cache included."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from glassworks.anatomy import Subject
from glassworks.anatomy.calls import Arguments, Keywords
from glassworks.surgery.caches import CacheMode, Layout, SlotNumbers, average_newest, cache_of, without_cache
from glassworks.surgery.plans import Layer, Parallel, Plan, Stage
from glassworks.surgery.slots import Recorded, Slots, choose_stack


@contextmanager
def operated(
    subject: Subject, plan: Plan | str, *, stack: str | None = None, cache: CacheMode = "exact"
) -> Generator[Subject]:
    """The subject with its layers run as the plan says: forward passes, `generate`, training, `lm-eval`.

    `stack` names the stack of an encoder-decoder (by default its decoder). `cache="exact"` gives every execution its
    own keys and values; "mean" imitates the published code, which keeps one average for a parallel set. Not for several
    threads at once; saving the model inside would write the wrong names. Raises InvalidInput for a plan that names a
    layer the stack has not.
    """
    stack = choose_stack(subject.anatomy, stack)
    depth = len(subject.anatomy.stacks[stack])
    plan = Plan.parse(plan, depth) if isinstance(plan, str) else plan
    plan.check(depth, stack if len(subject.anatomy.stacks) > 1 else "")
    operation = _Operation(plan, cache)
    with Slots(subject, stack, operation) as slots:
        operation.begin(slots)
        try:
            yield subject
        finally:
            operation.numbers.restore()


def combined(stage: Parallel, stream: Tensor, total: Tensor) -> Tensor:
    """The stream after a parallel stage, from the sum of its branches' outputs (in float32 at least)."""
    count = len(stage.branches)
    if stage.is_plain_mean:
        return (total / count).to(stream.dtype)
    weight = stage.gain if stage.combine == "sum" else stage.gain / count
    wide = stream.to(total.dtype)
    return (wide + weight * (total - count * wide)).to(stream.dtype)


def added(total: Tensor | None, output: Tensor) -> Tensor:
    """A running sum of branch outputs, at least in float32: bfloat16 would lose what little branches differ in."""
    wide = output.to(torch.promote_types(output.dtype, torch.float32))
    return wide.clone() if total is None else total.add_(wide.to(total.device))


def run_stage(stage: Stage, stream: Tensor, run: Callable[[int, Tensor], Tensor]) -> Tensor:
    """One stage on a stream, given how a single layer is run."""
    if isinstance(stage, Layer):
        return run(stage.number, stream)
    total: Tensor | None = None
    for branch in stage.branches:
        total = added(total, run_stages(branch, stream, run))
    assert total is not None, "a parallel stage has branches"
    return combined(stage, stream, total)


def run_stages(stages: Sequence[Stage], stream: Tensor, run: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Stages one after the other."""
    for stage in stages:
        stream = run_stage(stage, stream, run)
    return stream


class _Operation:
    """The director of a plan: notes the arguments of each position, and at the last one runs what the plan says.

    Stages that begin the plan as the model itself begins run in place, at their own position, with nothing between:
    what they return beside the stream (a shared position bias) then reaches the model as always.
    """

    def __init__(self, plan: Plan, cache: CacheMode) -> None:
        self.plan = plan
        self.numbers = SlotNumbers([])
        self._mode: CacheMode = cache
        self._front = 0
        self._recorded = Recorded([])
        self._layout = Layout(())
        self._cache: Cache | None = None
        self._next = 0
        self._must_lead: bool | None = None

    def begin(self, slots: Slots) -> None:
        """Learns the layers."""
        self._recorded = Recorded(slots.layers)
        self.numbers = SlotNumbers(slots.layers)
        stages, depth = self.plan.stages, len(slots.layers)
        while self._front < min(depth, len(stages)) and stages[self._front] == Layer(self._front):
            self._front += 1

    def called(self, number: int, args: Arguments, kwargs: Keywords) -> Any:
        """What the model's call of a layer becomes."""
        stream = self._recorded.note(number, args, kwargs)
        if number == 0:
            self._start(stream, args, kwargs)
        if number < self._front:
            stream = self._run(number, stream)
        if number == len(self._recorded.layers) - 1:
            stream = self._rest(stream)
            self._cache = None
        return self._recorded.wrapped(stream)

    def _start(self, stream: Tensor, args: Arguments, kwargs: Keywords) -> None:
        self._next = 0
        self._cache = cache_of(args, kwargs)
        if self._front == 0 and self._must_lead is None:
            # Some stacks hand on more than the stream (T5: a position bias that its first block owns).
            self._recorded.calls[0] = without_cache(args, kwargs)
            self._recorded.run(0, stream)
            self._recorded.calls[0] = (args, kwargs)
            self._must_lead = not self._recorded.is_bare
            self._layout = Layout(self._slots())
        if self._front > 0 and self._must_lead is None:
            self._must_lead = False
            self._layout = Layout(self._slots())
        if self._cache is not None:
            self._layout.prepare(self._cache)
        if self._must_lead:
            # Its stream is dropped; the slot after the plan's own keeps its keys, so that lengths stay right.
            self.numbers.assign(0, self.plan.layer_runs)
            self._recorded.run(0, stream)

    def _slots(self) -> tuple[int, ...]:
        return (*self.plan.executions, *((0,) if self._must_lead else ()))

    def _run(self, layer: int, stream: Tensor) -> Tensor:
        self.numbers.assign(layer, self._next)
        self._next += 1
        return self._recorded.run(layer, stream)

    def _rest(self, stream: Tensor) -> Tensor:
        for stage in self.plan.stages[self._front :]:
            first = self._next
            stream = run_stage(stage, stream, self._run)
            if self._mode == "mean" and self._cache is not None and isinstance(stage, Parallel):
                average_newest(self._cache, range(first, self._next), stream.shape[1])
        return stream
