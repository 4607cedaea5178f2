"""Two processes that take turns: ours and a peer's, each in its own environment, on equal inputs.

First both compute the same thing and their results are compared; only where they are equal within the stated tolerance is
there a ratio. Seconds are of the processor (CPU seconds of one thread), for other work on the machine must not count.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.environments import ENVIRONMENTS, ROOT, NotInstalled, ready
from benchmarks.measure import FREED_MEMORY, FROM_EXACT, Ratio, ratio_of

# Nothing is fetched while time is taken, and nothing is reported to anyone.
_QUIET = {
    "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "0",
}  # fmt: skip
# Freed memory stays with the process. Otherwise the place of the heap's end decides, by chance, whether it goes back to
# the system and is fetched again page by page: 30,000 to 220,000 faults in one and the same capture, up to a third of it.
KEPT_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "2000000000", "MALLOC_MMAP_THRESHOLD_": "2000000000"}
# A run shorter than this many seconds is repeated within a turn.
_TURN = 0.3
# A first run longer than this is not repeated for warming up.
_LONG = 2.0


class WorkerFailed(Exception):
    """A side that could not do its work; its own last words."""


@dataclass(frozen=True)
class Duel:
    """One comparison: the same job for ours and for a peer, and what is asked of the ratio."""

    what: str
    label: str
    """The same in a few words, for the figure."""
    environment: str
    ours: tuple[str, str]
    """Our worker module and job."""
    theirs: tuple[str, str]
    """The peer's worker module and job."""
    target: tuple[str, float]
    options: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-4
    """Largest difference of results that counts as equal, as a share of the largest number of each tensor."""
    memory: bool = False
    """Whether a row of peak memory is made too."""
    reason: str = ""
    """Why the peer is ahead, where it is and stays so."""
    prepares: str | None = None
    """The job of our worker that writes inputs, when it has one."""
    exact: str | None = None
    """The job of our worker that computes the same slowly in float64, where neither side can be the measure."""
    keeps_memory: bool = False
    """Whether the processes of both sides keep freed memory, so that time does not hang on where it lies."""


