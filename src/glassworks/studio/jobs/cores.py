"""How the cores of this machine are shared among the jobs that run at once."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from typing import Any

# Two trainings share a laptop; a third would slow all of them down.
MOST_RUNNING = 2


def usable_cores() -> int:
    """The cores that processes of this person may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def share(most_running: int = MOST_RUNNING) -> int:
    """The cores of one of so many jobs, at least one."""
    return max(1, usable_cores() // most_running)


def places(facts: Mapping[str, Any], most_running: int = MOST_RUNNING) -> int:
    """Of how many jobs a job takes the room: its processes times their threads, by what its facts say; all at the most."""
    launch, asked = number(facts, "launch"), number(facts, "threads_at_once")
    # Processes of one training share what they get; workers have their own number of threads.
    wanted = launch if launch > 1 else math.ceil(asked / share(most_running))
    return max(1, min(most_running, wanted))


def threads(facts: Mapping[str, Any], most_running: int = MOST_RUNNING) -> int:
    """The threads of each process of a job."""
    launch = number(facts, "launch")
    return max(1, share(most_running) * places(facts, most_running) // launch)


def number(facts: Mapping[str, Any], name: str) -> int:
    """A count of a job's facts, at least 1: a folder of jobs may come from somebody else."""
    found = facts.get(name)
    return max(1, min(found, 1 << 20)) if isinstance(found, int) else 1
