"""Trainings in several processes from the command line: starting them, and which of them speaks."""

from __future__ import annotations

import gc
import sys
import time
from typing import TYPE_CHECKING

from glassworks.cli.reproduce import typed_command
from glassworks.cli.speak import remarks
from glassworks.core.errors import GlassworksError, InvalidInput, ProcessLost
from glassworks.core.text import say

if TYPE_CHECKING:
    from glassworks.cli.options_train import Train

# Exit codes above it say which signal ended a command.
_ENDED_BY_A_SIGNAL = 128
# A process whose trouble may come from another's waits this long to be ended with it before it speaks itself.
_FIRST_WAITS, _OTHERS_WAIT = 5.0, 10.0
# Seconds: thirty days.
_LONGEST_PATIENCE = 2_592_000
# How the libraries below torch say that another process is gone, or did not answer.
_GONE = ("connection closed by peer", "connection reset by peer", "connection refused", "broken pipe", "nccl", "gloo")
_SILENT = (
    "timed out waiting",
    "application timeout caused pair closure",
    "watchdog caught collective operation timeout",
    "wait timeout",
)


def started(command: Train) -> int | None:
    """Runs this command line in as many processes as `--launch` asks for; the exit code.

    None where this process is to do the work: it is one of them, or the only one. Raises InvalidInput for numbers that
    cannot be.
    """
    from glassworks.tensors.processes import check_shards, world

    here = world()
    if not 0 < command.patience <= _LONGEST_PATIENCE:
        raise InvalidInput(
            say("a patience of {seconds} seconds", seconds=command.patience),
            right=say("more than 0, at most {most}", most=_LONGEST_PATIENCE),
        )
    if here.is_alone and command.launch > 1:
        from glassworks.training.launching import launched

        typed = sys.argv[1:]
        try:
            code = launched(command.launch, typed, next_command=typed_command(typed))
        finally:
            # There is nothing left to do, and to take a million objects apart takes seconds.
            gc.freeze()
        if code > _ENDED_BY_A_SIGNAL:
            tell_how_to_go_on(command)
        return code
    if command.launch < 1:
        raise InvalidInput(say("{count} processes", count=command.launch), right=say("at least one"))
    if not here.is_alone and command.launch not in (1, here.size):
        raise InvalidInput(
            say("torchrun started {size} processes, --launch asks for {count}", size=here.size, count=command.launch),
            right=say("torchrun without --launch, or --launch without torchrun"),
        )
    check_shards(command.shard)
    return None


def tell_how_to_go_on(command: Train) -> None:
    """What to type after Ctrl-C; said by the process that the person started, or by torchrun's first one."""
    from glassworks.tensors.processes import world

    here = world()
    if here.is_alone or (here.is_first and command.launch == 1):
        remarks().print(str(say("Stopped. What is finished is kept. Go on with:")))
        print(f"  {typed_command(sys.argv[1:])}", file=sys.stderr)


def wait_to_speak(problem: BaseException) -> None:
    """Returns when this process is to say what went wrong; a process that only suffers from another is ended before.

    Every process meets an error of the settings; only the first one speaks of it.
    """
    from glassworks.tensors.processes import world

    here = world()
    if here.is_alone:
        return
    if not here.is_first:
        time.sleep(_OTHERS_WAIT)
    elif loss_of_another(problem) is not None:
        time.sleep(_FIRST_WAITS)


def loss_of_another(problem: BaseException) -> GlassworksError | None:
    """The error in words where the cause is another process of this training; None where it is not."""
    from glassworks.tensors.processes import world

    if world().is_alone or not isinstance(problem, RuntimeError):
        return None
    words = str(problem).lower()
    right = say("the same command: it goes on from the last checkpoint")
    if any(sign in words for sign in _SILENT):
        return ProcessLost(
            say("process {rank} waited in vain for another process of this training", rank=world().rank),
            given=str(problem).splitlines()[0],
            right=say("{cure}; --patience SECONDS, if a step takes longer than that", cure=right),
        )
    if any(sign in words for sign in _GONE):
        return ProcessLost(
            say("process {rank} lost another process of this training", rank=world().rank),
            given=str(problem).splitlines()[0],
            right=right,
        )
    return None
