"""A training that the studio started: its command is killed, its whole group, or the studio itself."""

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from faults import looking
from faults.kills import KILL
from faults.nursery import Child, Nursery
from faults.trying import Case
from faults.verbs import JOB

_SIZES = ("steps=60", "width=32", "depth=1", "heads=2", "batch=8", "length=32", "seed=3")
_TICK_SECONDS = 0.05
_PATIENCE_SECONDS = 120.0
VICTIMS = ("the command", "the job's whole group", "the studio")


def killed(nursery: Nursery, folder: Path, moments: int, chance: random.Random) -> Iterator[Case]:
    """Kills at random moments of a job's life, in turn of each victim; these commands are fresh processes, not forked."""
    out = folder / "out"
    began = time.monotonic()
    _emptied(out)
    _kept(nursery, out, True).wait()
    life = time.monotonic() - began
    whole = nursery.ask(lambda: looking.meaning(out / "store"))
    for number in range(moments):
        victim, share = VICTIMS[number % len(VICTIMS)], chance.random()
        yield _case(nursery, out, victim, share * life, whole)


def _case(nursery: Nursery, out: Path, victim: str, after: float, whole: dict[str, str]) -> Case:
    _emptied(out)
    began = time.monotonic()
    studio = _kept(nursery, out, True)
    while time.monotonic() - began < after and not studio.is_over():
        time.sleep(_TICK_SECONDS / 5)
    was_over = studio.is_over()
    # On a busy machine the victim may not be there yet; then its first moments are hit.
    while not _kill(victim, studio, out) and not studio.is_over():
        time.sleep(_TICK_SECONDS / 5)
    if victim == "the studio":
        studio.wait()
    else:
        # The studio notices by itself, and tells.
        studio.until(lambda: _states(out).isdisjoint({"queued", "running"}))
    seconds = time.monotonic() - began
    states = _states(out)
    notes = nursery.ask(lambda: looking.broken(out))
    if "unreadable" in states:
        notes.append("job.json cannot be read")
    if victim != "the studio" and not was_over and states <= {"queued", "running"}:
        notes.append(f"the studio did not notice: {states}")
    studio.signal(signal.SIGKILL)
    studio.wait()
    # A new studio on the same folder; a person presses "go on" where the job is not running or done.
    ended = _kept(nursery, out, not states).wait()
    if ended.code:
        notes.append(f"the next studio: {ended.err.strip()[-300:]}")
    notes += [f"in the end: {state}" for state in _states(out) - {"done"}]
    meaning = nursery.ask(lambda: looking.meaning(out / "store"))
    notes += [f"differs: {name}" for name in looking.different(whole, meaning)]
    behind = nursery.ask(lambda: looking.left_behind(out))
    notes += [f"left behind: {name}" for name in behind]
    outcome = "FAULT" if notes else "finished" if was_over else "equal"
    return Case(JOB, KILL, f"{victim} after {after:.1f} s", outcome, tuple(notes), seconds)


def _kept(nursery: Nursery, out: Path, is_new: bool) -> Child:
    """A studio's keeper in a child: adds a job or takes up what is there, ticks until nothing is left to do."""

    def keep() -> int:
        from glassworks.studio.jobs.job import Order
        from glassworks.studio.jobs.keeper import Keeper

        keeper = Keeper(out)
        if is_new:
            words = ("train", "bigram", *_SIZES, "--device", "cpu", "--out", str(out))
            keeper.add(Order("train", "bigram", "a training", words))
        else:
            for job in keeper.all():
                if job.state() in ("interrupted", "failed", "stopped"):
                    keeper.go_on(job.identifier)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while any(job.state() in ("queued", "running") for job in keeper.all()):
            keeper.tick()
            time.sleep(_TICK_SECONDS)
            if time.monotonic() > deadline:
                return 1
        return 0

    return nursery.born(keep)


def _kill(victim: str, studio: Child, out: Path) -> bool:
    """Kills with -9; whether somebody was there."""
    if victim == "the studio":
        if not studio.is_over():
            os.kill(studio.pid, signal.SIGKILL)
        return True
    is_hit = False
    for path in (out / "jobs").glob("*"):
        from glassworks.studio.jobs.job import Job

        job = Job.read(path)
        process = None if job is None else job.process()
        if job is None or process is None:
            continue
        try:
            if victim == "the command":
                for child in process.children():
                    child.kill()
                    is_hit = True
            else:
                os.killpg(process.pid, signal.SIGKILL)
                is_hit = True
        except (psutil.Error, ProcessLookupError):
            continue
    return is_hit


def _states(out: Path) -> set[str]:
    from glassworks.studio.jobs.job import Job

    found: set[str] = set()
    for path in (out / "jobs").glob("*/job.json"):
        job = Job.read(path.parent)
        found.add("unreadable" if job is None else job.state())
    return found


def _emptied(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
