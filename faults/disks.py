"""A disk that fills up at different sizes, a folder that cannot be written, a file system without locks."""

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.trying import Case, Lab, impolite

FULL, READ_ONLY, NO_LOCKS = "disk full", "read-only folder", "file system without locks"
# Shares of the room that the undisturbed command takes at its end; states along the way take more.
SHARES = (0.0, 0.2, 0.5, 0.8, 0.95)
_PAGE = 4096


class NotAllowed(Exception):
    """This machine lets us mount nothing; the injection is left out, and the table says so."""


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[None]:
    """A file system in memory of so many bytes at a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    options = ["-o", f"size={max(size, _PAGE)},mode=755"]
    _called("mount", "-t", "tmpfs", *options, "faults", str(folder))
    try:
        yield
    finally:
        # A child that outlives its command would hold it; then it goes with the last user.
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remounted(folder: Path, options: str) -> None:
    """Changes a mounted file system."""
    _called("mount", "-o", f"remount,{options}", str(folder))


def full(lab: Lab) -> Iterator[Case]:
    """Too little room, then enough: the command refuses clearly, keeps what is whole, and goes on."""
    needed = lab.pages * _PAGE
    for share in SHARES:
        size = int(needed * share) + _PAGE
        with mounted(lab.place.out, size):
            lab.events.unlink(missing_ok=True)
            ended = lab.start().wait()
            notes = [*impolite(ended), *lab.unkept()]
            if ended.code == 1 and not _names_room(ended.err):
                notes.append(f"the message does not name the disk: {ended.err.strip()[-200:]}")
            remounted(lab.place.out, "size=2g")
            notes += lab.unlike_after_again()
            outcome = "FAULT" if notes else "finished" if ended.code == 0 else "refused"
            yield Case(lab.verb.name, FULL, f"{size >> 10} KB", outcome, tuple(notes), ended.seconds)


def read_only(lab: Lab) -> Iterator[Case]:
    """Nothing can be written from the beginning on; also root is held by this."""
    with mounted(lab.place.out, 1 << 30):
        remounted(lab.place.out, "ro")
        ended = lab.start().wait()
        notes = impolite(ended)
        if ended.code == 0:
            notes.append("it said that it had written")
        remounted(lab.place.out, "rw")
        notes += lab.unlike_after_again()
        yield Case(lab.verb.name, READ_ONLY, "from the beginning", _refused(notes), tuple(notes), ended.seconds)


def without_locks(lab: Lab) -> Iterator[Case]:
    """As some cluster file systems answer every lock; a clear refusal, or the work done."""
    lab.place.emptied()
    ended = lab.start(before=_no_locks).wait()
    notes = impolite(ended)
    if ended.code == 1 and "locks" not in ended.err:
        notes.append(f"the message does not name the locks: {ended.err.strip()[-200:]}")
    notes += lab.unlike_after_again() if ended.code else lab.unlike()
    outcome = "FAULT" if notes else "refused" if ended.code else "equal"
    yield Case(lab.verb.name, NO_LOCKS, "from the beginning", outcome, tuple(notes), ended.seconds)


def _no_locks() -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    fcntl.flock = refuse
    fcntl.lockf = refuse


def _names_room(message: str) -> bool:
    return any(word in message.lower() for word in ("space", "full", "quota"))


def _refused(notes: list[str]) -> str:
    return "FAULT" if notes else "refused"


def _called(*words: str) -> None:
    try:
        subprocess.run(words, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as problem:
        raise NotAllowed(" ".join(words)) from problem
