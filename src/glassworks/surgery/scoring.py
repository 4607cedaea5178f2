"""Many plans scored on one benchmark, in pieces that fit in memory and can be taken up again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from numpy.typing import NDArray
from torch import Tensor

from glassworks.anatomy import Subject
from glassworks.core.files import write_atomically
from glassworks.evaluation import Prepared, Scored, VectorPrepared
from glassworks.evaluation.items import ItemBatch, batches, is_causal, read_scores
from glassworks.surgery.plans import Plan
from glassworks.surgery.prefix_tree import Schedule, execute, to_logits
from glassworks.surgery.slots import choose_stack

Arrays = Mapping[str, NDArray[Any]]

# Positions whose logits are compared with the full model's at once: 512 of a vocabulary of 49k are 100 MB.
_CHUNK = 512


@dataclass(frozen=True, eq=False)
class PieceScores:
    """What every plan gave on a piece of a benchmark: one row per plan, one column per scored target.

    `logprobs` in nats; `top`: the target was the likeliest; `divergence`: KL(full || plan) in nats at the target's
    position; `agrees`: plan and full model name the same likeliest token there.
    """

    logprobs: NDArray[np.float32]
    top: NDArray[np.bool_]
    divergence: NDArray[np.float32]
    agrees: NDArray[np.bool_]

    def arrays(self) -> Arrays:
        """By name, for a file."""
        return {"logprobs": self.logprobs, "top": self.top, "divergence": self.divergence, "agrees": self.agrees}


def pieces_of(subject: Subject, prepared: Prepared | VectorPrepared, tokens_per_batch: int) -> list[ItemBatch]:
    """The benchmark's items in batches of at most so many tokens."""
    return batches(prepared.items, tokens_per_batch, causal=is_causal(subject))


@dataclass(frozen=True)
class Running:
    """How plans are run, none of which changes their scores: the stack, the order, who hears of each finished plan."""

    stack: str | None = None
    schedule: Schedule = "depth"
    tick: Callable[[], None] = lambda: None


def score_piece(subject: Subject, piece: ItemBatch, plans: Sequence[Plan], running: Running) -> PieceScores:
    """Every plan on one batch of items; what plans share is run once, and the head only where a target is scored."""
    stack = choose_stack(subject.anatomy, running.stack)
    targets = len(piece.targets)
    found = PieceScores(
        np.zeros((len(plans), targets), np.float32),
        np.zeros((len(plans), targets), np.bool_),
        np.zeros((len(plans), targets), np.float32),
        np.zeros((len(plans), targets), np.bool_),
    )
    number = {plan: row for row, plan in enumerate(plans)}
    whole = Plan.identity(len(subject.anatomy.stacks[stack]))
    with torch.no_grad():
        [(_, stream)] = execute(subject, piece.batch, [whole], stack=stack)
        full = read_logits(subject, piece, stream, stack)
        for plan, stream in execute(subject, piece.batch, plans, stack=stack, schedule=running.schedule):
            row = number[plan]
            logits = full if plan == whole else read_logits(subject, piece, stream, stack)
            scored = read_scores(logits, piece)
            found.logprobs[row] = np.concatenate([one.logprobs for one in scored])
            found.top[row] = np.concatenate([one.top for one in scored])
            found.divergence[row], found.agrees[row] = _against(full, logits)
            running.tick()
    return found


def read_logits(
    subject: Subject, piece: ItemBatch, stream: Float[Tensor, "batch position width"], stack: str
) -> Float[Tensor, "target vocabulary"]:
    """The logits at the scored positions, from the stream after a plan.

    The final norm and head run on those positions alone where calling them is what the model does bit for bit;
    otherwise the model itself goes on from the stream.
    """
    anatomy = subject.anatomy
    if anatomy.readout_exact and stack != "encoder":
        return subject.read_stream(piece.read(stream)[None])[0]
    return piece.read(to_logits(subject, piece.batch, stream, stack=stack))


def vectors_of(
    subject: Subject, piece: ItemBatch, plans: Sequence[Plan], running: Running
) -> Float32[np.ndarray, "plan item width"]:
    """For each plan the mean of the last stream over each item's own tokens, items in the order of the rows."""
    number = {plan: row for row, plan in enumerate(plans)}
    found = np.zeros((len(plans), len(piece.items), subject.anatomy.width), np.float32)
    mask = piece.batch.real.to(subject.device)[..., None]
    for plan, stream in execute(subject, piece.batch, plans, stack=running.stack, schedule=running.schedule):
        found[number[plan]] = ((stream.float() * mask).sum(1) / mask.sum(1)).cpu().numpy()
        running.tick()
    return found


def scored_items(pieces: Sequence[ItemBatch], arrays: Sequence[Arrays], row: int) -> list[Scored]:
    """One plan's scores in the order of the benchmark's items, from the pieces' arrays."""
    found: dict[int, Scored] = {}
    for piece, kept in zip(pieces, arrays, strict=True):
        ends = np.cumsum(piece.counts)[:-1]
        values = np.split(np.asarray(kept["logprobs"][row], np.float64), ends)
        tops = np.split(np.asarray(kept["top"][row], np.bool_), ends)
        found.update((item, Scored(v, t)) for item, v, t in zip(piece.items, values, tops, strict=True))
    return [found[item] for item in range(len(found))]


def save_piece(path: Path, arrays: Arrays) -> None:
    """Writes a piece's arrays atomically."""

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    write_atomically(path, fill)


def _against(
    full: Float[Tensor, "target vocabulary"], logits: Float[Tensor, "target vocabulary"]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """KL(full || plan) and agreement of the likeliest token, in float32."""
    divergences: list[Tensor] = []
    agreements: list[Tensor] = []
    for own, other in zip(full.split(_CHUNK), logits.split(_CHUNK), strict=True):
        known, found = own.float().log_softmax(-1), other.float().log_softmax(-1)
        divergences.append((known.exp() * (known - found)).sum(-1).clamp_min(0))
        agreements.append(known.argmax(-1) == found.argmax(-1))
    return torch.cat(divergences).cpu().numpy(), torch.cat(agreements).cpu().numpy()
