"""stdin, stdout and stderr as a command may find them: closed, on a full disk, on a terminal that is gone."""

from __future__ import annotations

import io
import os
import select
import sys
from typing import TYPE_CHECKING

from glassworks.core.errors import NoSpace
from glassworks.core.text import say

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDOUT, _STDERR = 1, 2


class Outlet(io.FileIO):
    """The bytes of stdout or stderr, where a failure to write them costs no work.

    What stderr does not take is dropped: a log on a full disk, or a terminal that was closed, ends no training. Of stdout,
    which takes results, the first failure raises NoSpace. A reader that went away is told as ever (BrokenPipeError).
    """

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self._is_given_up = number == _STDERR

    def write(self, data: ReadableBuffer, /) -> int:
        """How many bytes were taken; waits where the other side asked not to be waited for."""
        try:
            # None is what a stream that must not block answers when it is full.
            while (taken := super().write(data)) is None:  # pyright: ignore[reportUnnecessaryComparison] - declared without it
                select.select([], [self.fileno()], [])
        except BrokenPipeError:
            raise
        except OSError as problem:
            if not self._is_given_up:
                self._is_given_up = True
                raise NoSpace(
                    say("cannot write to stdout: {reason}", reason=os.strerror(problem.errno or 0)),
                    right=say("a terminal, a pipe, or a file where there is room"),
                ) from None
            return memoryview(data).nbytes
        return taken


def make_sound() -> None:
    """Gives this process three streams whose failures cost no work.

    A number among 0 to 2 that was closed by whoever started the process is opened on nothing: else the next file that
    is written would get it, and with it whatever a library prints.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.__dict__["stdin"] is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    for name, number in (("stdout", _STDOUT), ("stderr", _STDERR)):
        stream = sys.__dict__[name]
        if stream is None:
            setattr(sys, name, _over(Outlet(number), None))
        elif type(stream) is io.TextIOWrapper and _is_of_the_system(stream, number):
            stream.flush()
            setattr(sys, name, _over(Outlet(number), stream))


def _over(outlet: Outlet, before: io.TextIOWrapper | None) -> io.TextIOWrapper:
    """A text stream like the one of before; signs that its encoding lacks become question marks."""
    is_unbuffered = before is not None and before.write_through
    return io.TextIOWrapper(
        # As Python itself does it for -u.
        outlet if is_unbuffered else io.BufferedWriter(outlet),  # pyright: ignore[reportArgumentType] - buffers alone are declared
        encoding="utf-8" if before is None else before.encoding,
        errors="replace",
        line_buffering=outlet.fileno() == _STDERR or outlet.isatty(),
        write_through=is_unbuffered,
    )


def _is_of_the_system(stream: io.TextIOWrapper, number: int) -> bool:
    """Whether Python made the stream at its start: not one of ours, and none that a test or a caller put there."""
    buffer = stream.buffer
    raw = buffer.raw if isinstance(buffer, io.BufferedWriter) else buffer
    return type(raw) is io.FileIO and raw.fileno() == number
