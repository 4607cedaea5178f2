"""The parent of a session: keeps workers at work, passes on what they tell, counts what is done."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from glassworks.core.errors import JobsFailed, Unavailable
from glassworks.core.events import (
    AnyEvent,
    Event,
    EventLog,
    JobDone,
    JobFailed,
    JobStarted,
    Planned,
    Progressed,
    RunDone,
    RunStarted,
    StepDone,
    TrainingStarted,
)
from glassworks.core.text import Text, say
from glassworks.executors.attempts import Attempt
from glassworks.executors.base import Crew
from glassworks.executors.board import Board, Standing
from glassworks.executors.jobs import Finished, Job
from glassworks.executors.worker import begun_path

PAUSE_SECONDS = 0.2
SECONDS_BETWEEN_NEWS = 1.0
_reader: TypeAdapter[Event] = TypeAdapter(AnyEvent)


@dataclass
class _Watched:
    """What the parent has seen of a job."""

    job: Job
    heard: dict[Path, int] = field(default_factory=dict[Path, int])
    started: set[int] = field(default_factory=set[int])
    ended: set[int] = field(default_factory=set[int])
    share: float = 0.0
    steps: tuple[int, int] = (0, 0)


class Foreman:
    """Sees that every job of a board is done, by however many workers it takes."""

    def __init__(self, board: Board, crew: Crew, most: int, events: EventLog) -> None:
        self.board, self.crew, self.most, self.events = board, crew, most, events
        self.open = {name: _Watched(job) for name, job in board.jobs.items()}
        self.failures: list[tuple[Job, Text, Path | None]] = []
        self.hired: set[int] = set()
        self.gone: set[int] = set()
        self.stillborn = 0
        self.total = _Total(sum(job.weight for job in board.jobs.values()), len(board.jobs), events)

    def finished(self) -> Generator[Finished]:
        """Yields each job once its result is there; raises JobsFailed at the end where some were given up."""
        is_whole = False
        try:
            yield from self._found()
            while self.open:
                begun = time.monotonic()
                wanted = yield from self._look()
                if wanted:
                    self._keep_at_work(wanted)
                is_alone = bool(wanted) and not self.crew.at_work()
                if self.open and not is_alone:
                    # A folder on a slow network file system is not asked all the time.
                    time.sleep(max(PAUSE_SECONDS, 2 * (time.monotonic() - begun)))
            is_whole = not self.failures
        finally:
            try:
                self.crew.dismiss()
            finally:
                self.board.release()
            self.board.close(keep=not is_whole)
        if self.failures:
            raise self._failed()

    def _found(self) -> Iterator[Finished]:
        """What was done before."""
        for name, watched in list(self.open.items()):
            if watched.job.is_done:
                del self.open[name]
                self.total.skip(watched.job)
                self.events.emit(JobDone(job=name, label=watched.job.label, seconds=0.0, attempts=0, found=True))
                yield Finished(watched.job, 0.0, 0, found=True)

    def _look(self) -> Generator[Finished, None, int]:
        """One round over all open jobs; returns how many workers could be busy, 0 where nobody waits for one."""
        free = held = 0
        for name, watched in list(self.open.items()):
            standing = self.board.standing(name)
            self._hear(watched, standing)
            match standing.kind:
                case "done":
                    if not self._is_leaving(standing):
                        del self.open[name]
                        yield self._done(watched, standing)
                case "given_up":
                    del self.open[name]
                    self._give_up(watched, standing)
                case "free":
                    free += 1
                case "held":
                    held += self._is_ours(standing)
                case "waiting":
                    continue
        self.total.tell([watched for watched in self.open.values() if watched.started - watched.ended])
        return free + held if free else 0

    def _is_ours(self, standing: Standing) -> bool:
        """Whether one of our workers made the newest attempt."""
        return standing.newest is not None and standing.newest.by.session == self.board.session

    def _is_leaving(self, standing: Standing) -> bool:
        """Whether our worker has written the result and is about to say so."""
        newest = standing.newest
        if newest is None or not self._is_ours(standing):
            return False
        return newest.ending is None and self.board.observer.is_alive(newest.by)

    def _done(self, watched: _Watched, standing: Standing) -> Finished:
        name, own = watched.job.name, [a for a in standing.attempts if a.by.session == self.board.session]
        seconds = sum((ending.seconds for a in own if (ending := a.ending) is not None), 0.0)
        is_ours = self._is_ours(standing)
        done = Finished(watched.job, seconds, len(own), found=not is_ours)
        if is_ours:
            self.board.clear(name)
        self.total.finish(watched.job)
        self.events.emit(
            JobDone(job=name, label=watched.job.label, seconds=seconds, attempts=len(own), found=done.found)
        )
        return done

    def _give_up(self, watched: _Watched, standing: Standing) -> None:
        newest, what = standing.newest, standing.what or say("it ended without a word")
        self.failures.append((watched.job, what, None if newest is None else newest.log))
        self.total.finish(watched.job)

    def _failed(self) -> JobsFailed:
        job, what, log = self.failures[0]
        return JobsFailed(
            say(
                "{count} of {all} jobs failed; {label}: {reason}",
                count=len(self.failures), all=len(self.board.jobs), label=job.label, reason=what,
            ),
            failures=[(one.name, reason, None if path is None else str(path)) for one, reason, path in self.failures],
            right=None if log is None else say("what it printed is in {path}", path=str(log)),
        )  # fmt: skip

    def _keep_at_work(self, wanted: int) -> None:
        """Hires as many workers as there is work for, and gives up where they end before they begin."""
        at_work = self.crew.at_work()
        self._count_stillborn(self.hired - at_work - self.gone)
        missing = min(wanted, self.most) - len(at_work)
        if missing > 0:
            numbers = range(len(self.hired) + 1, len(self.hired) + 1 + missing)
            self.hired |= set(numbers)
            self.crew.hire(list(numbers), self._told)

    def _count_stillborn(self, gone: set[int]) -> None:
        """Counts workers that ended one after another without having looked for work."""
        self.gone |= gone
        for number in sorted(gone):
            self.stillborn = 0 if self._has_begun(number) else self.stillborn + 1
        if self.stillborn > self.board.retries:
            log = self.crew.last_words(max(gone, default=0))
            raise Unavailable(
                say("{count} workers ended before they began with any job", count=self.stillborn),
                given=None if log is None else _tail(log),
                right=None if log is None else say("what it printed is in {path}", path=str(log)),
            )

    def _has_begun(self, number: int) -> bool:
        return begun_path(self.board.path, number).is_file()

    def _hear(self, watched: _Watched, standing: Standing) -> None:
        """Passes on what the attempts at a job told since the last time."""
        for attempt in standing.attempts:
            if attempt.number in watched.ended:
                continue
            ending = attempt.ending
            is_ours = attempt.by.session == self.board.session
            if attempt.number not in watched.started:
                watched.started.add(attempt.number)
                if not is_ours and ending is not None:
                    watched.ended.add(attempt.number)
                    continue
                self._tell_start(watched.job, attempt)
            for event in _new_events(attempt.events, watched.heard):
                self._pass_on(watched, event)
            if ending is not None:
                watched.ended.add(attempt.number)
                if ending.kind in ("failed", "lost", "timed_out"):
                    self._tell_failure(watched.job, attempt, standing)

    def _told(self, name: str) -> None:
        """A worker in this process has told something."""
        watched = self.open.get(name)
        if watched is not None:
            self._hear(watched, self.board.standing(name))
            self.total.tell([watched])

    def _tell_start(self, job: Job, attempt: Attempt) -> None:
        by = attempt.by
        self.events.emit(
            JobStarted(job=job.name, label=job.label, attempt=attempt.number, worker=by.worker, machine=by.machine)
        )

    def _tell_failure(self, job: Job, attempt: Attempt, standing: Standing) -> None:
        ending = attempt.ending
        reason = "" if ending is None or ending.what is None else str(ending.what)
        self.events.emit(
            JobFailed(
                job=job.name, label=job.label, attempt=attempt.number, reason=reason, log=str(attempt.log),
                again=standing.kind != "given_up",
            )
        )  # fmt: skip

    def _pass_on(self, watched: _Watched, event: Event) -> None:
        match event:
            case Progressed(done=done, total=total):
                watched.share = done / total if total else 0.0
                self.total.is_asked = True
                return
            case Planned() | RunStarted() | RunDone():
                # Of the worker's own small world; the parent has planned them all.
                return
            case TrainingStarted(first_step=first, steps=steps):
                watched.steps = (first, steps)
            case StepDone(step=step):
                watched.share = (step + 1) / max(watched.steps[1], 1)
            case _:
                pass
        self.events.emit(event)


class _Total:
    """How much of all jobs is done, told at most once a second; only where workers count their work in this way."""

    def __init__(self, weight: float, count: int, events: EventLog) -> None:
        self.weight, self.count, self.events = weight, count, events
        self.done, self.jobs = 0.0, 0
        self.is_asked = False
        self._started, self._told = time.monotonic(), 0.0

    def skip(self, job: Job) -> None:
        """A job that was done before this session."""
        self.weight -= job.weight
        self.count -= 1

    def finish(self, job: Job) -> None:
        """A job that is over."""
        self.done += job.weight
        self.jobs += 1

    def tell(self, running: list[_Watched]) -> None:
        """Emits the total, and when it will be reached."""
        now = time.monotonic()
        if not self.is_asked or (now - self._told < SECONDS_BETWEEN_NEWS and self.jobs < self.count):
            return
        self._told = now
        label = say(
            "{done} of {count} done, {running} under way", done=self.jobs, count=self.count, running=len(running)
        )
        done = self.done + sum(watched.share * watched.job.weight for watched in running)
        self.events.emit(
            Progressed(label=str(label), done=done, total=self.weight, seconds=time.monotonic() - self._started)
        )


def _new_events(path: Path, heard: dict[Path, int]) -> Iterator[Event]:
    """The whole lines that were added to a file of events since it was last read."""
    try:
        with path.open("rb") as file:
            file.seek(heard.get(path, 0))
            new = file.read()
    except OSError:
        return
    whole = new[: new.rfind(b"\n") + 1]
    heard[path] = heard.get(path, 0) + len(whole)
    for line in whole.splitlines():
        try:
            yield _reader.validate_json(line)
        except ValidationError:
            continue


def _tail(log: Path, lines: int = 3) -> str | None:
    try:
        found = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return None
    return "\n".join(found[-lines:]) or None
