"""A request to end by the system (a cluster's SIGTERM, a closed terminal's SIGHUP) stops a command as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from glassworks.core.interrupts import interrupt

# Long enough for what swallowed a request to be over, too short for a person to notice.
_AGAIN_SECONDS = 0.02


@contextmanager
def stoppable() -> Generator[None]:
    """Has SIGTERM and SIGHUP end the work inside the `with` as Ctrl-C does, so that it is told what is kept.

    What the one who started the process chose to ignore (nohup) stays ignored. Processes of one training keep the
    system's way, which ends them at once: the launcher waits for each of them. A request, Ctrl-C too, that arrives while
    Python clears an object away, where it drops every exception, is made again a moment later.
    """
    if threading.current_thread() is not threading.main_thread() or "RANK" in os.environ:
        yield
        return
    ours = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, interrupt)
    alarm, told = signal.signal(signal.SIGALRM, _remind), sys.unraisablehook
    sys.unraisablehook = _again
    try:
        yield
    finally:
        sys.unraisablehook = told
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _remind(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if (frame.f_code.co_filename, frame.f_code.co_name) == (__file__, "_again"):
            # Raised in the hook it would be dropped for good; the timer comes again.
            return
        frame = frame.f_back
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise KeyboardInterrupt


def _again(dropped: sys.UnraisableHookArgs) -> None:
    if issubclass(dropped.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS, _AGAIN_SECONDS)
    else:
        sys.__unraisablehook__(dropped)
