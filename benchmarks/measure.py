"""Timing two things side by side: alternating runs, medians, one table, one JSON."""

import gc
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass
class Ratio:
    """One row: ours against the other side, seconds per run of both, and what was asked for."""

    what: str
    against: str
    target: str
    ours: list[float]
    theirs: list[float]
    ratio: float
    met: bool
    facts: dict[str, Any] = field(default_factory=dict)


def alternate(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    runs: int,
    warm: int = 1,
    clock: Callable[[], float] = time.perf_counter,
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
    """GFLOP/s of a square matrix product, best of five, at a float32 precision setting that is put back."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    a, b = (torch.randn(size, size, dtype=torch.float32).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
    torch.set_float32_matmul_precision(before)
    return 2 * size**3 / best / 1e9


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
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
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
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


def as_json(rows: list[Ratio], about: dict[str, Any]) -> dict[str, Any]:
    """Everything, for `benchmarks/results.json`."""
    return {"machine": about, "rows": [asdict(r) for r in rows]}
