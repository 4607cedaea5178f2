"""One command line in several processes on this machine, by torch's own launcher."""

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from glassworks.core.errors import InvalidInput, ProcessLost
from glassworks.core.text import say

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
    from torch.distributed.launcher.api import LaunchConfig

# A process that is asked to end has so many seconds for its step and to keep its state; then it is killed.
SECONDS_TO_END = 600
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def launched(count: int, arguments: Sequence[str], next_command: str | None = None) -> int:
    """Runs `glassworks ARGUMENTS` in `count` processes that know of each other; the exit code, once all have ended.

    The cores are shared: each process computes with cores / count threads (at least one) unless OMP_NUM_THREADS is set.
    A process that ends before its time ends all of them: ProcessLost names it and its signal, unless it said itself what
    went wrong (then 1 is returned). A request to end (Ctrl-C, SIGTERM) reaches all of them: 130, or 128 + its number.
    """
    if count < 1:
        raise InvalidInput(say("{count} processes", count=count), right=say("at least one"))
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    threads = str(max(1, len(os.sched_getaffinity(0)) // count)) if sys.platform == "linux" else "1"
    with _surroundings({"OMP_NUM_THREADS": threads}), tempfile.TemporaryDirectory(prefix="glassworks-") as logs:
        start = elastic_launch(_configuration(count, logs), sys.executable)
        try:
            start("-m", "glassworks.cli.main", *arguments)
        except SignalException as ended:
            return 128 + int(ended.sigval)
        except ChildFailedError as problem:
            return _code_of(problem.failures, count, next_command)
    return 0


def _configuration(count: int, logs: str) -> "LaunchConfig":
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        # The launcher takes a free port; nothing leaves this machine.
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        # A process that is gone takes its share of the state with it: the job ends and goes on from its checkpoint.
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=logs),
        shutdown_timeout=SECONDS_TO_END,
    )


def _code_of(failures: "Mapping[int, ProcessFailure]", count: int, next_command: str | None) -> int:
    """The exit code after a failure. The launcher ends the others by SIGTERM, so the cause is another."""
    ranked = sorted(failures.items(), key=lambda item: (item[1].exitcode == -signal.SIGTERM, item[0]))
    rank, failure = ranked[0]
    if failure.exitcode >= 0:
        # It has said itself what was wrong.
        return failure.exitcode
    raise ProcessLost(
        say(
            "process {rank} of {count} was ended by {signal}; the others were stopped",
            rank=rank,
            count=count,
            signal=f"{failure.signal_name()} ({-failure.exitcode})",
        ),
        right=say("the same command: it goes on from the last checkpoint"),
        next_command=next_command,
    )


@contextmanager
def _surroundings(defaults: Mapping[str, str]) -> Generator[None]:
    """Variables that the started processes find, a silent launcher, and signals as they were afterwards."""
    added = [name for name in defaults if name not in os.environ]
    os.environ |= {name: defaults[name] for name in added}
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    # What it reports of a failure is told by us, once and in words. Each of its loggers has a level of its own.
    loggers = [logging.getLogger(n) for n in list(logging.root.manager.loggerDict) if n.startswith("torch.distributed")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for name in added:
            del os.environ[name]
