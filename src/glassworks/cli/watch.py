"""What is known of a run while it goes on: gathered from its events, for any view of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from glassworks.core.events import (
    Event,
    JobDone,
    Judged,
    Listener,
    Measured,
    Planned,
    Progressed,
    RunStarted,
    StepDone,
    Stopped,
    TrainingDone,
    TrainingStarted,
)


@dataclass
class Curves:
    """The training under way: where it is and the points of each score so far."""

    label: str
    steps: int
    step: int
    loss: float = float("nan")
    scores: dict[str, list[tuple[float, float]]] = field(default_factory=dict[str, list[tuple[float, float]]])

    def last(self, score: str) -> float:
        """The newest value of a score; NaN before the first."""
        return self.scores[score][-1][1] if self.scores.get(score) else float("nan")


@dataclass(frozen=True)
class Finished:
    """A training that ended: its label, seconds, whether it lay in the store, and its last in-context accuracy."""

    label: str
    seconds: float
    reused: bool
    accuracy: float


class Watch:
    """A listener that keeps the state of a run; `clock` gives seconds, `also` hears every event first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, also: Listener | None = None) -> None:
        self._clock, self._also = clock, also
        self.started = clock()
        self.planned: dict[str, int] = {}
        self.done: dict[str, int] = {}
        self.current: Curves | None = None
        self.running: dict[str, Curves] = {}
        self.progress: Progressed | None = None
        self.finished: list[Finished] = []
        self.measured: list[str] = []
        self.judged = 0
        self._resumed = False
        self._has_plan = False
        self.stopped: str | None = None
        self._worked_steps = 0
        self._first_work: float | None = None

    def __call__(self, event: Event) -> None:
        """Hears one event."""
        if self._also is not None:
            self._also(event)
        match event:
            case RunStarted(resumed=resumed):
                self._resumed = resumed
            case Planned(trainings=trainings):
                self.planned, self._has_plan = dict(trainings), True
            case TrainingStarted():
                self._begin(event)
            case Progressed():
                self.progress = event
            case StepDone():
                self._step(event)
            case TrainingDone():
                self._end(event)
            case JobDone():
                self._found(event)
            case Measured(name=name):
                self.measured.append(name)
                self.progress = None
            case Judged():
                self.judged += 1
            case Stopped(cause=cause):
                self.stopped = cause
            case _:
                pass

    @property
    def found_finished(self) -> bool:
        """Whether all that was asked for lay in the run already, so that it is only judged and drawn again."""
        return self._resumed and not self._has_plan and self.judged > 0

    @property
    def total_steps(self) -> int:
        """Steps of all planned trainings, each counted once."""
        return sum(self.planned.values())

    @property
    def done_steps(self) -> int:
        """Steps that are done, those found in the store included."""
        return sum(min(self.done.get(digest, 0), steps) for digest, steps in self.planned.items())

    @property
    def done_trainings(self) -> int:
        """Planned trainings that are done."""
        return sum(self.done.get(digest, 0) >= steps for digest, steps in self.planned.items())

    @property
    def seconds(self) -> float:
        """Seconds since the watch began."""
        return self._clock() - self.started

    def remaining_seconds(self) -> float | None:
        """Estimated time to the end of training at the pace so far; None before anything is known."""
        if self._first_work is None or self._worked_steps == 0:
            return None
        pace = (self._clock() - self._first_work) / self._worked_steps
        return pace * (self.total_steps - self.done_steps)

    def seconds_of_work_left(self) -> float | None:
        """Estimated time to the end of the piece of work under way at its pace so far; None before anything is known."""
        if self.progress is None or self.progress.done <= 0:
            return None
        return self.progress.seconds * (self.progress.total - self.progress.done) / self.progress.done

    def _begin(self, event: TrainingStarted) -> None:
        self.planned.setdefault(event.digest, event.steps)
        self.done[event.digest] = event.first_step
        self.progress = None
        self.current = self.running[event.digest] = Curves(event.label, event.steps, event.first_step)
        if self._first_work is None:
            self._first_work = self._clock()

    def _step(self, event: StepDone) -> None:
        # Events name the step they belong to, counted from 0; what is done is one more.
        self._worked_steps += max(event.step + 1 - self.done.get(event.digest, 0), 0)
        self.done[event.digest] = event.step + 1
        # Several may be under way at a time, each in a process of its own.
        self.current = self.running.get(event.digest, self.current)
        if self.current is None:
            return
        self.current.step, self.current.loss = event.step + 1, event.loss
        for name, value in event.scores.items():
            self.current.scores.setdefault(name, []).append((float(event.step), value))

    def _end(self, event: TrainingDone) -> None:
        is_new = self.done.get(event.digest, 0) < self.planned.get(event.digest, 0) or not event.reused
        self.done[event.digest] = self.planned.get(event.digest, 0)
        ended = self.running.pop(event.digest, self.current)
        accuracy = float("nan") if ended is None or event.reused else ended.last("accuracy/in_context")
        if is_new:
            self.finished.append(Finished(event.label, event.seconds, event.reused, accuracy))

    def _found(self, event: JobDone) -> None:
        """A training that another run did: of one's own, its last event told."""
        self.running.pop(event.job, None)
        if event.found and event.job in self.planned:
            self.done[event.job] = self.planned[event.job]
            self.finished.append(Finished(event.label, 0.0, True, float("nan")))
