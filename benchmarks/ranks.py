"""One pretraining in two processes beside one, and beside torch's DDP written plainly around the same model.

Every process computes with one thread; sides take turns, and each is started anew. Beside one process the wall counts, for what
one waits for another is in no other clock: it says something on a machine with two cores free, and the row tells the load.
Beside plain DDP it is the processor's seconds of both processes, which other work changes little.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.environments import ROOT
from benchmarks.measure import Ratio, row
from benchmarks.workers.our_ranks import TOKENS

WORKER = "benchmarks.workers.our_ranks"
# The first steps fetch memory and fill caches.
WARM, STEPS = 3, 8
WHAT = "pretraining step, 6 layers of 384, 16 x 256"
SIDES = {"ours in two": ("ours", 2), "ours in one": ("ours", 1), "plain in two": ("plain", 2)}


@dataclass(frozen=True)
class Seen:
    """One run: seconds of a step by the wall (median), CPU seconds a step of all its processes (mean), losses by step."""

    wall: float
    processor: float
    losses: tuple[float, ...]


def rows(runs: int, quick: bool) -> list[Ratio]:
    """Two processes beside one; two of ours beside two of plain DDP."""
    seen: dict[str, list[Seen]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as name:
        for turn in range(runs):
            for side, (kind, processes) in SIDES.items():
                seen[side].append(_run(kind, processes, Path(name) / f"{turn}-{side}"))
    ours, alone, plain = (seen[name] for name in SIDES)
    walls, spent = _walls(ours, alone), _spent(ours, alone)
    apart = max(
        abs(a - b) for one, two in zip(ours, alone, strict=True) for a, b in zip(one.losses, two.losses, strict=True)
    )
    load = round(os.getloadavg()[0], 1)
    found = [
        row(f"{WHAT}, in 2 processes", "in one process", (">= 1.6x on two free cores", 1.6), walls, {
            "unit": "s", "tokens/s": _speeds(walls), "load": load, "losses apart at most": float(f"{apart:.1e}"),
        }),
        row(f"{WHAT}, CPU time of 2 processes", "in one process", ("reported", 0.0), spent, {"unit": "CPU s"}),
        row(f"{WHAT}, CPU time of 2 processes", "torch's DDP written plainly", (">= 0.95x", 0.95), _spent(ours, plain), {
            "unit": "CPU s", "tokens/s by the wall": _speeds(_walls(ours, plain)), "load": load,
        }),
    ]  # fmt: skip
    for one, label in zip(
        found, ("2 processes / one, wall", "2 processes / one, CPU", "2 processes, pretraining"), strict=True
    ):
        one.label = label
    return found


def _walls(ours: list[Seen], theirs: list[Seen]) -> tuple[list[float], list[float]]:
    return [one.wall for one in ours], [one.wall for one in theirs]


def _spent(ours: list[Seen], theirs: list[Seen]) -> tuple[list[float], list[float]]:
    return [one.processor for one in ours], [one.processor for one in theirs]


def _speeds(walls: tuple[list[float], list[float]]) -> list[int]:
    """Tokens a second of both sides."""
    return [round(TOKENS / statistics.median(side)) for side in walls]


def _run(kind: str, processes: int, folder: Path) -> Seen:
    """Runs one side in its own processes; raises CalledProcessError with what it said where it fails."""
    folder.mkdir()
    chance = random.Random(0)
    (folder / "text.txt").write_bytes(bytes(chance.choices(range(97, 123), k=300_000)))
    start = [sys.executable, "-W", "ignore"]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [*start, "-m", WORKER, kind, str(folder), str(WARM + STEPS)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=600)
    noted = [json.loads((folder / f"{kind}-{rank}.json").read_text(encoding="utf-8")) for rank in range(processes)]
    times = [one["times"][WARM - 1 :] for one in noted]
    steps = [after[0] - before[0] for before, after in pairwise(times[0])]
    spent = sum(one[-1][1] - one[0][1] for one in times) / STEPS
    return Seen(statistics.median(steps), spent, tuple(noted[0]["losses"]))
