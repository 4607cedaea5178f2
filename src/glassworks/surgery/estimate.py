"""What a sweep will take, before it runs: tokens, layer runs, memory, and time from one measured batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from glassworks.evaluation import Prepared
from glassworks.evaluation.items import ItemBatch, read_scores
from glassworks.surgery.plans import Plan
from glassworks.surgery.prefix_tree import execute
from glassworks.surgery.scoring import pieces_of, read_logits
from glassworks.surgery.sweep import SweepOptions, SweepOrder

# Logits, their softmax and those of the whole model are in memory together.
_LOGITS_AT_ONCE = 3


@dataclass(frozen=True)
class Estimate:
    """Layer runs over each batch, tokens of all batches, seconds on this machine as it is now, bytes at the most."""

    plans: int
    asked: int
    done: int
    batches: int
    tokens: int
    seconds: float
    peak_bytes: int

    def to_json(self) -> dict[str, int | float]:
        """Plain data."""
        return dict(vars(self))


def estimate(order: SweepOrder, options: SweepOptions) -> Estimate:
    """Times the layers and the head of the model on the largest batch of each benchmark; scores nothing."""
    cost = order.cost
    found = [(one, pieces_of(order.subject, one, options.tokens_per_piece)) for one in order.prepared]
    seconds = 0.0
    for prepared, pieces in found:
        layers, head = _timed(order, pieces[0], has_targets=isinstance(prepared, Prepared))
        tokens = sum(piece.batch.ids.numel() for piece in pieces)
        seconds += tokens / pieces[0].batch.ids.numel() * (layers * cost.done + head * len(order.plans))
    return Estimate(
        cost.plans, cost.asked, cost.done,
        batches=sum(len(pieces) for _, pieces in found),
        tokens=sum(piece.batch.ids.numel() for _, pieces in found for piece in pieces),
        seconds=seconds,
        peak_bytes=max(_bytes(order, options, pieces[0]) for _, pieces in found),
    )  # fmt: skip


def _timed(order: SweepOrder, piece: ItemBatch, *, has_targets: bool) -> tuple[float, float]:
    """Seconds of one layer, and of reading the scores of one plan, on a batch."""
    depth = len(order.subject.anatomy.stacks[order.stack])
    whole = Plan.identity(depth)
    with torch.no_grad():
        run = lambda: next(iter(execute(order.subject, piece.batch, [whole], stack=order.stack)))  # noqa: E731
        layers = _seconds(run) / depth
        _, stream = run()
        read = lambda: read_scores(read_logits(order.subject, piece, stream, order.stack), piece)  # noqa: E731
        return layers, _seconds(read) if has_targets else 0.0


def _seconds(work: Callable[[], object]) -> float:
    """The shorter of two runs: the first also pays for what is set up once."""
    times: list[float] = []
    for _ in range(2):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def _bytes(order: SweepOrder, options: SweepOptions, piece: ItemBatch) -> int:
    """Weights, the streams that wait, and the logits of the scored positions."""
    weights = sum(parameter.numel() * parameter.element_size() for parameter in order.subject.model.parameters())
    size = next(order.subject.model.parameters()).element_size()
    waiting = len(order.plans) if options.schedule == "layers" else max(len(plan) for plan in order.plans)
    streams = waiting * piece.batch.ids.numel() * order.subject.anatomy.width * size
    return weights + streams + _LOGITS_AT_ONCE * len(piece.targets) * order.subject.anatomy.vocabulary * 4
