"""Writing so that a reader sees the old file or the new one, never half of either."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glassworks.core.errors import BrokenFile, InvalidInput, NoSpace
from glassworks.core.reading import read_bytes
from glassworks.core.text import say

_UNWRITABLE = frozenset(
    {
        errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST,
        errno.EISDIR, errno.ENAMETOOLONG,
    }
)  # fmt: skip

# Bytes of JSON that are read as a whole; in memory they become several times as many.
LARGEST_JSON = 1 << 28
# Letters that tempfile adds to a prefix.
_RANDOM_LETTERS = 8
# Linux's names (fcntl.h, linux/fs.h): relative to the present folder; exchange two names.
_HERE, _RENAME_EXCHANGE = -100, 2


@contextmanager
def writing(path: Path) -> Generator[None, None, None]:
    """Turns a full disk or a read-only folder into NoSpace, naming the path."""
    try:
        yield
    except OSError as problem:
        if problem.errno in _UNWRITABLE:
            raise _unwritable(path, problem.errno) from None
        raise


def refuse_unwritable(path: Path) -> None:
    """Raises NoSpace where nothing can be made of this name, before the work whose result it is to take.

    Makes nothing, and does not ask how much room there is.
    """
    nearest = next(one for one in (path, *path.absolute().parents) if os.path.lexists(one))
    if nearest == path and not os.path.isdir(path):
        # A new file takes its name; the old one is not written into.
        nearest = path.absolute().parent
    if nearest != path and not os.path.isdir(nearest):
        raise _unwritable(path, errno.ENOTDIR)
    # Asked of the system, since a file system that is mounted read-only refuses the owner too.
    if not os.access(nearest, os.W_OK):
        reason = errno.EROFS if os.statvfs(nearest).f_flag & os.ST_RDONLY else errno.EACCES
        raise _unwritable(path, reason)


def _unwritable(path: Path, reason: int) -> NoSpace:
    """The error that names the path, and the file where it needs a folder."""
    file = next((one for one in (path, *path.parents) if os.path.lexists(one) and not os.path.isdir(one)), None)
    if reason in (errno.ENOTDIR, errno.EEXIST) and file is not None:
        what = say("cannot write {path}: {file} is no folder", path=str(path), file=str(file))
    else:
        what = say("cannot write {path}: {reason}", path=str(path), reason=os.strerror(reason))
    right = say("a folder with free space that you may write to")
    return NoSpace(what, right=right, next_command="glassworks doctor")


def write_atomically(path: Path, fill: Callable[[Path], None]) -> None:
    """Calls `fill` with a temporary path beside `path`, syncs it to disk and renames it into place.

    What killed processes left of earlier attempts at the same file is removed on the way.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _aside(path, is_folder=False) as temporary:
            fill(temporary)
            _sync(temporary)
            temporary.chmod(0o644)
            temporary.replace(path)
            sync_folder(path.parent)


@contextmanager
def filling_folder(folder: Path) -> Generator[Path, None, None]:
    """A folder aside for a writer that knows folders only; its files are then moved into `folder`, each of them whole.

    Files of other names stay in `folder`. Which of them belong together only a mark written afterwards can tell.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _aside(folder / "new", is_folder=True) as aside:
            yield aside
            for path in _synced(aside):
                place = folder / path.relative_to(aside)
                place.parent.mkdir(parents=True, exist_ok=True)
                path.replace(place)
            sync_folder(folder)


@contextmanager
def replacing_folder(folder: Path) -> Generator[Path, None, None]:
    """An empty folder to fill; afterwards it takes the place of `folder`, and a reader sees the old one or the new.

    Where the file system cannot exchange two names (NFS), a kill between two renames leaves no folder of the name.
    """
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _aside(folder, is_folder=True) as aside:
            # The aside itself is closed to others; what is made inside has the usual rights.
            new = aside / "new"
            new.mkdir()
            yield new
            _synced(new)
            if not folder.exists():
                new.rename(folder)
            elif not _exchanged(new, folder):
                folder.rename(aside / "old")
                new.rename(folder)
            sync_folder(folder.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes bytes atomically."""
    write_atomically(path, lambda temporary: _fill(temporary, data))


def write_json(path: Path, value: object) -> None:
    """Writes readable JSON atomically; NaN and infinity are refused, for no other reader accepts them."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path, most: int = LARGEST_JSON) -> Any:
    """Reads JSON; a missing file raises NotFound, a truncated, foreign or huge one BrokenFile."""
    try:
        return json.loads(read_bytes(path, most))
    except InvalidInput as problem:
        raise BrokenFile(problem.what, given=problem.given, right=problem.right) from None
    except (ValueError, RecursionError) as problem:
        raise BrokenFile(
            say("{path} is damaged or not JSON: {reason}", path=str(path), reason=str(problem)),
            next_command="glassworks runs verify",
        ) from None


def _fill(path: Path, data: bytes) -> None:
    path.write_bytes(data)


@contextmanager
def _aside(path: Path, *, is_folder: bool) -> Generator[Path, None, None]:
    """A temporary file or folder `.NAME.xxxxxxxx` beside `path`, locked while it is worked on and removed in the end."""
    _remove_orphans(path)
    handle, aside = _locked(path, is_folder=is_folder)
    try:
        yield aside
    finally:
        _removed(aside)
        os.close(handle)


def _locked(path: Path, *, is_folder: bool) -> tuple[int, Path]:
    """A new temporary with an open, locked handle on it: the lock says that its maker lives."""
    prefix = f".{path.name}."
    while True:
        if is_folder:
            name = tempfile.mkdtemp(prefix=prefix, dir=path.parent)
            handle = os.open(name, os.O_RDONLY)
        else:
            handle, name = tempfile.mkstemp(prefix=prefix, dir=path.parent)
        _lock(handle, wait=True)
        if os.path.lexists(name):
            return handle, Path(name)
        # Between its making and its locking somebody took it for an orphan.
        os.close(handle)


def _remove_orphans(path: Path) -> None:
    """Removes temporaries of `path` whose makers are dead; each may be as large as a checkpoint."""
    prefix = f".{path.name}."
    for entry in os.scandir(path.parent):
        if not entry.name.startswith(prefix) or len(entry.name) != len(prefix) + _RANDOM_LETTERS:
            continue
        with contextlib.suppress(OSError):
            handle = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if _lock(handle, wait=False):
                    _removed(Path(entry.path))
            finally:
                os.close(handle)


def _removed(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _lock(handle: int, *, wait: bool) -> bool:
    """Whether the lock on an open file is ours now; False too where the file system has no locks."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _exchanged(one: Path, other: Path) -> bool:
    """Lets two folders of one file system change names in a single step; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        exchange = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return exchange(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _RENAME_EXCHANGE) == 0


def _synced(folder: Path) -> list[Path]:
    """All files below a folder, each on the disk by now."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in found:
        _sync(path)
    return found


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Brings the names in a folder to disk, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
