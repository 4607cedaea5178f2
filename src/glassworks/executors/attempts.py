"""Attempts: who works on a job, how it ended; files that any number of machines read and create without a lock.

A job's folder holds `attempt-0001.json`, `attempt-0002.json`, ...: the newest that has no `.end.json` beside it is the claim
of a live worker. Creating the next number is atomic on local and network file systems (a hard link), so only one worker
gets it; nobody ever changes or removes another's file.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from glassworks.core.errors import BrokenFile, NotFound
from glassworks.core.events import CheckpointSaved, read_events
from glassworks.core.files import read_json, write_bytes, writing
from glassworks.core.text import Text, say

# How long a worker on another machine may be silent before its job is taken from it; network file systems keep what
# they read for up to a minute.
SILENCE_SECONDS = 120.0
BEAT_SECONDS = 5.0

_NUMBERED = re.compile(r"attempt-(\d+)\.json$")


@dataclass(frozen=True)
class Signature:
    """Who holds something: a worker of a session, and the process that it is."""

    session: str
    worker: int
    place: str
    """Machine, its boot and process numbers: only where it is equal do process numbers mean the same."""
    pid: int
    born: float
    """When the process began, in units of the system: process numbers are used again."""
    token: str
    """Drawn anew: a cluster starts a worker again under the same number."""

    @classmethod
    def own(cls, session: str, worker: int) -> Signature:
        """That of this process."""
        return cls(session, worker, here(), os.getpid(), _born(os.getpid()) or 0.0, secrets.token_hex(4))

    @property
    def machine(self) -> str:
        """The machine's name."""
        return self.place.partition("|")[0]


@dataclass(frozen=True)
class Ending:
    """How an attempt ended; `stopped` (asked to) and `busy` (the result was locked) are nobody's failure."""

    kind: Literal["done", "failed", "lost", "stopped", "timed_out", "busy"]
    seconds: float = 0.0
    what: Text | None = None
    """What went wrong."""
    again: bool = True
    """Whether another attempt might end otherwise."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        what = None if self.what is None else self.what.to_json()
        return {"kind": self.kind, "seconds": self.seconds, "what": what, "again": self.again}

    @classmethod
    def from_json(cls, found: Any) -> Ending:
        """Reads what `to_json` wrote."""
        what = None if found["what"] is None else Text.from_json(found["what"])
        return cls(found["kind"], float(found["seconds"]), what, bool(found["again"]))


@dataclass(frozen=True)
class Attempt:
    """One try at a job."""

    path: Path
    number: int
    by: Signature

    @property
    def log(self) -> Path:
        """What the worker printed."""
        return self.path.with_suffix(".log")

    @property
    def events(self) -> Path:
        """What the worker told."""
        return self.path.with_suffix(".events.jsonl")

    @property
    def ending(self) -> Ending | None:
        """How it ended, or None while nobody said."""
        try:
            return Ending.from_json(read_json(self.path.with_suffix(".end.json")))
        except NotFound:
            return None
        except (BrokenFile, KeyError, TypeError, ValueError):
            return Ending("lost")

    def end(self, ending: Ending) -> bool:
        """Says how it ended; the first word counts, False when somebody said so before."""
        return create_once(self.path.with_suffix(".end.json"), json.dumps(ending.to_json()).encode())

    @property
    def got_further(self) -> bool:
        """Whether it saved a checkpoint, from which the next one goes on."""
        return any(isinstance(event, CheckpointSaved) for event in read_events(self.events))


def attempts_of(folder: Path) -> list[Attempt]:
    """The attempts at a job in their order; a file that is being removed or damaged is passed over."""
    found: list[Attempt] = []
    for name in _names(folder):
        match = _NUMBERED.fullmatch(name)
        if match:
            with contextlib.suppress(NotFound, BrokenFile, KeyError, TypeError):
                found.append(Attempt(folder / name, int(match[1]), Signature(**read_json(folder / name))))
    return sorted(found, key=lambda one: one.number)


def begin(folder: Path, by: Signature) -> Attempt | None:
    """The next attempt, held by `by`; None when somebody else was quicker, or the job's folder is gone."""
    numbers = [int(match[1]) for match in map(_NUMBERED.fullmatch, _names(folder)) if match]
    number = max(numbers, default=0) + 1
    path = folder / f"attempt-{number:04d}.json"
    with contextlib.suppress(FileNotFoundError):
        if create_once(path, json.dumps(asdict(by)).encode()):
            return Attempt(path, number, by)
    return None


class Observer:
    """Tells live workers from dead ones: by their process on this machine, by their heartbeat on others.

    No clock of another machine is read: what counts is how long the heartbeat stood still under this process's own eyes.
    """

    def __init__(self, workers: Path, silence: float = SILENCE_SECONDS) -> None:
        self._workers, self._silence = workers, silence
        self._seen: dict[Signature, tuple[str, float]] = {}

    def is_alive(self, by: Signature) -> bool:
        """Whether this worker still works, as far as can be seen from here."""
        if by.place == here():
            return _born(by.pid) == by.born
        now, heard, known = time.monotonic(), read_beat(beat_path(self._workers, by)), self._seen.get(by)
        if known is None or known[0] != heard:
            self._seen[by] = (heard, now)
            return True
        return now - known[1] < self._silence


def beat_path(sessions: Path, by: Signature) -> Path:
    """Where a worker's heartbeat lies."""
    return sessions / by.session / f"worker-{by.worker:04d}-{by.token}.beat"


def beat(path: Path, count: int) -> None:
    """Tells all who look that this worker lives."""
    write_bytes(path, str(count).encode())


def read_beat(path: Path) -> str:
    """The newest heartbeat; empty before the first."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def create_once(path: Path, data: bytes) -> bool:
    """Creates a whole file, or returns False when there is one; atomic also where several machines share the folder."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with writing(path), os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(name, path)
        except FileExistsError:
            # A network file system may have made the link and lost the answer.
            return os.stat(name).st_nlink == 2
        except OSError as problem:
            if problem.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            return _create_exclusively(path, data)
        return True
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


def _create_exclusively(path: Path, data: bytes) -> bool:
    """The same where a folder knows no hard links; a reader may meet the file before its contents."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    return True


@cache
def here() -> str:
    """This machine, its boot, and its space of process numbers (containers have their own)."""
    parts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with contextlib.suppress(OSError):
            is_link = Path(path).is_symlink()
            parts.append(os.readlink(path) if is_link else Path(path).read_text(encoding="ascii").strip())
    return "|".join(parts)


def lost(attempt: Attempt) -> Ending:
    """The ending of an attempt whose worker is gone without a word."""
    return Ending(
        "lost",
        what=say(
            "worker {worker} on {machine} ended without a word", worker=attempt.by.worker, machine=attempt.by.machine
        ),
    )


def _born(pid: int) -> float | None:
    """When a process began; None when there is none, or only its corpse."""
    if Path("/proc/self/stat").exists():
        try:
            # Behind the name, which may hold spaces: the state, and as the twentieth the ticks from boot to start,
            # which no change of the clock moves.
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else float(fields[19])
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


def _names(folder: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from os.listdir(folder)
