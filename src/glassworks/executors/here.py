"""Jobs in this process, one after the other; the reference that every other executor has to equal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from glassworks.executors.attempts import Signature, beat_path
from glassworks.executors.base import Crew, Executor
from glassworks.executors.board import Board
from glassworks.executors.worker import (
    BUSY_SECONDS,
    PAUSE_SECONDS,
    Pulse,
    Stop,
    begun_path,
    next_job,
    perform,
    say_how_it_ended,
)


class Here(Executor):
    """This process. Text: `here`."""

    kind: Literal["here"] = "here"
    workers: Literal[1] = 1
    """One, this process itself."""
    retries: int = Field(default=0, ge=0)
    """How often a job that failed is begun again; in the same process it mostly fails the same way."""

    def crew(self, board: Board) -> Crew:
        """This process as the only worker."""
        return _Alone(board)


class _Alone(Crew):
    def __init__(self, board: Board) -> None:
        self.board = board
        self.later: dict[str, float] = {}

    def hire(self, numbers: Sequence[int], told: Callable[[str], None]) -> None:
        """Does the next free job before it returns."""
        by = Signature.own(self.board.session, numbers[0])
        begun_path(self.board.path, by.worker).touch()
        taken = next_job(self.board, by, self.later)
        if taken is None or taken == "wait":
            time.sleep(PAUSE_SECONDS)
            return
        job, attempt = taken
        with Pulse(beat_path(self.board.folder / "sessions", by)).beating():
            ending = perform(job, attempt, Stop(), lambda _: told(job.name))
            say_how_it_ended(attempt, ending)
        if ending.kind == "stopped":
            raise KeyboardInterrupt
        if ending.kind == "busy":
            self.later[job.name] = time.monotonic() + BUSY_SECONDS

    def at_work(self) -> set[int]:
        """Nobody: whoever was hired has done his job."""
        return set()

    def dismiss(self) -> None:
        """Nothing runs beside this process."""

    def last_words(self, number: int) -> Path | None:
        """What it prints goes where all of this process does."""
        return None
