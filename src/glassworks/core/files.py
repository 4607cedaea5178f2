"""Writing so that a reader sees the old file or the new one, never half of either."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glassworks.core.errors import BrokenFile, NoSpace, NotFound
from glassworks.core.text import say

_UNWRITABLE = frozenset(
    {
        errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST,
        errno.EISDIR, errno.ENAMETOOLONG,
    }
)  # fmt: skip


@contextmanager
def writing(path: Path) -> Generator[None, None, None]:
    """Turns a full disk or a read-only folder into NoSpace, naming the path."""
    try:
        yield
    except OSError as problem:
        if problem.errno in _UNWRITABLE:
            raise NoSpace(
                say("cannot write {path}: {reason}", path=str(path), reason=os.strerror(problem.errno)),
                right=say("a folder with free space that you may write to"),
                next_command="glassworks doctor",
            ) from None
        raise


def write_atomically(path: Path, fill: Callable[[Path], None]) -> None:
    """Calls `fill` with a temporary path beside `path`, syncs it to disk and renames it into place."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            fill(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
            _sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def write_bytes(path: Path, data: bytes) -> None:
    """Writes bytes atomically."""
    write_atomically(path, lambda temporary: _fill(temporary, data))


def write_json(path: Path, value: object) -> None:
    """Writes readable JSON atomically; NaN and infinity are refused, for no other reader accepts them."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Reads JSON; a missing file raises NotFound, a truncated or foreign one BrokenFile."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFound(say("{path} is not there", path=str(path))) from None
    except (ValueError, OSError, RecursionError) as problem:
        raise BrokenFile(
            say("{path} is damaged or not JSON: {reason}", path=str(path), reason=str(problem)),
            next_command="glassworks runs verify",
        ) from None


def _fill(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
