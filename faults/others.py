"""Signals, readers that go away, clocks that jump, two processes on one folder, and limits of files and memory."""

import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from faults.nursery import Child, renew_streams
from faults.trying import TRACEBACK, Before, Case, Lab, impolite

SIGNALS, PIPE, CLOCK, TWO, LIMITS = "signals", "closed stdout", "clock jump", "two processes", "limits"
FRESH = "fresh interpreter"
DAY_SECONDS = 86_400.0
# Between two presses of Ctrl-C by an impatient person.
_AGAIN_SECONDS = 0.05
# A signal before this share of the work must be heard; a busy machine hands a later one over when all is done.
_WELL_BEFORE = 0.7
_FEW_FILES = 64
_MEGABYTES = (8, 64, 256)
# Compiled code that does not ask whether it got its memory; no Python is left to tell of it.
_CRASHES = frozenset({-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS})


def signalled(lab: Lab, moments: int, chance: random.Random) -> Iterator[Case]:
    """Ctrl-C once and twice, a termination (what a cluster sends first), a closed terminal."""
    kinds = (
        ("Ctrl-C", (signal.SIGINT,)),
        ("Ctrl-C twice", (signal.SIGINT, signal.SIGINT)),
        ("SIGTERM", (signal.SIGTERM,)),
        ("SIGHUP", (signal.SIGHUP,)),
    )
    for name, numbers in kinds:
        for _ in range(moments):
            yield _sent(lab, SIGNALS, name, numbers, _Aim(chance.random(), lab.cpu_seconds))


def fresh(lab: Lab, moments: int, chance: random.Random) -> Iterator[Case]:
    """Kill -9 and Ctrl-C twice once more, of a process that was not forked; its start, which loads libraries, is hit too."""
    lab.place.emptied()
    exchanged = _exchanged_for(lab)
    whole = lab.start(before=exchanged).wait()
    for number in range(2 * moments):
        is_kill = number % 2 == 0
        numbers = (signal.SIGKILL,) if is_kill else (signal.SIGINT, signal.SIGINT)
        aim = _Aim(chance.random(), whole.cpu_seconds)
        yield _sent(lab, FRESH, "kill -9" if is_kill else "Ctrl-C twice", numbers, aim, exchanged)


def _exchanged_for(lab: Lab) -> Callable[[], None]:
    """Turns the child into a new interpreter that is given the same command line."""

    def exchange() -> None:
        os.execv(sys.executable, [sys.executable, "-m", "glassworks.cli.main", *lab.verb.words(lab.place)])

    return exchange


@dataclass(frozen=True)
class _Aim:
    """A moment: a share of the processor time that the undisturbed command takes."""

    share: float
    cpu_seconds: float

    def met(self, child: Child) -> bool:
        """Waits for the moment; whether the command was then still well before its end."""
        _worked(child, self.share * self.cpu_seconds)
        return not child.is_over() and child.cpu() < _WELL_BEFORE * self.cpu_seconds


def _sent(
    lab: Lab, injection: str, what: str, numbers: tuple[signal.Signals, ...], aim: _Aim, before: Before | None = None
) -> Case:
    lab.place.emptied()
    lab.events.unlink(missing_ok=True)
    child = lab.start(before)
    was_early = aim.met(child)
    for place, number in enumerate(numbers):
        time.sleep(_AGAIN_SECONDS if place else 0)
        child.signal(number)
    ended = child.wait()
    # In the first instant of a process nobody listens yet, and nothing has begun.
    has_begun = any(lab.place.out.rglob("*"))
    notes = impolite(ended) if has_begun and signal.SIGKILL not in numbers else []
    if ended.code == -signal.SIGINT and TRACEBACK not in ended.err and not lab.unlike():
        # All was there, and Python already cleared up, where it hands signals back to the system. Before that it is a fault.
        notes = []
    if was_early and ended.code == 0:
        notes.append("it was not heard: the command went on to its end")
    notes += [*lab.unkept(), *lab.unlike_after_again()]
    outcome = "FAULT" if notes else "finished" if ended.code == 0 else "equal"
    moment = f"{what} at {aim.share:.0%} of the work"
    return Case(lab.verb.name, injection, moment, outcome, tuple(notes), ended.seconds)


