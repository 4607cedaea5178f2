"""Workers as processes of this machine: one thread each, one GPU each where there are several, none left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from glassworks.executors.base import Crew, Executor
from glassworks.executors.board import Board
from glassworks.executors.worker import GRACE_SECONDS

_VISIBLE = "CUDA_VISIBLE_DEVICES"


class Local(Executor):
    """Processes of this machine. Text: `local:4`."""

    kind: Literal["local"] = "local"
    workers: int = Field(default=2, ge=1, le=1024)
    """Processes that work at the same time."""

    def crew(self, board: Board) -> Crew:
        """Processes that end with this one, whatever ends it."""
        return _Processes(board, self.environment())


class _Processes(Crew):
    def __init__(self, board: Board, environment: Mapping[str, str]) -> None:
        self.board, self.environment = board, environment
        self.devices = cuda_devices(os.environ)
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def hire(self, numbers: Sequence[int], told: Callable[[str], None]) -> None:
        """Starts workers; each reads from a pipe that closes when this process ends."""
        for number in numbers:
            with self._log(number).open("ab") as log:
                self.running[number] = subprocess.Popen(
                    [sys.executable, "-m", "glassworks.executors.worker", str(self.board.folder), self.board.session, str(number)],
                    stdin=subprocess.PIPE, stdout=log, stderr=log, env=self._environment(number),
                    # Ctrl-C in a terminal goes to this process alone, which then asks its workers to stop.
                    start_new_session=True,
                )  # fmt: skip

    def at_work(self) -> set[int]:
        """Those whose process has not ended."""
        return {number for number, process in self.running.items() if process.poll() is None}

    def dismiss(self) -> None:
        """Asks all to stop, and kills with all their children those that have not after some seconds."""
        for number in self.at_work():
            with contextlib.suppress(ProcessLookupError):
                self.running[number].terminate()
        limit = time.monotonic() + GRACE_SECONDS
        try:
            # A second Ctrl-C ends the waiting.
            while self.at_work() and time.monotonic() < limit:
                time.sleep(0.05)
        finally:
            for number in self.at_work():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.running[number].pid, signal.SIGKILL)
            for process in self.running.values():
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()

    def last_words(self, number: int) -> Path:
        """What a worker printed outside of jobs."""
        return self._log(number)

    def _log(self, number: int) -> Path:
        return self.board.path / f"worker-{number:04d}.log"

    def _environment(self, number: int) -> dict[str, str]:
        mine = {_VISIBLE: self.devices[(number - 1) % len(self.devices)]} if self.devices else {}
        return {**os.environ, **self.environment, **mine}


def cuda_devices(environment: Mapping[str, str], drivers: Path = Path("/proc/driver/nvidia/gpus")) -> list[str]:
    """The CUDA devices that this process may use, by the names that CUDA_VISIBLE_DEVICES takes; needs no torch."""
    if _VISIBLE in environment:
        return [name.strip() for name in environment[_VISIBLE].split(",") if name.strip()]
    return [str(number) for number in range(len(list(drivers.iterdir())))] if drivers.is_dir() else []
