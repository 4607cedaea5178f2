"""Work for workers in tests: importable by its name, without torch."""

import os
import signal
import sys
import time
from pathlib import Path

from glassworks.core.errors import InvalidInput, RunBusy
from glassworks.core.events import CheckpointSaved, EventLog, Progressed, TrainingStarted
from glassworks.core.files import write_json
from glassworks.core.text import say
from glassworks.executors import Job

CHORE = "tests.executors.chores:chore"


def job(folder: Path, name: str, *, needs: tuple[str, ...] = (), **how) -> Job:
    """A job whose proof tells who did it; `how` are the arguments of `chore`."""
    proof = folder / f"{name}.json"
    return Job(name, f"job {name}", CHORE, {"path": str(proof), **how}, proof, needs)


def begun(folder: Path, name: str) -> int:
    """How often a job was begun, by whom ever."""
    path = folder / f"{name}.begun"
    return path.read_text().count("x") if path.exists() else 0


def chore(path: str, events: EventLog, **how) -> None:
    """Counts how often it is begun, fails or dies as told, works a while, and writes its result."""
    proof = Path(path)
    with proof.with_suffix(".begun").open("a") as file:
        file.write("x")
    count = proof.with_suffix(".begun").read_text().count("x")
    sys.stdout.write(f"{proof.stem}: beginning number {count}\n")
    sys.stdout.flush()
    if how.get("checkpoints"):
        events.emit(TrainingStarted(label="", digest=proof.stem, seed=0, first_step=count, steps=9))
        events.emit(CheckpointSaved(digest=proof.stem, step=count))
    if count <= how.get("dies", 0):
        os.kill(os.getpid(), signal.SIGKILL)
    if count <= how.get("fails", 0):
        raise ValueError(f"no luck at beginning {count}")
    if count <= how.get("busy", 0):
        raise RunBusy(say("process {holder} is working on {path}", holder=1, path=path))
    if how.get("hopeless"):
        raise InvalidInput(say("which run?"))
    parts = 10
    for part in range(parts):
        time.sleep(how.get("seconds", 0.0) / parts)
        events.emit(Progressed(label=proof.stem, done=part + 1, total=parts, seconds=1.0))
    if not how.get("forgets"):
        threads = os.environ.get("OMP_NUM_THREADS")
        cuda = os.environ.get("CUDA_VISIBLE_DEVICES")
        write_json(proof, {"beginning": count, "pid": os.getpid(), "threads": threads, "cuda": cuda})
