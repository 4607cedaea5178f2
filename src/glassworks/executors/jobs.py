"""Job: a piece of work that any process can do, known by its name; its result is a file that the work writes last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from glassworks.core.errors import BrokenFile, InvalidInput
from glassworks.core.files import read_json, write_json
from glassworks.core.text import say

JOB = "job.json"


@dataclass(frozen=True)
class Job:
    """What is to be done, by whom ever: a function by its name, plain arguments, and the file that proves it done.

    The function is called as `function(events=EventLog, **arguments)`. It has to write `proof` last and atomically, and to
    do nothing twice: called again it goes on where it was killed, or finds the proof and returns.
    """

    name: str
    """A digest or another name that is also one for a folder; equal names, equal work."""
    label: str
    """A few words for people."""
    function: str
    """`package.module:function`, importable where the work is done."""
    arguments: Mapping[str, Any]
    """JSON data; paths in it are absolute, for a worker may start in another folder."""
    proof: Path
    """The file whose presence says that the whole result is on disk."""
    needs: tuple[str, ...] = ()
    """Names of jobs that must be done before."""
    weight: float = field(default=1.0, compare=False)
    """The size of the work in any unit that all jobs of a run share: steps, tokens."""

    def __post_init__(self) -> None:
        if not self.name or self.name.startswith(".") or "/" in self.name or "\0" in self.name:
            raise InvalidInput(say("a job needs a name that a folder can have"), given=self.name)

    @property
    def is_done(self) -> bool:
        """Whether the result is on disk."""
        return self.proof.is_file()

    def save(self, folder: Path) -> None:
        """Writes the job where workers look for it; what stands there already is left as it is."""
        found = {
            "name": self.name, "label": self.label, "function": self.function, "arguments": dict(self.arguments),
            "proof": str(self.proof.absolute()), "needs": list(self.needs), "weight": self.weight,
        }  # fmt: skip
        path = folder / JOB
        if not path.is_file() or read_json(path) != found:
            write_json(path, found)

    @classmethod
    def load(cls, folder: Path) -> Job:
        """Reads what `save` wrote; NotFound where nothing is, BrokenFile where it is something else."""
        found = read_json(folder / JOB)
        try:
            return cls(
                str(found["name"]), str(found["label"]), str(found["function"]), dict(found["arguments"]),
                Path(found["proof"]), tuple(map(str, found["needs"])), float(found["weight"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as problem:
            raise BrokenFile(say("{path} is no job: {reason}", path=str(folder / JOB), reason=str(problem))) from None

    def resolved(self) -> Callable[..., object]:
        """The function itself; InvalidInput where it cannot be imported."""
        module, _, name = self.function.partition(":")
        try:
            return cast(Callable[..., object], import_module(module).__dict__[name])
        except (ImportError, KeyError, ValueError) as problem:
            raise InvalidInput(
                say("{function} cannot be imported: {reason}", function=self.function, reason=str(problem)),
                right=say("package.module:function, importable by every worker"),
            ) from None


@dataclass(frozen=True)
class Finished:
    """A job whose result is on disk."""

    job: Job
    seconds: float
    """Wall time of the attempt that finished it; 0 where it was found."""
    attempts: int
    """How often this run began it; 0 where it was found."""
    found: bool
    """Whether it was done before, or by another run in the meantime."""
