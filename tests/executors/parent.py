"""A parent for tests, as a process of its own that can be killed: python -m tests.executors.parent FOLDER EXECUTOR SECONDS."""

import sys
from pathlib import Path

from glassworks.core.errors import GlassworksError
from glassworks.core.events import EventLog
from glassworks.executors import executor_of
from tests.executors.chores import job

COUNT = 6


def names() -> list[str]:
    return [f"part-{number}" for number in range(COUNT)]


def main(folder: Path, executor: str, seconds: float) -> int:
    jobs = [job(folder, name, seconds=seconds) for name in names()]
    try:
        for done in executor_of(executor).iterate(jobs, folder / "work", EventLog(folder / "events.jsonl")):
            sys.stdout.write(f"{done.job.name} {'found' if done.found else 'done'}\n")
            sys.stdout.flush()
    except GlassworksError as problem:
        sys.stdout.write(f"{problem}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
