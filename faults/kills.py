"""kill -9 at random moments, at every kind of write, and in the middle of one."""

import contextlib
import os
import random
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from faults.nursery import Child
from faults.trying import Case, Lab
from faults.verbs import LAUNCH

KILL = "kill -9"
AT_WRITES = "kill -9 at a write"
INSIDE_WRITES = "killed inside a write"
ONE_RANK = "kill -9 of one rank"
# Audit events of Python that change what lies on a disk.
_CHANGES = frozenset(
    {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "shutil.rmtree"}
)
_FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def at_random(lab: Lab, moments: int, chance: random.Random) -> Iterator[Case]:
    """Kills spread over the whole work, measured in processor time so that a busy machine does not shift them."""
    for _ in range(moments):
        share = chance.random()
        wanted = share * lab.cpu_seconds

        def disturb(child: Child, wanted: float = wanted) -> None:
            clock = child.cpu if lab.verb.name != LAUNCH else lambda: _cpu_of_all(child.pid)
            child.until(lambda: clock() >= wanted)
            child.signal(signal.SIGKILL)

        yield lab.kill(KILL, f"{share:.1%} of the work", disturb)


def at_writes(lab: Lab, most: int) -> Iterator[Case]:
    """Kills just before the n-th change of the folder: between any two of its writes, renames and removals."""
    changes = _counted(lab)
    for number in _spread(len(changes), most):
        case = lab.kill(
            AT_WRITES,
            f"before change {number + 1} of {len(changes)}: {changes[number]}",
            lambda child: None,
            before=lambda number=number: _watch(lab.place.out, dies_at=number),
        )
        yield case


def inside_writes(lab: Lab, most: int) -> Iterator[Case]:
    """The system ends the command in the middle of writing any file larger than a limit, at that very byte."""
    sizes = sorted({path.stat().st_size for path in lab.place.out.rglob("*") if path.is_file()})
    for place in _spread(len(sizes), most):
        limit = max(1, sizes[place] * 2 // 3)
        yield lab.kill(
            INSIDE_WRITES,
            f"at byte {limit} of a file",
            lambda child: None,
            before=lambda limit=limit: _limited(limit),
        )


def one_rank(lab: Lab, moments: int, chance: random.Random) -> Iterator[Case]:
    """Of the processes of one training only one is killed; the others must not go on alone, nor stay behind."""
    import psutil

    for _ in range(moments):
        share, rank = chance.random(), chance.randrange(2)

        def disturb(child: Child, share: float = share, rank: int = rank) -> None:
            wanted = share * lab.cpu_seconds
            child.until(lambda: _cpu_of_all(child.pid) >= wanted)
            with contextlib.suppress(psutil.Error):
                ranks = [one for one in psutil.Process(child.pid).children() if "glassworks.cli.main" in one.cmdline()]
                if rank < len(ranks):
                    ranks[rank].kill()

        yield lab.kill(ONE_RANK, f"rank {rank} at {share:.0%} of the work", disturb)


def _cpu_of_all(pid: int) -> float:
    """Processor time of a process and all that it started and that still lives, in seconds."""
    import psutil

    total = 0.0
    with contextlib.suppress(psutil.Error):
        whole = psutil.Process(pid)
        for one in (whole, *whole.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                total += times.user + times.system
    return total


def _limited(limit: int) -> None:
    # Python ignores the signal and gets an error instead; here it is to die of it, as of a kill.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def _counted(lab: Lab) -> Sequence[str]:
    """Every change that an undisturbed command makes to its folder, in order."""
    told = lab.place.inputs / "changes"
    told.unlink(missing_ok=True)
    lab.place.emptied()
    if lab.start(before=lambda: _watch(lab.place.out, told=told)).wait().code:
        raise RuntimeError(f"{lab.verb.name} does not end well while it is watched")
    return told.read_text(encoding="utf-8").splitlines()


def _watch(folder: Path, told: Path | None = None, dies_at: int | None = None) -> None:
    """Counts the changes below a folder from now on; ends this process before one of them, or notes each."""
    front, count = str(folder), 0
    notes = None if told is None else os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def hook(event: str, given: tuple[object, ...]) -> None:
        nonlocal count
        if event == "open":
            is_change = isinstance(given[2], int) and bool(given[2] & _FOR_WRITING)
        else:
            is_change = event in _CHANGES or event == "faults.sync"
        if not is_change or not str(given[0]).startswith(front):
            return
        if count == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        if notes is not None:
            os.write(notes, f"{event} {str(given[0]).removeprefix(front)}\n".encode())

    _announce_syncs()
    sys.addaudithook(hook)


def _announce_syncs() -> None:
    """Python audits no fsync; here it does."""
    plain = os.fsync

    def announced(handle: int) -> None:
        sys.audit("faults.sync", os.readlink(f"/proc/self/fd/{handle}"))
        plain(handle)

    os.fsync = announced


def _spread(count: int, most: int) -> list[int]:
    """At most so many of the numbers below `count`, evenly."""
    if count <= most:
        return list(range(count))
    return sorted({round(place * (count - 1) / (most - 1)) for place in range(most)}) if most > 1 else [count // 2]
