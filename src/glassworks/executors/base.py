"""Executor: where jobs are done, as a value; the same call for this process, this machine and a cluster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from glassworks.core.errors import InvalidInput
from glassworks.core.events import EventLog
from glassworks.core.spec import Spec
from glassworks.core.text import say
from glassworks.executors.board import Board
from glassworks.executors.jobs import Finished, Job

# Below a command's --out folder: what workers and their parents tell each other.
WORK = "work"


class Crew(ABC):
    """The workers of one session, started and ended by its parent."""

    @abstractmethod
    def hire(self, numbers: Sequence[int], told: Callable[[str], None]) -> None:
        """Starts workers of these numbers, or asks the cluster for them.

        Who works inside this call says by `told` which job has news.
        """

    @abstractmethod
    def at_work(self) -> set[int]:
        """The numbers of those that run or still wait to be started."""

    @abstractmethod
    def dismiss(self) -> None:
        """Ends all of them: politely, then by force; returns when none is left."""

    @abstractmethod
    def last_words(self, number: int) -> Path | None:
        """The file with what a worker printed outside of jobs, where there is one."""


class Executor(Spec):
    """Where jobs are done. None of it changes a result, beyond rounding where `threads` or the device differ."""

    first: ClassVar[str] = "workers"
    """The field that a bare word after the colon means: `local:4`."""

    workers: int = Field(default=1, ge=1, le=100_000)
    """Processes that work at the same time."""
    threads: int = Field(default=1, ge=1)
    """Threads of each."""
    retries: int = Field(default=2, ge=0)
    """How often a job that failed, or whose worker died, is begun again before it is given up."""

    def crew(self, board: Board) -> Crew:
        """The workers for a board."""
        raise NotImplementedError

    def iterate(self, jobs: Sequence[Job], folder: Path, events: EventLog) -> Iterator[Finished]:
        """Does the jobs, each once, and yields each as its result is on disk; those that are there already come first.

        `folder` has to be shared by all machines. Raises JobsFailed at the end where some were given up; the others are
        done. Whenever the iterator is closed or interrupted, its workers are ended.
        """
        from glassworks.executors.foreman import Foreman

        board = Board.create(folder, _once(jobs), self.retries)
        try:
            crew = self.crew(board)
        except BaseException:
            board.close(keep=False)
            raise
        with closing(Foreman(board, crew, self.workers, events).finished()) as finished:
            yield from finished

    def run(self, jobs: Sequence[Job], folder: Path, events: EventLog) -> list[Finished]:
        """`iterate`, to the end."""
        return list(self.iterate(jobs, folder, events))

    def environment(self) -> dict[str, str]:
        """What the environment of each worker says of threads."""
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
        return dict.fromkeys(names, str(self.threads))


def _once(jobs: Sequence[Job]) -> list[Job]:
    """Equal jobs once; InvalidInput for a need that is no job, or one name for two jobs."""
    found: dict[str, Job] = {}
    for job in jobs:
        if found.setdefault(job.name, job).function != job.function:
            raise InvalidInput(say("two different jobs are called {name}", name=job.name))
    for job in found.values():
        for need in job.needs:
            if need not in found:
                raise InvalidInput(say("{label} needs a job that is not there", label=job.label), given=need)
    return list(found.values())
