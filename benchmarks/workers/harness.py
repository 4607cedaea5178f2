"""The worker's end of the conversation: one JSON line asks, one JSON line answers.

Needs torch and the standard library only, for it runs in every peer's environment.
"""

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Answer = dict[str, Tensor]
"""What a side computed, by names that both sides use."""
Work = Callable[[], Answer]
"""One run: all of the work that is timed, and its results."""
Job = Callable[[Path, Mapping[str, Any]], Work]
"""Loads what lies in the folder, with the comparison's options, and returns the work."""


def serve(jobs: Mapping[str, Job]) -> None:
    """Answers until standard input ends: `load` a job, `run` it, write its `answer`, tell the memory's `peak`."""
    # What libraries print goes to standard error: standard output carries answers only.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    work: Work | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if asked["do"] == "load":
                work = jobs[asked["job"]](Path(asked["folder"]), asked["options"])
                found: dict[str, Any] = {"seconds": time.process_time()}
            else:
                assert work is not None, "a job is loaded before it is run"
                found = _ACTIONS[asked["do"]](work, asked)
        except Exception as problem:
            traceback.print_exc()
            found = {"failed": f"{type(problem).__name__}: {problem}".splitlines()[0][:300]}
        out.write(json.dumps(found) + "\n")
        out.flush()


def _run(work: Work, asked: Mapping[str, Any]) -> dict[str, Any]:
    """CPU seconds of each of some runs in a row, as one number."""
    gc.collect()
    started = time.process_time()
    for _ in range(asked["times"]):
        work()
    return {"seconds": (time.process_time() - started) / asked["times"]}


def _answer(work: Work, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Writes what one run computes; its CPU seconds are those of a first run."""
    started = time.process_time()
    found = {name: tensor.detach().clone() for name, tensor in work().items()}
    seconds = time.process_time() - started
    torch.save(found, asked["path"])
    return {"tensors": len(found), "seconds": seconds}


def _peak(work: Work, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Megabytes of the whole process at its peak so far, and now."""
    return {"peak": _status("VmHWM"), "now": _status("VmRSS")}


_ACTIONS: Mapping[str, Callable[[Work, Mapping[str, Any]], dict[str, Any]]] = {
    "run": _run, "answer": _answer, "peak": _peak,
}  # fmt: skip


def _status(name: str) -> float:
    with open("/proc/self/status", encoding="ascii") as lines:
        return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), float("nan"))
