"""`make faults`: injects every fault into every verb that writes, tells what happened, and writes the table of the guide.

Each verb is tried by a process of its own, as many at once as there are cores. Exit code 1 where anything was a FAULT.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# Set before torch is loaded: a child computes with one thread, so that its sums are the same every time.
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "GLASSWORKS_LANG": "en"}

from faults import disks, jobs, kills, others, table
from faults.nursery import Nursery
from faults.trying import Case, Lab
from faults.verbs import JOB, LAUNCH, verbs

RESULTS = Path(__file__).parent / "results.json"
_SEED = 8


def main() -> int:
    """Tries what was asked for, prints each FAULT as it is met, and the tables at the end."""
    given = _asked()
    # So that what is mounted is unmounted and what was started is ended, also where this is stopped by a system.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if given.one is not None:
        return _one(given)
    began, found = time.time(), list[Case]()
    before = table.read(RESULTS)
    for cases in _by_verb(given.verb or [*verbs(), JOB], given):
        found += cases
        # Kept verb by verb: a run that is stopped has told what it found so far.
        rows = table.merged(before, found)
        if not given.dry:
            table.write(RESULTS, rows, time.time() - began)
            table.write_page(rows)
    print(table.tables(found))
    print(f"{len(found)} injections in {(time.time() - began) / 60:.1f} minutes")
    return 1 if any(case.outcome == "FAULT" for case in found) else 0


def injections(lab: Lab, given: argparse.Namespace) -> Mapping[str, Callable[[], Iterator[Case]]]:
    """Everything that can be done to a verb, by name, in the order of the table."""
    chance = random.Random(f"{_SEED} {lab.verb.name}")
    few = max(1, given.moments // 25)
    if lab.verb.name == LAUNCH:
        # Two real processes each time: a fifth of the moments.
        moments = max(1, given.moments // 5)
        return {
            kills.KILL: lambda: kills.at_random(lab, moments, chance),
            kills.ONE_RANK: lambda: kills.one_rank(lab, moments, chance),
        }
    return {
        kills.KILL: lambda: kills.at_random(lab, given.moments, chance),
        kills.AT_WRITES: lambda: kills.at_writes(lab, max(2, given.moments // 2)),
        kills.INSIDE_WRITES: lambda: kills.inside_writes(lab, max(2, given.moments // 10)),
        others.SIGNALS: lambda: others.signalled(lab, few, chance),
        others.FRESH: lambda: others.fresh(lab, few, chance) if lab.verb.before is None else iter(()),
        others.PIPE: lambda: others.without_reader(lab),
        others.TWO: lambda: others.two_at_once(lab, few, chance),
        others.CLOCK: lambda: others.clock_jumps(lab),
        others.LIMITS: lambda: others.limited(lab),
        disks.FULL: lambda: disks.full(lab),
        disks.READ_ONLY: lambda: disks.read_only(lab),
        disks.NO_LOCKS: lambda: disks.without_locks(lab),
    }


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="faults", description=main.__doc__)
    parser.add_argument("--moments", type=int, default=50, help="random kills of each verb; the rest follows from it")
    parser.add_argument("--verb", action="append", help=f"one of {', '.join([*verbs(), JOB])}; repeatable")
    parser.add_argument("--injection", action="append", help="by its name in the table; repeatable")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="verbs tried at once")
    parser.add_argument("--dry", action="store_true", help="writes neither the results nor the page")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--told", help=argparse.SUPPRESS)
    return parser.parse_args()


def _by_verb(chosen: list[str], given: argparse.Namespace) -> Iterator[list[Case]]:
    """Starts a process for each verb, so many at once, and hands over what each tells as it ends."""
    with tempfile.TemporaryDirectory(prefix="glassworks-faults-") as folder:
        waiting, running = list(chosen), dict[str, subprocess.Popen[bytes]]()
        try:
            while waiting or running:
                while waiting and len(running) < given.processes:
                    name = waiting.pop(0)
                    running[name] = subprocess.Popen(_words(name, Path(folder), given))
                for name, process in list(running.items()):
                    if process.poll() is not None:
                        del running[name]
                        yield _told(name, Path(folder) / f"{name}.json", process.returncode)
                time.sleep(0.2)
        finally:
            for process in running.values():
                process.terminate()
                process.wait()


def _told(name: str, path: Path, code: int) -> list[Case]:
    """What a verb's process wrote; that it failed itself is a fault of its own."""
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    failed = [Case(name, "the trial itself", "-", "FAULT", (f"exit code {code}",))] if code else []
    return [Case(**row) for row in rows] + failed


def _words(name: str, folder: Path, given: argparse.Namespace) -> list[str]:
    words = [sys.executable, "-m", "faults", "--one", name, "--told", str(folder / f"{name}.json")]
    words += ["--moments", str(given.moments)]
    for one in given.injection or []:
        words += ["--injection", one]
    return words


def _one(given: argparse.Namespace) -> int:
    """Tries one verb and writes what happened."""
    cases: list[Case] = []
    with tempfile.TemporaryDirectory(prefix="glassworks-faults-") as folder:
        for case in _cases(given, Path(folder)):
            cases.append(case)
            _tell(case)
            rows: list[dict[str, Any]] = [one.to_json() for one in cases]
            Path(given.told).write_text(json.dumps(rows), encoding="utf-8")
    return 0


def _cases(given: argparse.Namespace, folder: Path) -> Iterator[Case]:
    nursery = Nursery.opened(folder / "nursery")
    if given.one == JOB:
        if not given.injection or kills.KILL in given.injection:
            yield from jobs.killed(nursery, folder / "lab", given.moments, random.Random(f"{_SEED} {JOB}"))
        return
    lab = Lab.opened(verbs()[given.one], nursery, folder / "lab")
    for name, inject in injections(lab, given).items():
        if given.injection and name not in given.injection:
            continue
        try:
            yield from inject()
        except disks.NotAllowed as problem:
            yield Case(given.one, name, "-", "not possible here", (str(problem),))


def _tell(case: Case) -> None:
    if case.outcome == "FAULT":
        print(f"FAULT {case.verb} | {case.injection} | {case.moment} | {'; '.join(case.notes)[:600]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
