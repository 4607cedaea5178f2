"""Board: the jobs of one session in a shared folder, and where each stands; parents and workers read the same files.

`<folder>/jobs/<name>/` belongs to a job, whoever wants it done; `<folder>/sessions/<id>/` to one parent and its workers.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glassworks.core.errors import NotFound
from glassworks.core.files import read_json, write_json
from glassworks.core.text import Text, say
from glassworks.executors.attempts import (
    SILENCE_SECONDS,
    Attempt,
    Ending,
    Observer,
    Signature,
    attempts_of,
    begin,
    lost,
)
from glassworks.executors.jobs import Job

SESSION = "session.json"


@dataclass(frozen=True)
class Standing:
    """Where a job stands: done, held by a worker, free to be taken, waiting for others, or given up by this session."""

    kind: Literal["done", "held", "free", "waiting", "given_up"]
    attempts: tuple[Attempt, ...] = ()
    what: Text | None = None
    """Of a job that was given up: why."""

    @property
    def newest(self) -> Attempt | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None


class Board:
    """The jobs of a session; nothing here is locked, and everything can be read by any number of machines."""

    def __init__(self, folder: Path, session: str, jobs: Sequence[Job], retries: int) -> None:
        self.folder, self.session, self.retries = folder, session, retries
        self.jobs = {job.name: job for job in jobs}
        self.observer = Observer(folder / "sessions", SILENCE_SECONDS)

    @classmethod
    def create(cls, folder: Path, jobs: Sequence[Job], retries: int) -> Board:
        """Writes the jobs and a new session of this process."""
        folder = folder.absolute()
        session = time.strftime("%Y%m%d-%H%M%S-") + f"{os.getpid()}-{secrets.token_hex(3)}"
        board = cls(folder, session, jobs, retries)
        for job in jobs:
            job.save(board.of(job.name))
        write_json(board.path / SESSION, {"jobs": [job.name for job in jobs], "retries": retries})
        return board

    @classmethod
    def open(cls, folder: Path, session: str) -> Board:
        """The board as a worker finds it; NotFound when the session is over."""
        found = read_json(folder / "sessions" / session / SESSION)
        jobs = [_loaded(folder / "jobs" / str(name)) for name in found["jobs"]]
        return cls(folder, session, [job for job in jobs if job is not None], int(found["retries"]))

    @property
    def path(self) -> Path:
        """The session's own folder."""
        return self.folder / "sessions" / self.session

    def of(self, name: str) -> Path:
        """The folder of a job."""
        return self.folder / "jobs" / name

    def standing(self, name: str) -> Standing:
        """Where a job stands now. An attempt whose worker is dead is ended here, by whoever looks first."""
        job = self.jobs[name]
        if job.is_done:
            return Standing("done", tuple(attempts_of(self.of(name))))
        attempts = tuple(attempts_of(self.of(name)))
        newest = attempts[-1] if attempts else None
        if newest is not None and newest.ending is None:
            if self.observer.is_alive(newest.by):
                return Standing("held", attempts)
            # Its last act may have been to finish.
            if job.is_done:
                return Standing("done", attempts)
            newest.end(lost(newest))
        failures = self._failures(attempts)
        if failures and (len(failures) > self.retries or not failures[-1].again):
            return Standing("given_up", attempts, failures[-1].what)
        return self._behind_needs(job, attempts)

    def _behind_needs(self, job: Job, attempts: tuple[Attempt, ...]) -> Standing:
        for need in job.needs:
            if need not in self.jobs:
                continue
            before = self.standing(need)
            if before.kind == "given_up":
                return Standing(
                    "given_up", attempts, say("it needs {label}, which failed", label=self.jobs[need].label)
                )
            if before.kind != "done":
                return Standing("waiting", attempts)
        return Standing("free", attempts)

    def _failures(self, attempts: Sequence[Attempt]) -> list[Ending]:
        """The endings of this session that count; a death after a checkpoint does not, for the next goes on from there."""
        found: list[Ending] = []
        for attempt in attempts:
            ending = attempt.ending
            if attempt.by.session != self.session or ending is None:
                continue
            is_death = ending.kind in ("lost", "timed_out")
            if ending.kind == "failed" or (is_death and not attempt.got_further):
                found.append(ending)
        return found

    def take(self, name: str, by: Signature) -> Attempt | None:
        """Claims a free job; None when another was quicker."""
        return begin(self.of(name), by)

    def begun(self, name: str) -> int:
        """How often this session began a job."""
        return sum(attempt.by.session == self.session for attempt in attempts_of(self.of(name)))

    def held(self) -> list[Attempt]:
        """The attempts of this session that nobody has ended."""
        newest = [attempts[-1] for name in self.jobs if (attempts := attempts_of(self.of(name)))]
        return [one for one in newest if one.by.session == self.session and one.ending is None]

    def release(self) -> None:
        """Ends the attempts of workers that were ended from outside, so that nobody waits for them."""
        for attempt in self.held():
            attempt.end(Ending("stopped"))

    def clear(self, name: str) -> None:
        """Removes what was noted about a job that is done; its result lies elsewhere."""
        shutil.rmtree(self.of(name), ignore_errors=True)

    def close(self, *, keep: bool) -> None:
        """Ends the session: workers that come later find nothing to do. `keep` leaves the workers' logs for people."""
        (self.path / SESSION).unlink(missing_ok=True)
        if not keep:
            shutil.rmtree(self.path, ignore_errors=True)


def _loaded(folder: Path) -> Job | None:
    """A job, or None where it is done and its folder gone."""
    try:
        return Job.load(folder)
    except NotFound:
        return None
