"""Timing two things side by side: alternating runs, medians, one table, one JSON."""

import gc
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

FROM_EXACT = "from float64, ours and theirs"
"""The fact of a row that tells how far each side is from the same thing computed in float64."""

FREED_MEMORY = "freed memory"
"""The fact of a row whose processes both kept freed memory."""


@dataclass
class Ratio:
    """One row: ours against the other side, seconds per run of both, and what was asked for."""

    what: str
    against: str
    target: str
    ours: list[float]
    theirs: list[float]
    ratio: float | None
    """Theirs / ours; None where it was not measured, or where both sides do not compute the same."""
    met: bool | None
    facts: dict[str, Any] = field(default_factory=dict)
    environment: str | None = None
    """The peer's environment; None where the other side is written here or is a library that we use ourselves."""
    difference: float | None = None
    """Largest difference between what both sides computed, as a share of the largest number; None where not compared."""
    tolerance: float | None = None
    reason: str = ""
    """Why the other side is ahead, or why there is no ratio."""
    label: str = ""
    """A few words for the figure; made from the others where empty."""
    suite: str = ""
    """The name under which `--only` runs it."""
    day: str = ""
    """When it was measured."""
    machine: str = ""
    """Which of the machines in results.json it was measured on."""

    @property
    def key(self) -> tuple[str, str]:
        """What makes two rows the same row."""
        return self.what, self.against.split(" (")[0]

    @property
    def spread(self) -> tuple[float, float] | None:
        """Smallest and largest ratio of runs that followed each other; None where a side ran once or against a limit."""
        if self.ratio is None or len(self.ours) < 2 or len(self.ours) != len(self.theirs):
            return None
        pairs = [b / a for a, b in zip(self.ours, self.theirs, strict=True)]
        return min(pairs), max(pairs)


def alternate(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    runs: int,
    warm: int = 1,
    clock: Callable[[], float] = time.process_time,
) -> tuple[list[float], list[float]]:
    """Seconds of each run; the two take turns, so that a busy moment of the machine hits both."""
    for _ in range(warm):
        ours()
        theirs()
    timed: tuple[list[float], list[float]] = ([], [])
    gc.collect()
    for _ in range(runs):
        for work, seconds in zip((ours, theirs), timed, strict=True):
            started = clock()
            work()
            seconds.append(clock() - started)
    return timed


def gemm_rate(dtype: torch.dtype, size: int = 1024, precision: str = "highest") -> float:
    """GFLOP per CPU second of a square matrix product, best of six, at a float32 precision setting that is put back."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    a, b = (torch.randn(size, size, dtype=torch.float32).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        started = time.process_time()
        a @ b
        best = min(best, time.process_time() - started)
    torch.set_float32_matmul_precision(before)
    return 2 * size**3 / best / 1e9


def machine() -> dict[str, Any]:
    """What the figures were measured on; the load is what others asked of it at that moment."""
    name = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
        "gemm_gflops": {
            "float32": round(gemm_rate(torch.float32)),
            "float32 through oneDNN": round(gemm_rate(torch.float32, precision="medium")),
            "bfloat16": round(gemm_rate(torch.bfloat16)),
        },
    }


def row(
    what: str, against: str, target: tuple[str, float], times: tuple[list[float], list[float]], facts: dict[str, Any]
) -> Ratio:
    """A row whose ratio is theirs / ours in medians; met when it reaches the target."""
    ratio = statistics.median(times[1]) / statistics.median(times[0])
    return Ratio(what, against, target[0], *times, ratio, ratio >= target[1], facts)


def ratio_of(
    what: str,
    against: str,
    target: tuple[str, float],
    times: tuple[list[float], list[float]],
    facts: dict[str, Any],
    **more: Any,
) -> Ratio:
    """A row of two sides whose results were compared: no ratio where they differ by more than the tolerance."""
    found = row(what, against, target, times, facts)
    for name, value in more.items():
        setattr(found, name, value)
    if found.difference is not None and not found.difference <= (found.tolerance or 0.0):
        found.ratio, found.met = None, None
        found.reason = f"the two sides differ by {found.difference:.1e}, more than {found.tolerance:.0e}"
    return found
