"""Typed progress: one JSON line per event, appended and never rewritten.

Terminal, studio and report all follow this one file; a torn last line (a killed process) is
skipped by the reader.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from glassworks.core.files import writing


class Event(BaseModel, frozen=True):
    """Something that happened, with the wall-clock time in seconds since 1970."""

    kind: str
    at: float = Field(default_factory=time.time)


class RunStarted(Event, frozen=True):
    """A run began or was taken up again."""

    kind: Literal["run_started"] = "run_started"
    command: str
    resumed: bool = False


class Planned(Event, frozen=True):
    """What a run will train: optimiser steps by digest."""

    kind: Literal["planned"] = "planned"
    trainings: dict[str, int]


class TrainingStarted(Event, frozen=True):
    """A training began at `first_step` (0 unless resumed)."""

    kind: Literal["training_started"] = "training_started"
    label: str
    digest: str
    seed: int
    first_step: int
    steps: int


class StepDone(Event, frozen=True):
    """One optimiser step; loss in nats per token, all else named in `scores` (fractions unless said)."""

    kind: Literal["step_done"] = "step_done"
    digest: str
    step: int
    loss: float
    scores: dict[str, float] = {}
    seconds: float


class Sampled(Event, frozen=True):
    """What the model under training wrote after `step` steps, going on from a prompt."""

    kind: Literal["sampled"] = "sampled"
    digest: str
    step: int
    prompt: str
    text: str


class CheckpointSaved(Event, frozen=True):
    """The state after `step` steps is on disk."""

    kind: Literal["checkpoint_saved"] = "checkpoint_saved"
    digest: str
    step: int


class TrainingDone(Event, frozen=True):
    """A training ended; `reused` says that an equal one was found in the store."""

    kind: Literal["training_done"] = "training_done"
    label: str
    digest: str
    seconds: float
    reused: bool = False


class Stopped(Event, frozen=True):
    """Work stopped politely before its end, with the cause."""

    kind: Literal["stopped"] = "stopped"
    cause: str
    step: int | None = None


class Progressed(Event, frozen=True):
    """Part of a long piece of work is done: `done` of `total` in the unit of the work, after `seconds` of it."""

    kind: Literal["progressed"] = "progressed"
    label: str
    done: float
    total: float
    seconds: float


class Measured(Event, frozen=True):
    """A measurement is finished."""

    kind: Literal["measured"] = "measured"
    name: str
    seconds: float


class Judged(Event, frozen=True):
    """A claim received its verdict."""

    kind: Literal["judged"] = "judged"
    claim: str
    verdict: str


class JobStarted(Event, frozen=True):
    """A worker began a job that others could do as well; attempts are counted from 1."""

    kind: Literal["job_started"] = "job_started"
    job: str
    label: str
    attempt: int
    worker: int
    machine: str


class JobFailed(Event, frozen=True):
    """An attempt at a job failed, or its worker died; `again` says that there will be another. `log` is what it printed."""

    kind: Literal["job_failed"] = "job_failed"
    job: str
    label: str
    attempt: int
    reason: str
    log: str
    again: bool


class JobDone(Event, frozen=True):
    """The result of a job is on disk, after `attempts` of this run; `found` says that another run made it."""

    kind: Literal["job_done"] = "job_done"
    job: str
    label: str
    seconds: float
    attempts: int
    found: bool


class RunDone(Event, frozen=True):
    """A run ended; all that it found is written. The report of a sweep follows."""

    kind: Literal["run_done"] = "run_done"
    seconds: float


AnyEvent = Annotated[
    RunStarted
    | Planned
    | TrainingStarted
    | StepDone
    | Sampled
    | CheckpointSaved
    | TrainingDone
    | Stopped
    | Progressed
    | Measured
    | Judged
    | JobStarted
    | JobFailed
    | JobDone
    | RunDone,
    Field(discriminator="kind"),
]
_reader: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)

Listener = Callable[[Event], None]


class EventLog:
    """An append-only file of events, with listeners that hear each one as it is written."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Calls `listener` with every event emitted from now on."""
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Appends the event as one line and tells the listeners."""
        if self.path is not None:
            line = json.dumps(event.model_dump(mode="json"), ensure_ascii=False, allow_nan=True) + "\n"
            with writing(self.path), self.path.open("ab") as file:
                if file.tell() and not _ends_with_newline(self.path):
                    file.write(b"\n")
                file.write(line.encode())
        for listener in self._listeners:
            listener(event)


def read_events(path: Path) -> Iterator[AnyEvent]:
    """The events of a file in order; a line that is none (torn by a kill, foreign) is passed over.

    The log tells a story and costs; no number is taken from it, so a bad line must not bar the way to the whole ones.
    """
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n"):
        try:
            event = _reader.validate_json(line)
        except ValidationError:
            continue
        yield event


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
