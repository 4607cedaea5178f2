"""A request to end (Ctrl-C, a cluster's SIGTERM) is answered between two steps, at the same one in all processes."""

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress

from glassworks.core.interrupts import interrupt
from glassworks.core.text import say
from glassworks.tensors.processes import true_for_any, world

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# What ends a process or raises KeyboardInterrupt; whoever has made other arrangements keeps them.
_ENDING = (signal.SIG_DFL, signal.default_int_handler, interrupt)


class Request:
    """Whether this process was asked to end, and by which signal."""

    def __init__(self) -> None:
        self.number: int | None = None

    def came_to_any(self) -> bool:
        """Whether any process of the training was asked to end; all of them ask together, between two steps."""
        return true_for_any(self.number is not None)


@contextmanager
def listening() -> Generator[Request]:
    """Inside the `with` a first request to end is only noted, so that the step under way ends and its state can be kept.

    A second one acts as it would have without. In a thread, and for signals that are ignored or that somebody else answers,
    nothing changes. A process that loses its others while a request waits is ended by it.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    told = f"\n{say('stopping after this step, whose state is kept; once more: at once')}\n".encode()
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    ours = {number: handler for number, handler in before.items() if handler in _ENDING}

    def restore() -> None:
        for number, handler in ours.items():
            signal.signal(number, handler)

    def note(number: int, _: object) -> None:
        if request.number is not None:
            restore()
            os.kill(os.getpid(), number)
        request.number = number
        if world().is_first:
            # No stream: the signal may have come in the middle of one's own writing.
            with suppress(OSError):
                os.write(2, told)

    for number in ours:
        signal.signal(number, note)
    try:
        yield request
    except RuntimeError:
        # The others are gone; what is wrong with this one (no space, no finite loss) is told, whoever asked it to end.
        restore()
        if request.number is not None and not world().is_alone:
            os.kill(os.getpid(), request.number)
        raise
    finally:
        restore()
