"""One attempt: disturb a command, look at what it left, type it again, compare with the undisturbed result."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults import looking, promises
from faults.nursery import Child, Ended, Nursery
from faults.verbs import LAUNCH, Place, Verb

_PAGE = 4096
TRACEBACK = "Traceback (most recent call last)"
# What a foreseeable failure may end with: a message, Ctrl-C, a reader that went away, the signals that a system sends.
POLITE = frozenset({0, 1, 130, 141, 143, 129})

Disturb = Callable[[Child], object]
Before = Callable[[], None]


@dataclass(frozen=True)
class Case:
    """What one injection did.

    `outcome` is equal (the command went on and gave the same), refused (a clear message, then equal), finished (it ended
    before it was hit), crashed (a compiled library died without a word where memory ended; nothing was lost, and the
    command then went on), or FAULT.
    """

    verb: str
    injection: str
    moment: str
    outcome: str
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return self.__dict__ | {"notes": list(self.notes), "seconds": round(self.seconds, 3)}


@dataclass
class Lab:
    """A verb with its place, its undisturbed result and what that cost."""

    verb: Verb
    place: Place
    nursery: Nursery
    meaning: dict[str, str] = field(default_factory=dict[str, str])
    behind: list[str] = field(default_factory=list[str])
    """What the undisturbed command leaves too, such as the lock of a folder."""
    cpu_seconds: float = 0.0
    pages: int = 0
    """Of memory that its result takes as files; a file begins a page of its own."""

    @classmethod
    def opened(cls, verb: Verb, nursery: Nursery, folder: Path) -> "Lab":
        """Makes the inputs and the undisturbed result, twice, for only what repeats itself can be compared."""
        lab = cls(verb, Place(folder / "inputs", folder / "out"), nursery)
        shutil.rmtree(folder, ignore_errors=True)
        lab.place.inputs.mkdir(parents=True)
        nursery.learn(lambda: verb.prepare(lab.place))
        lab.place.emptied()
        nursery.learn(lab.whole)
        first = nursery.ask(lambda: looking.meaning(lab.place.out))
        lab.place.emptied()
        ended = lab.start().wait()
        lab.meaning, lab.cpu_seconds = nursery.ask(lambda: looking.meaning(lab.place.out)), ended.cpu_seconds
        if verb.name == LAUNCH:
            # Its work is done by those that it starts.
            lab.cpu_seconds = ended.cpu_seconds_of_all
        lab.behind = nursery.ask(lambda: looking.left_behind(lab.place.out))
        lab.pages = sum(-(-path.stat().st_size // _PAGE) for path in looking.files_of(lab.place.out))
        apart = looking.different(first, lab.meaning)
        if ended.code or apart:
            raise RuntimeError(f"{verb.name} undisturbed: code {ended.code}, not the same twice: {apart} {ended.err}")
        return lab

    @property
    def events(self) -> Path:
        """Where the outside reader of events reads."""
        return self.place.inputs / "events.jsonl"

    def start(self, before: Before | None = None, words: list[str] | None = None) -> Child:
        """Begins the command."""
        own = None if self.verb.before is None else self.verb.before(self.place)

        def prepared() -> None:
            for one in (own, before):
                if one is not None:
                    one()

        environment = {**self.verb.environment(self.place), "GLASSWORKS_EVENTS": str(self.events)}
        return self.nursery.command(words or self.verb.words(self.place), environment, prepared, self.place.inputs)

    def whole(self) -> None:
        """The command in this process, for a child that is to learn its modules."""
        from glassworks.cli.main import main

        if self.verb.before is not None:
            self.verb.before(self.place)()
        os.environ.update(self.verb.environment(self.place))
        sys.argv = ["glassworks", *self.verb.words(self.place)]
        if main(sys.argv[1:]):
            raise SystemExit(1)

    def kill(self, injection: str, moment: str, disturb: Disturb, before: Before | None = None) -> Case:
        """A case where the command is to die; what it reported before must still be there."""
        self.place.emptied()
        self.events.unlink(missing_ok=True)
        child = self.start(before)
        disturb(child)
        ended = child.wait()
        notes = [*self.unkept(), *self.unlike_after_again()]
        outcome = "FAULT" if notes else "finished" if ended.code == 0 else "equal"
        return Case(self.verb.name, injection, moment, outcome, tuple(notes), ended.seconds)

    def unkept(self) -> list[str]:
        """What is broken in the folder, or was reported and is not there."""
        found = self.nursery.ask(
            lambda: looking.broken(self.place.out) + promises.lost(self.place.out, promises.told(self.events))
        )
        return [f"after: {note}" for note in found]

    def unlike_after_again(self) -> list[str]:
        """Types the command again; what then is not as it would have been undisturbed."""
        ended = self.start().wait()
        if ended.code:
            return [f"again: exit code {ended.code}: {_last_words(ended)}"]
        return self.unlike()

    def unlike(self) -> list[str]:
        """How the folder differs from the undisturbed one."""
        meaning, behind, damage = self.nursery.ask(
            lambda: (
                looking.meaning(self.place.out),
                looking.left_behind(self.place.out),
                promises.damage(self.place.out, finished=True),
            )
        )
        notes = [f"differs: {name}" for name in looking.different(self.meaning, meaning)]
        behind = [name for name in behind if name not in self.behind]
        return notes + [f"left behind: {name}" for name in behind] + [f"verify: {line}" for line in damage]


def impolite(ended: Ended) -> list[str]:
    """What was wrong with how a command failed: a traceback, a crash, an unexplained error, no word at all."""
    notes: list[str] = []
    if TRACEBACK in ended.err:
        notes.append(f"traceback: {_last_words(ended)}")
    if ended.code not in POLITE:
        notes.append(f"exit code {ended.code}: {_last_words(ended)}")
    if "unexpected:" in ended.err or "mistake of ours" in ended.err:
        notes.append(f"unexplained: {_last_words(ended)}")
    if ended.code == 1 and "error:" not in ended.err:
        notes.append(f"no word of the cause: {_last_words(ended)}")
    return notes


def _last_words(ended: Ended) -> str:
    lines = [line.strip() for line in ended.err.splitlines() if line.strip()]
    return json.dumps(" / ".join(lines[-3:])[-300:], ensure_ascii=False)
