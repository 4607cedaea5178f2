"""A worker: a process that takes one job after another from a board until none is free.

Started as `python -m glassworks.executors.worker FOLDER SESSION NUMBER`; SIGTERM asks it to stop at the next chance, SIGUSR2
says that its time is nearly up. When its standard input closes, its parent is gone, and it stops too.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Literal

from glassworks.core.errors import (
    Diverged,
    GlassworksError,
    InvalidInput,
    InvalidSpec,
    NotFound,
    RunBusy,
    Unavailable,
    UnknownName,
)
from glassworks.core.events import EventLog, Listener
from glassworks.core.text import Text, say
from glassworks.executors.attempts import BEAT_SECONDS, Attempt, Ending, Signature, beat, beat_path
from glassworks.executors.board import Board
from glassworks.executors.jobs import Job

# The same again would end the same.
_HOPELESS = (Diverged, InvalidInput, InvalidSpec, Unavailable, UnknownName)
PAUSE_SECONDS = 0.5
# How long a job that failed, or whose result another process has locked, is left alone.
BUSY_SECONDS = 2.0
# What a worker gets to finish what it writes when it is told to stop.
GRACE_SECONDS = 20.0
DEPOSED = 76


@dataclass
class Stop:
    """Whether and why this worker was asked to stop."""

    cause: Literal["stopped", "timed_out"] | None = None
    is_working: bool = False

    def ask(self, cause: Literal["stopped", "timed_out"]) -> None:
        """Called by signal handlers: what runs is interrupted, and nothing more is begun."""
        is_first = self.cause is None
        self.cause = self.cause or cause
        if self.is_working and is_first:
            raise KeyboardInterrupt

    @contextmanager
    def working(self) -> Generator[None]:
        """Interruptible only inside, so that no attempt is begun and left without an ending."""
        self.is_working = True
        try:
            if self.cause is not None:
                raise KeyboardInterrupt
            yield
        finally:
            self.is_working = False


@dataclass
class Pulse:
    """A thread that tells that this worker lives, and ends it where its job was given to another."""

    path: Path
    seconds: float = BEAT_SECONDS
    attempt: Attempt | None = None
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def beating(self) -> Generator[Pulse]:
        """Beats for the length of a `with`."""
        beat(self.path, 0)
        thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join(timeout=1.0)

    def _run(self) -> None:
        count = 0
        while not self._ended.wait(self.seconds):
            count += 1
            # A full disk or a folder that was removed stops no work; the silence tells others.
            with contextlib.suppress(GlassworksError, OSError):
                beat(self.path, count)
            attempt = self.attempt
            if attempt is not None and attempt.ending is not None and attempt is self.attempt:
                os._exit(DEPOSED)


def perform(
    job: Job, attempt: Attempt, stop: Stop, listener: Listener | None = None, *, is_first: bool = True
) -> Ending:
    """Does a job and says how it ended; nothing is raised, whatever the job raises.

    A job that is not the worker's first had less than a worker's whole time: running out of it is not its failure.
    """
    started = time.perf_counter()
    events = EventLog(attempt.events)
    if listener is not None:
        events.listen(listener)
    kind, what, again = "done", None, True
    try:
        with stop.working():
            job.resolved()(events=events, **job.arguments)
    except KeyboardInterrupt:
        kind = stop.cause or "stopped"
    except RunBusy as problem:
        kind, what = "busy", problem.what
    except Exception as problem:  # whatever went wrong is told to the parent, which decides
        with contextlib.suppress(OSError), attempt.log.open("a", encoding="utf-8") as log:
            traceback.print_exc(file=log)
        kind, what, again = "failed", _words(problem), not isinstance(problem, _HOPELESS)
    if kind == "done" and not job.is_done:
        kind, what = stop.cause or "failed", say("it ended without its result, {path}", path=str(job.proof))
    if kind == "timed_out" and not is_first:
        kind = "stopped"
    return Ending(kind, time.perf_counter() - started, what, again)


def say_how_it_ended(attempt: Attempt, ending: Ending) -> None:
    """Notes the ending of an attempt; nothing where its result was seen in the meantime and its folder is gone."""
    with contextlib.suppress(OSError):
        attempt.end(ending)


def work(folder: str | Path, session: str, number: int) -> int:
    """Takes and does jobs until none is free; returns how many were done."""
    stop = Stop()
    _listen_to_signals(stop)
    try:
        board = Board.open(Path(folder), session)
    except NotFound:
        # The session is over: a worker that waited long in a queue comes too late.
        return 0
    by = Signature.own(session, number)
    begun = done = 0
    later: dict[str, float] = {}
    with Pulse(beat_path(board.folder / "sessions", by)).beating() as pulse:
        while stop.cause is None and (board.path / "session.json").is_file():
            taken = next_job(board, by, later)
            # From here on the parent knows that this kind of worker can work.
            begun_path(board.path, number).touch()
            if taken == "wait":
                time.sleep(PAUSE_SECONDS)
                continue
            if taken is None:
                break
            job, attempt = taken
            pulse.attempt = attempt
            with _printing_into(attempt.log):
                ending = perform(job, attempt, stop, is_first=not begun)
            begun += 1
            # Before the ending is there: the pulse would take it for the word of another, and end this worker.
            pulse.attempt = None
            say_how_it_ended(attempt, ending)
            done += ending.kind == "done"
            if ending.kind in ("busy", "failed"):
                later[job.name] = time.monotonic() + BUSY_SECONDS
    return done


def next_job(board: Board, by: Signature, later: dict[str, float]) -> tuple[Job, Attempt] | Literal["wait"] | None:
    """A job claimed for this worker; "wait" where one may become free soon, None where nothing is left."""
    must_wait = False
    for name, job in board.jobs.items():
        if later.get(name) == math.inf:
            continue
        if later.get(name, 0.0) > time.monotonic():
            must_wait = True
            continue
        standing = board.standing(name)
        match standing.kind:
            case "free":
                attempt = board.take(name, by)
                if attempt is not None:
                    return job, attempt
            case "waiting":
                must_wait = True
            case "done":
                # It stays so, and need not be looked at again.
                later[name] = math.inf
            case "given_up" | "held":
                continue
    return "wait" if must_wait else None


def begun_path(session: Path, number: int) -> Path:
    """The mark of a worker that has looked for work."""
    return session / f"worker-{number:04d}.begun"


@contextmanager
def _printing_into(log: Path) -> Generator[None]:
    """Everything that this process prints, libraries and crashes included, goes into a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.dup2(file, 1)
        os.dup2(file, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for target, handle in zip((1, 2), kept, strict=True):
            os.dup2(handle, target)
            os.close(handle)
        os.close(file)


def _listen_to_signals(stop: Stop) -> None:
    if threading.current_thread() is not threading.main_thread():
        return

    def asked(signum: int, frame: FrameType | None) -> None:
        stop.ask("timed_out" if signum == signal.SIGUSR2 else "stopped")

    for one in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(one, asked)


def _stop_without_parent() -> None:
    """Blocks until the parent is gone, which closes the pipe; then ends this process, politely if it can."""
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(143)


def _words(problem: Exception) -> Text:
    if isinstance(problem, GlassworksError):
        return problem.what
    first = (str(problem).strip().splitlines() or ["-"])[0]
    return say("{kind}: {reason}", kind=type(problem).__name__, reason=first)


def main(arguments: list[str]) -> int:
    """The worker of a parent on this machine."""
    folder, session, number = arguments
    threading.Thread(target=_stop_without_parent, name="parent", daemon=True).start()
    work(folder, session, int(number))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