def without_reader(lab: Lab) -> Iterator[Case]:
    """Nobody reads what is said: the pipe of stdout is closed at once, as `| head -0` closes it."""
    lab.place.emptied()
    ended = lab.start(before=_hang_up).wait()
    notes = [*impolite(ended), *lab.unlike_after_again()]
    yield Case(lab.verb.name, PIPE, "from the beginning", "FAULT" if notes else "equal", tuple(notes), ended.seconds)


def _hang_up() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)
    os.close(writing)
    renew_streams()


def clock_jumps(lab: Lab) -> Iterator[Case]:
    """The clock that Python reads jumps by a day, after the hundredth look at it and in the middle of the work."""
    for name, jump in (("forwards", DAY_SECONDS), ("backwards", -DAY_SECONDS)):
        lab.place.emptied()
        ended = lab.start(before=_jumping(jump, lab.cpu_seconds / 2)).wait()
        notes = impolite(ended)
        notes += [f"exit code {ended.code}"] if ended.code else []
        # Typed again under the right clock: what is there is found, not made anew.
        notes += lab.unlike() + lab.unlike_after_again()
        yield Case(lab.verb.name, CLOCK, f"a day {name}", "FAULT" if notes else "equal", tuple(notes), ended.seconds)


def _jumping(jump: float, at_cpu_seconds: float) -> Callable[[], None]:
    def prepared() -> None:
        plain, plain_nanoseconds, begun = time.time, time.time_ns, time.process_time()

        def offset() -> float:
            return jump if time.process_time() - begun > at_cpu_seconds else 0.0

        time.time = lambda: plain() + offset()
        time.time_ns = lambda: plain_nanoseconds() + int(offset() * 1e9)

    return prepared


def two_at_once(lab: Lab, moments: int, chance: random.Random) -> Iterator[Case]:
    """A second process starts on the same folder: it waits or says who is at work, and nothing is done twice or lost."""
    for _ in range(moments):
        share = chance.random()
        lab.place.emptied()
        first = lab.start()
        first.log = _moved(first.log, "first")
        wanted = share * lab.cpu_seconds
        _worked(first, wanted)
        second = lab.start()
        ends = (second.wait(), first.wait())
        notes = [note for ended in ends for note in impolite(ended)]
        if all(ended.code for ended in ends):
            notes.append("neither of the two finished")
        notes += lab.unlike() + lab.unlike_after_again()
        outcome = "FAULT" if notes else "refused" if any(ended.code for ended in ends) else "equal"
        yield Case(lab.verb.name, TWO, f"after {share:.0%} of the work", outcome, tuple(notes), ends[1].seconds)


def _worked(child: Child, wanted: float) -> None:
    """Waits until a child has taken so much processor time, or has ended."""
    child.until(lambda: child.cpu() >= wanted)


def _moved(log: Path, name: str) -> Path:
    """What a running child says goes on into files of another name: they are moved while it holds them open."""
    place = log.with_name(name)
    deadline = time.monotonic() + 10
    for ending in (".out", ".err"):
        while not log.with_suffix(ending).is_file() and time.monotonic() < deadline:
            time.sleep(0.001)
        log.with_suffix(ending).rename(place.with_suffix(ending))
    return place


def limited(lab: Lab) -> Iterator[Case]:
    """Few open files, and little more memory than loading took; a clear refusal, or the work done."""
    yield _under(lab, f"{_FEW_FILES} open files", _few_files)
    for megabytes in _MEGABYTES:
        yield _under(lab, f"{megabytes} MB more memory", lambda megabytes=megabytes: _little_memory(megabytes))


def _under(lab: Lab, moment: str, before: Callable[[], None]) -> Case:
    lab.place.emptied()
    lab.events.unlink(missing_ok=True)
    ended = lab.start(before=before).wait()
    has_crashed = ended.code in _CRASHES
    notes = [*([] if has_crashed else impolite(ended)), *lab.unkept(), *lab.unlike_after_again()]
    outcome = "FAULT" if notes else "crashed" if has_crashed else "refused" if ended.code else "equal"
    return Case(lab.verb.name, LIMITS, moment, outcome, tuple(notes), ended.seconds)


def _few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FEW_FILES, _FEW_FILES))


def _little_memory(megabytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
