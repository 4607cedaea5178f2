"""Workers as tasks of a Ray cluster, for those without SLURM."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from glassworks.core.errors import Unavailable
from glassworks.core.text import say
from glassworks.executors.base import Crew, Executor
from glassworks.executors.board import Board
from glassworks.executors.worker import GRACE_SECONDS, work


class Ray(Executor):
    """A Ray cluster. Text: `ray:8`, `ray:workers=8,gpus=1,address=auto`.

    The folder of --out has to be on a file system that all nodes share.
    """

    first: ClassVar[str] = "workers"

    kind: Literal["ray"] = "ray"
    workers: int = Field(default=2, ge=1, le=100_000)
    """Workers at the same time, as far as the cluster has room."""
    address: str | None = None
    """Of a running cluster, or `auto` for the one this node belongs to; unless given, Ray is started on this machine."""
    cpus: float = Field(default=1.0, ge=0)
    """Cores that a worker reserves."""
    gpus: float = Field(default=0.0, ge=0)
    """GPUs that a worker reserves; parts of one are possible."""

    def crew(self, board: Board) -> Crew:
        """Ray tasks; Unavailable without Ray, or where no cluster answers at the address."""
        try:
            import ray
        except ImportError:
            raise Unavailable(say("Ray is not installed"), next_command="pip install 'glassworks[ray]'") from None
        started = not ray.is_initialized()
        if started:
            # Ray starts a process for each core of this machine unless told how many there are.
            own: dict[str, Any] = {"num_cpus": max(1, round(self.workers * self.cpus))} if self.address is None else {}
            try:
                ray.init(
                    address=self.address or "local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
                    runtime_env={"env_vars": {**self.environment(), "PYTHONPATH": os.pathsep.join(sys.path)}}, **own,
                )  # fmt: skip
            except (ConnectionError, OSError, RuntimeError, ValueError) as problem:
                raise Unavailable(
                    say("no Ray cluster answers: {reason}", reason=(str(problem).splitlines() or ["-"])[0]),
                    given=self.address,
                    right=say("the address of one, or none, which starts Ray here"),
                ) from None
        return _Tasks(board, self, is_own=started)


class _Tasks(Crew):
    def __init__(self, board: Board, spec: Ray, *, is_own: bool) -> None:
        import ray

        self.board, self.is_own = board, is_own
        # Our own board counts attempts; Ray must not begin a worker again behind its back.
        self.remote: Any = ray.remote(num_cpus=spec.cpus, num_gpus=spec.gpus, max_retries=0, max_calls=1)(work)
        self.running: dict[int, Any] = {}

    def hire(self, numbers: Sequence[int], told: Callable[[str], None]) -> None:
        """Asks the cluster for tasks."""
        for number in numbers:
            self.running[number] = self.remote.remote(str(self.board.folder), self.board.session, number)

    def at_work(self) -> set[int]:
        """Those that Ray has not ended."""
        import ray

        waiting: list[Any] = list(self.running.values())
        if not waiting:
            return set()
        over, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return {number for number, reference in self.running.items() if reference not in over}

    def dismiss(self) -> None:
        """Interrupts what is left, waits until each worker has said how far it came, then ends it by force."""
        import ray

        for is_last in (False, True):
            for number in self.at_work():
                with contextlib.suppress(Exception):  # a worker that is gone already
                    ray.cancel(self.running[number], force=is_last)
            limit = time.monotonic() + GRACE_SECONDS
            while self.board.held() and time.monotonic() < limit:
                time.sleep(0.2)
        if self.is_own:
            ray.shutdown()

    def last_words(self, number: int) -> Path | None:
        """Ray keeps what its workers print."""
        return None
