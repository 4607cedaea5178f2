"""One job on disk: OUT/jobs/ID/ with job.json (what was asked), events.jsonl, stdout, stderr and ended.json."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, cast

import psutil

from glassworks.core.errors import GlassworksError
from glassworks.core.files import read_json, write_json

FORMAT = 1
INTERRUPTED_CODE = 130
State = Literal["queued", "running", "paused", "stopping", "done", "stopped", "failed", "interrupted"]
Wish = Literal["run", "pause", "stop"]
_LIVING: dict[Wish, State] = {"run": "running", "pause": "paused", "stop": "stopping"}
ALIVE: tuple[State, ...] = ("running", "paused", "stopping")
# Clock ticks and rounding between two looks at the birth of one process.
_SAME_BIRTH = 0.05
# The option that runs code out of a model's folder, also where it is cut short.
_FORBIDDEN = "--trust"
_CLUSTERS = ("slurm", "ray")


@dataclass(frozen=True)
class Order:
    """What is to be run, as a form was understood: `words` is the command line without its program."""

    verb: str
    about: str
    title: str
    words: tuple[str, ...]
    choices: dict[str, Any] = field(default_factory=dict[str, Any])
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    """Steps, tokens per step, the folder that the result gets: what progress is told from."""


@dataclass(frozen=True)
class Job:
    """A job as job.json has it; its state follows from that, from ended.json and from whether its process lives."""

    path: Path
    order: Order
    created: float
    wish: Wish = "run"
    session: int = 0
    """How often it was started."""
    started: float | None = None
    pid: int | None = None
    born: float | None = None
    """When the process was created: a number alone may meanwhile mean another process."""
    threads: int = 1

    @property
    def identifier(self) -> str:
        """Its name in addresses."""
        return self.path.name

    @property
    def command(self) -> str:
        """The command line as it can be typed."""
        return shlex.join(["glassworks", *self.order.words])

    @property
    def is_elsewhere(self) -> bool:
        """Whether workers of a cluster compute for it."""
        return self.order.facts.get("place") in _CLUSTERS

    @property
    def reaches_out(self) -> bool:
        """Whether its command hands work to others than this machine; told from its words, which are what is run."""
        words = self.order.words
        given = [after for word, after in pairwise(words) if word == "--executor"]
        given += [word.partition("=")[2] for word in words if word.startswith("--executor=")]
        return any(not one.startswith(("here", "local")) for one in given)

    def write(self) -> None:
        """Writes job.json atomically."""
        order = self.order
        write_json(
            self.path / "job.json",
            {
                "format": FORMAT, "verb": order.verb, "about": order.about, "title": order.title, "words": list(order.words),
                "choices": order.choices, "facts": order.facts, "created": self.created, "wish": self.wish,
                "session": self.session, "started": self.started, "pid": self.pid, "born": self.born, "threads": self.threads,
            },
        )  # fmt: skip

    def changed(self, **fields: Any) -> Job:
        """A copy with other fields, written at once."""
        found = replace(self, **fields)
        found.write()
        return found

    @classmethod
    def read(cls, path: Path) -> Job | None:
        """The job of a folder; None where there is none or its file is damaged."""
        try:
            found = read_json(path / "job.json")
            order = Order(
                str(found["verb"]), str(found["about"]), str(found["title"]), tuple(map(str, found["words"])),
                dict(found["choices"]), dict(found["facts"]),
            )  # fmt: skip
            # A folder of runs may come from somebody else: what waits in it must not run the code of a model.
            if any(word.startswith(_FORBIDDEN) for word in order.words):
                return None
            wish = found["wish"] if found["wish"] in ("run", "pause", "stop") else "run"
            job = cls(
                path, order, float(found["created"]), wish, int(found["session"]), _number(found["started"]),
                None if found["pid"] is None else _process_number(found["pid"]), _number(found["born"]), int(found["threads"]),
            )  # fmt: skip
            # What cannot be sent as JSON in UTF-8, such as infinity or half a character, cannot be listed.
            json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
        except (GlassworksError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
            return None
        return job

    def ended(self) -> tuple[int, float] | None:
        """Exit code and time of the present session's end; None where it did not end by itself."""
        try:
            found = cast(dict[str, Any], read_json(self.path / "ended.json"))
            return (int(found["code"]), float(found["at"])) if found["session"] == self.session else None
        except (GlassworksError, KeyError, TypeError, ValueError, OverflowError):
            return None

    def process(self) -> psutil.Process | None:
        """The living process of the job, None where it ended or another one has its number now."""
        if self.pid is None or self.born is None:
            return None
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.born) < _SAME_BIRTH
            return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    def state(self) -> State:
        """How it stands now."""
        ended = self.ended() if self.session else None
        if ended is not None:
            # A wish that came after the end: it waits for its next turn.
            return _state_after(ended[0], self.wish)
        if self.session == 0 or self.pid is None:
            return "stopped" if self.wish == "stop" else "queued"
        if self.process() is None:
            return "stopped" if self.wish == "stop" else "interrupted"
        return _LIVING[self.wish]


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _process_number(value: Any) -> int:
    """Raises ValueError for what is no number of a process of its own: 0 and less name whole groups."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(value)
    return value


def _state_after(code: int, wish: Wish) -> State:
    if code == 0:
        return "done"
    return "stopped" if code == INTERRUPTED_CODE or wish == "stop" else "failed"