class Side(AbstractContextManager["Side"]):
    """One worker process."""

    def __init__(self, python: Path | str, module: str, variables: Mapping[str, str] | None = None) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | _QUIET
        environment |= variables or {}
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._process = subprocess.Popen(
            [str(python), "-W", "ignore", "-m", f"benchmarks.workers.{module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env=environment,
        )

    def __exit__(self, *reason: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def ask(self, do: str, **more: Any) -> dict[str, Any]:
        """The answer to one request; raises WorkerFailed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **more}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerFailed(self._last_words())
        found = json.loads(line)
        if "failed" in found:
            raise WorkerFailed(str(found["failed"]))
        return found

    def _last_words(self) -> str:
        self._errors.seek(0)
        said = [line for line in self._errors.read().splitlines() if line.strip()]
        return said[-1].strip()[:300] if said else "the worker ended without a word"


def rows_of(duel: Duel, runs: int) -> list[Ratio]:
    """The rows of one comparison: time, and memory where asked for; one row with a reason where there is none."""
    environment = ENVIRONMENTS[duel.environment]
    try:
        python = ready(environment)
    except NotInstalled as problem:
        return [_unmeasured(duel, f"not installed: {problem}")]
    try:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            return _measured(duel, python, Path(folder), runs, stack)
    except WorkerFailed as problem:
        return [_unmeasured(duel, f"failed: {problem}")]


def _measured(duel: Duel, python: Path, folder: Path, runs: int, stack: ExitStack) -> list[Ratio]:
    asked = {"folder": str(folder), "options": dict(duel.options)}
    if duel.prepares is not None:
        with Side(sys.executable, duel.ours[0]) as side:
            side.ask("load", job=duel.prepares, **asked)
    variables = KEPT_MEMORY if duel.keeps_memory else {}
    pythons = ((sys.executable, duel.ours[0]), (python, duel.theirs[0]))
    sides = [stack.enter_context(Side(path, module, variables)) for path, module in pythons]
    starts = [
        side.ask("load", job=job, **asked)["seconds"]
        for side, job in zip(sides, (duel.ours[1], duel.theirs[1]), strict=True)
    ]
    files = [folder / name for name in ("ours.pt", "theirs.pt")]
    first = [side.ask("answer", path=str(file))["seconds"] for side, file in zip(sides, files, strict=True)]
    difference, compared = largest_difference(*files)
    environment = ENVIRONMENTS[duel.environment]
    facts: dict[str, Any] = {
        "tensors compared": compared,
        "import and loading, s": [round(seconds, 1) for seconds in starts],
    }
    if duel.keeps_memory:
        facts[FREED_MEMORY] = "kept by both processes"
    if duel.exact is not None:
        facts[FROM_EXACT] = _from_exact(duel, files, asked, folder)
    seconds = turns(sides, first, runs)
    peaks = [side.ask("peak")["peak"] for side in sides]
    shared: dict[str, Any] = {"environment": environment.name, "difference": difference, "tolerance": duel.tolerance}
    rows = [
        ratio_of(
            duel.what, environment.title, duel.target, seconds, facts, reason=duel.reason, label=duel.label, **shared
        )
    ]
    if duel.memory:
        what = f"peak memory: {duel.what}"
        sizes = ([peaks[0]], [peaks[1]])
        rows.append(
            ratio_of(
                what,
                environment.title,
                ("reported", 0.0),
                sizes,
                {"unit": "MB"},
                label=f"{duel.label}: memory",
                **shared,
            )
        )
    return rows


def _from_exact(duel: Duel, files: list[Path], asked: Mapping[str, Any], folder: Path) -> list[str]:
    """How far both sides are from float64."""
    with Side(sys.executable, duel.ours[0]) as side:
        side.ask("load", job=duel.exact, **asked)
        side.ask("answer", path=str(folder / "exact.pt"))
    return [f"{largest_difference(file, folder / 'exact.pt')[0]:.1e}" for file in files]


def turns(sides: list[Side], first: list[float], runs: int) -> tuple[list[float], list[float]]:
    """CPU seconds of each side's runs, one side after the other; short ones are repeated within a turn.

    `first` are the seconds of the run before, which was warm-up enough where it was long.
    """
    warm = [
        seconds if seconds > _LONG else side.ask("run", times=1)["seconds"]
        for side, seconds in zip(sides, first, strict=True)
    ]
    times = [max(1, min(1000, round(_TURN / max(seconds, 1e-5)))) for seconds in warm]
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for side, often, seconds in zip(sides, times, found, strict=True):
            seconds.append(side.ask("run", times=often)["seconds"])
    return found


def largest_difference(ours: Path, theirs: Path) -> tuple[float, int]:
    """The largest difference over all tensors that both sides name, relative to each one's largest number; how many.

    Raises WorkerFailed where they have no name in common, or shapes differ.
    """
    mine, other = (torch.load(path, weights_only=True) for path in (ours, theirs))
    names = sorted(mine.keys() & other.keys())
    if not names:
        raise WorkerFailed(f"no result in common: {sorted(mine)[:3]} and {sorted(other)[:3]}")
    worst = 0.0
    for name in names:
        a, b = mine[name].double(), other[name].double()
        if a.shape != b.shape:
            raise WorkerFailed(f"{name} has the shape {tuple(a.shape)} here and {tuple(b.shape)} there")
        if a.numel():
            found = float((a - b).abs().max() / b.abs().max().clamp_min(1e-30))
            # NaN on either side is no equality, and would get lost in a comparison.
            worst = max(worst, math.inf if math.isnan(found) else found)
    return worst, len(names)


def _unmeasured(duel: Duel, why: str) -> Ratio:
    title = ENVIRONMENTS[duel.environment].title
    return Ratio(duel.what, title, duel.target[0], [], [], None, None, {}, environment=duel.environment, reason=why)
