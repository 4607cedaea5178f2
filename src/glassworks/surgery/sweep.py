"""A sweep: every plan of several families scored on several benchmarks; resumable, with what it cost."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import torch

from glassworks.anatomy import Subject
from glassworks.anatomy.offloaded import weights_here
from glassworks.core.errors import BrokenFile, InvalidInput
from glassworks.core.events import EventLog, Listener, Progressed, RunDone, RunStarted
from glassworks.core.files import write_atomically
from glassworks.core.runs import RunFolder
from glassworks.core.text import say
from glassworks.evaluation import MetricScore, Prepared, Scores, VectorPrepared, parse_benchmarks
from glassworks.evaluation.items import ItemBatch
from glassworks.executors import WORK, Executor
from glassworks.surgery.choice import SweepChoice, SweepSpec
from glassworks.surgery.elsewhere import piece_jobs
from glassworks.surgery.plans import Plan, Variant
from glassworks.surgery.prefix_tree import Cost, Schedule
from glassworks.surgery.rows import COLUMNS, rows_of
from glassworks.surgery.scoring import Arrays, Running, pieces_of, save_piece, score_piece, scored_items, vectors_of
from glassworks.surgery.slots import choose_stack

if TYPE_CHECKING:
    import pandas as pd

# A piece is what a kill can lose: about a minute of work for the published set on a model of 135 million parameters.
TOKENS_PER_PIECE = 512
SECONDS_BETWEEN_NEWS = 1.0


@dataclass(frozen=True, eq=False)
class SweepOrder:
    """A sweep that is ready to run: the model, what was chosen, the plans and the tokenised benchmarks."""

    subject: Subject
    spec: SweepSpec
    stack: str
    variants: list[Variant]
    prepared: list[Prepared | VectorPrepared]

    @classmethod
    def of(cls, subject: Subject, choice: SweepChoice) -> SweepOrder:
        """Everything that can be wrong with a choice is found here, before any work."""
        stack = choose_stack(subject.anatomy, choice.stack)
        variants = choice.variants(len(subject.anatomy.stacks[stack]))
        prepared = [_ready(one.prepare(subject)) for one in parse_benchmarks(choice.evals, choice.limit)]
        items = hashlib.sha256(repr([(one.name, one.items) for one in prepared]).encode()).hexdigest()[:16]
        dtype = str(next(subject.model.parameters()).dtype).removeprefix("torch.")
        spec = SweepSpec(
            model=subject.origin.name, weights=fingerprint(subject), dtype=dtype, items=items, choice=choice
        )
        return cls(subject, spec, stack, variants, prepared)

    @property
    def plans(self) -> list[Plan]:
        """The different plans."""
        return list(dict.fromkeys(variant.plan for variant in self.variants))

    @property
    def cost(self) -> Cost:
        """Layer runs asked for and done, over each batch of the benchmarks."""
        cost = Cost.of([variant.plan for variant in self.variants])
        # The whole model is run by itself before all others, which are compared with it.
        depth = len(self.subject.anatomy.stacks[self.stack])
        is_compared = any(isinstance(one, Prepared) for one in self.prepared)
        return replace(cost, done=cost.done + depth) if is_compared else cost


@dataclass(frozen=True)
class SweepOptions:
    """How a sweep is run; none of it changes a number."""

    out: Path = Path()
    tokens_per_piece: int = TOKENS_PER_PIECE
    schedule: Schedule = "depth"
    listeners: tuple[Listener, ...] = ()
    command: str = ""
    executor: Executor | None = None
    """Who scores; this process unless given."""
    model: Mapping[str, Any] | None = None
    """What `surgery.elsewhere.opened` takes to load the same model in another process."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """A finished sweep: its folder, its rows (one per variant, benchmark and metric), and what it cost."""

    spec: SweepSpec
    run: RunFolder
    rows: pd.DataFrame = field(repr=False)
    cost: Cost
    seconds: float


def run_sweep(order: SweepOrder, options: SweepOptions) -> Sweep:
    """Scores every plan on every benchmark; goes on where an equal sweep stopped, and repeats nothing that is done.

    Raises RunBusy when another process works on the same sweep.
    """
    run = RunFolder.create(options.out / "runs", order.spec.kind, order.spec)
    for listener in options.listeners:
        run.events.listen(listener)
    started = time.perf_counter()
    with run.lock():
        run.events.emit(RunStarted(command=options.command, resumed=run.has("pieces.json")))
        (run.path / "manifest.json").unlink(missing_ok=True)
        run.write_environment({"device": str(order.subject.device), "command": options.command})
        tokens = _tokens_per_piece(run, options.tokens_per_piece)
        work = _Work(order.subject, order.stack, order.plans)
        jobs = [_Job(one, pieces_of(order.subject, one, tokens)) for one in order.prepared]
        progress = _Progress(run.events, sum(job.tokens for job in jobs), len(work.plans))
        if options.executor is not None:
            # What follows finds every piece on disk.
            missing = [
                (job.prepared.name, number, job.path(number), job.weight(number))
                for job in jobs
                for number in range(len(job.pieces))
            ]
            options.executor.run(piece_jobs(order.spec, run, options, missing), options.out / WORK, run.events)
        for job in jobs:
            _score(run, work, job, progress, options.schedule)
        scores = {job.prepared.name: _scores(run, work, job) for job in jobs}
        rows = rows_of(order.variants, scores, order.prepared)
        _write_tables(run, rows)
        run.write_json("benchmarks.json", [_facts(job) for job in jobs])
        run.write_json("cost.json", {"plans": order.cost.plans, "asked": order.cost.asked, "done": order.cost.done})
        seconds = time.perf_counter() - started
        run.seal()
        run.events.emit(RunDone(seconds=seconds))
    return Sweep(order.spec, run, rows, order.cost, seconds)


def score_one(order: SweepOrder, run: RunFolder, piece: tuple[str, int], schedule: Schedule, events: EventLog) -> None:
    """Scores one piece of a sweep that another process runs: the benchmark's name, and the piece's number from 0."""
    name, number = piece
    tokens = _tokens_per_piece(run, TOKENS_PER_PIECE)
    prepared = next(one for one in order.prepared if one.name == name)
    job = _Job(prepared, pieces_of(order.subject, prepared, tokens))
    work = _Work(order.subject, order.stack, order.plans)
    if not run.has(job.path(number)):
        _score_piece(run, work, job, number, _Progress(events, job.weight(number), len(work.plans)), schedule)


def scores_of(order: SweepOrder, run: RunFolder) -> dict[str, dict[Plan, Scores]]:
    """The scores of a finished sweep, document by document: benchmark, then plan; read from its pieces.

    Raises BrokenFile for a piece that is damaged or absent.
    """
    tokens = _tokens_per_piece(run, TOKENS_PER_PIECE)
    work = _Work(order.subject, order.stack, order.plans)
    jobs = [_Job(one, pieces_of(order.subject, one, tokens)) for one in order.prepared]
    return {job.prepared.name: dict(_scores(run, work, job)) for job in jobs}


def fingerprint(subject: Subject) -> str:
    """Sixteen hexadecimal digits of all weights: names, shapes, dtypes and numbers."""
    digest = hashlib.sha256()
    for name, weight in weights_here(subject.model):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(weight.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class _Work:
    subject: Subject
    stack: str
    plans: list[Plan]


@dataclass(frozen=True, eq=False)
class _Job:
    """One benchmark and its pieces."""

    prepared: Prepared | VectorPrepared
    pieces: list[ItemBatch]

    @property
    def tokens(self) -> int:
        return sum(piece.batch.ids.numel() for piece in self.pieces)

    def weight(self, number: int) -> int:
        """Tokens of a piece."""
        return self.pieces[number].batch.ids.numel()

    def path(self, number: int) -> str:
        """Where a piece is kept, inside the run folder."""
        return f"pieces/{self.prepared.name}-{number + 1:04d}-of-{len(self.pieces):04d}.npz"


class _Progress:
    """Tells how much of the work is done, at most once a second; finished pieces of an earlier start count as done."""

    def __init__(self, events: EventLog, tokens: int, plans: int) -> None:
        self._events = events
        self._total = float(tokens * plans)
        self._done = 0.0
        self._skipped = 0.0
        self._started = time.perf_counter()
        self._told = 0.0

    def skip(self, tokens: int, plans: int) -> None:
        self._skipped += tokens * plans

    def advance(self, tokens: int, label: str) -> None:
        self._done += tokens
        now = time.perf_counter()
        if now - self._told >= SECONDS_BETWEEN_NEWS or self._done + self._skipped >= self._total:
            self._told = now
            total = self._total - self._skipped
            self._events.emit(Progressed(label=label, done=self._done, total=total, seconds=now - self._started))


def _score(run: RunFolder, work: _Work, job: _Job, progress: _Progress, schedule: Schedule) -> None:
    """Scores the pieces of a benchmark that are not on disk yet."""
    for number, piece in enumerate(job.pieces):
        if run.has(job.path(number)):
            progress.skip(piece.batch.ids.numel(), len(work.plans))
    for number in range(len(job.pieces)):
        if not run.has(job.path(number)):
            _score_piece(run, work, job, number, progress, schedule)


def _score_piece(run: RunFolder, work: _Work, job: _Job, number: int, progress: _Progress, schedule: Schedule) -> None:
    """Scores every plan on one piece of a benchmark, and keeps what it gave."""
    piece = job.pieces[number]

    def tick() -> None:
        progress.advance(job.weight(number), f"{job.prepared.name} {number + 1}/{len(job.pieces)}")

    running = Running(work.stack, schedule, tick)
    if isinstance(job.prepared, VectorPrepared):
        arrays: Arrays = {"vectors": vectors_of(work.subject, piece, work.plans, running)}
    else:
        arrays = score_piece(work.subject, piece, work.plans, running).arrays()
    save_piece(run.path / job.path(number), arrays)


def _scores(run: RunFolder, work: _Work, job: _Job) -> Iterator[tuple[Plan, Scores]]:
    """The scores of each plan on a benchmark, from the pieces on disk."""
    arrays = [_read(run.path / job.path(number)) for number in range(len(job.pieces))]
    for row, plan in enumerate(work.plans):
        if isinstance(job.prepared, VectorPrepared):
            order = np.argsort([item for piece in job.pieces for item in piece.items])
            yield plan, job.prepared.score(np.concatenate([kept["vectors"][row] for kept in arrays])[order])
        else:
            scored = scored_items(job.pieces, arrays, row)
            yield plan, {**job.prepared.score(scored), **_against_full(job.pieces, arrays, row)}


def _against_full(pieces: Sequence[ItemBatch], arrays: Sequence[Arrays], row: int) -> Scores:
    """Divergence from the full model and agreement with it, per item: questions that need no right answer."""
    items = [item for piece in pieces for item in piece.items]
    counts = np.array([count for piece in pieces for count in piece.counts], dtype=np.float64)
    order = np.argsort(items)
    found: dict[str, MetricScore] = {}
    for name, key, higher in (("kl_to_full", "divergence", False), ("agrees_with_full", "agrees", True)):
        per_item: list[float] = []
        for piece, kept in zip(pieces, arrays, strict=True):
            values = np.asarray(kept[key][row], np.float64)
            per_item += [float(part.mean()) for part in np.split(values, np.cumsum(piece.counts)[:-1])]
        found[name] = MetricScore.mean(np.array(per_item)[order], counts[order], higher_is_better=higher)
    return found


def _read(path: Path) -> Arrays:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as problem:
        raise BrokenFile(
            say("{path} is damaged: {reason}", path=str(path), reason=str(problem)),
            right=say("delete this file and run the sweep again; the other pieces are kept"),
        ) from None


def _ready(prepared: Any) -> Prepared | VectorPrepared:
    if isinstance(prepared, Prepared | VectorPrepared):
        return prepared
    raise InvalidInput(
        say("{benchmark} asks for generated text, which shares nothing between plans", benchmark=prepared.name),
        right=say("`glassworks surgery MODEL --plan … --eval {benchmark}`, plan by plan", benchmark=prepared.name),
    )


def _tokens_per_piece(run: RunFolder, wanted: int) -> int:
    """The size of a piece, as the run began with: a later start cuts the work in the same places."""
    if run.has("pieces.json"):
        found: Mapping[str, Any] = run.read_json("pieces.json")
        return int(found["tokens_per_piece"])
    run.write_json("pieces.json", {"tokens_per_piece": wanted})
    return wanted


def _facts(job: _Job) -> dict[str, object]:
    """What a report says of a benchmark."""
    one = job.prepared
    return {
        "name": one.name,
        "metric": one.metric,
        "chance": one.chance,
        "documents": one.documents,
        "data": one.data,
        "tokens": job.tokens,
        "batches": len(job.pieces),
        "notes": [note.to_json() for note in one.notes],
    }


def _write_tables(run: RunFolder, rows: pd.DataFrame) -> None:
    run.write_bytes("tables/rows.csv", rows.to_csv(index=False).encode())
    write_atomically(run.path / "tables" / "rows.parquet", lambda path: rows.to_parquet(path, index=False))
    run.write_json("tables/rows.columns.json", COLUMNS)
