"""Workers on a SLURM cluster, submitted as job arrays through submitit; they outlive the process that asked for them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from glassworks.core.errors import InvalidInput, Unavailable
from glassworks.core.text import say
from glassworks.executors.base import Crew, Executor
from glassworks.executors.board import Board
from glassworks.executors.worker import GRACE_SECONDS, work

if TYPE_CHECKING:
    import submitit

_SECONDS_BETWEEN_LOOKS = 10.0
# A controller under load answers late; what it did not say is asked again.
_SECONDS_FOR_AN_ANSWER = 120.0
# States that a job does not leave any more.
_OVER = frozenset(
    {
        "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
        "TIMEOUT",
    }
)  # fmt: skip
_PROGRAMS = ("sbatch", "srun", "squeue", "scancel")


class Slurm(Executor):
    """Jobs of a SLURM cluster, as an array. Text: `slurm:partition=gpu,gpus=1,hours=2`.

    Each element of the array is a worker that takes one job after another. The folder of --out has to be on a file system
    that all nodes share. Workers outlive the process that submitted them; the same command finds what they do.
    """

    first: ClassVar[str] = "partition"

    kind: Literal["slurm"] = "slurm"
    partition: str | None = None
    """The partition; the cluster's default unless given."""
    workers: int = Field(default=64, ge=1, le=100_000)
    """Array elements at the same time; never more than there are jobs."""
    hours: float = Field(default=4.0, gt=0)
    """Time limit of a worker. A training that needs longer is taken up from its checkpoint by the next one."""
    gpus: int = Field(default=0, ge=0)
    """GPUs of a worker."""
    cpus: int | None = Field(default=None, ge=1)
    """Cores of a worker; as many as `threads` unless given."""
    memory: float | None = Field(default=None, gt=0)
    """GB of memory of a worker; the cluster's default unless given."""
    account: str | None = None
    """Who pays."""
    sbatch: dict[str, str] = Field(default_factory=dict[str, str])
    """Any other option of sbatch by its long name: `sbatch.constraint=a100`."""
    setup: tuple[str, ...] = ()
    """Shell lines that run before a worker, such as `module load cuda`."""
    cluster: Literal["slurm", "local"] = "slurm"
    """`local`: the same, by processes of this machine, to try it without a cluster."""

    def crew(self, board: Board) -> Crew:
        """Array elements; Unavailable without submitit, or where SLURM's programs are not."""
        try:
            import submitit
        except ImportError:
            raise Unavailable(
                say("SLURM is reached through submitit, which is not installed"),
                next_command="pip install 'glassworks[cluster]'",
            ) from None
        missing = [name for name in _PROGRAMS if shutil.which(name) is None]
        if self.cluster == "slurm" and missing:
            raise Unavailable(
                say("this machine reaches no SLURM: {program} is not there", program=missing[0]),
                right=say("a login node of the cluster; `slurm:cluster=local` tries the same here"),
            )
        folder = board.path / "submitit"
        executor = submitit.AutoExecutor(folder=folder, cluster=self.cluster)
        executor.update_parameters(**self._parameters())
        return _Array(board, executor, self)

    def _parameters(self) -> dict[str, Any]:
        """What submitit is asked for."""
        found: dict[str, Any] = {
            "name": "glassworks", "timeout_min": max(1, round(self.hours * 60)), "gpus_per_node": self.gpus,
            "cpus_per_task": self.cpus or self.threads, "tasks_per_node": 1, "nodes": 1,
        }  # fmt: skip
        if self.memory is not None:
            found["mem_gb"] = self.memory
        if self.cluster == "local":
            return found
        exports = [f"export {name}={value}" for name, value in self.environment().items()]
        named = {"partition": self.partition, "account": self.account}
        found |= {f"slurm_{name}": value for name, value in named.items() if value is not None}
        if not self.gpus:
            # Clusters without any GPU refuse the option, even at zero.
            del found["gpus_per_node"]
        return found | {
            "slurm_array_parallelism": self.workers,
            "slurm_setup": [*exports, *self.setup],
            "slurm_additional_parameters": dict(self.sbatch),
        }


class _Array(Crew):
    def __init__(self, board: Board, executor: submitit.AutoExecutor, spec: Slurm) -> None:
        self.board, self.executor, self.spec = board, executor, spec
        self.submitted: dict[int, submitit.Job[int]] = {}
        self._over: set[int] = set()
        self._looked = 0.0

    def hire(self, numbers: Sequence[int], told: Callable[[str], None]) -> None:
        """Submits one array; InvalidInput with SLURM's own words where it refuses."""
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        count = len(numbers)
        try:
            with _environment(self.spec.environment()):
                jobs = self.executor.map_array(
                    work, [str(self.board.folder)] * count, [self.board.session] * count, list(numbers)
                )
        except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as problem:
            raise InvalidInput(
                say("SLURM refused the job: {reason}", reason=_reason(problem)),
                given=self.spec.model_dump(mode="json", exclude_defaults=True),
            ) from None
        self.submitted |= dict(zip(numbers, jobs, strict=True))
        self._looked = time.monotonic()

    def at_work(self) -> set[int]:
        """The elements that SLURM has not ended, asked for at most every ten seconds."""
        is_here = self.spec.cluster == "local"
        for number in set() if is_here else set(self.submitted) - self._over:
            if self.submitted[number].paths.result_pickle.exists():
                self._over.add(number)
        waiting = set(self.submitted) - self._over
        is_due = is_here or time.monotonic() - self._looked >= _SECONDS_BETWEEN_LOOKS
        if waiting and is_due:
            self._looked = time.monotonic()
            known = self._known_to_cluster(waiting)
            if known is not None:
                self._over |= waiting - known
        return set(self.submitted) - self._over

    def dismiss(self) -> None:
        """Cancels what is left, and waits until each worker has said how far it came."""
        is_here = self.spec.cluster == "local"
        limit = time.monotonic() + GRACE_SECONDS
        while is_here and self.at_work() and not self.board.held() and time.monotonic() < limit:
            # Those that find nothing left to do are about to leave.
            time.sleep(0.05)
        for number in self.at_work():
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                if is_here:
                    os.kill(int(self.submitted[number].job_id), signal.SIGTERM)
                else:
                    self.submitted[number].cancel(check=False)
        while (self.board.held() or (is_here and self.at_work())) and time.monotonic() < limit:
            time.sleep(0.2)

    def last_words(self, number: int) -> Path | None:
        """The element's standard error."""
        return self.submitted[number].paths.stderr if number in self.submitted else None

    def _known_to_cluster(self, numbers: set[int]) -> set[int] | None:
        """Which of these elements wait or run; None where the cluster does not answer now."""
        if self.spec.cluster == "local":
            return {number for number in numbers if not self.submitted[number].done()}
        names = {str(self.submitted[number].job_id): number for number in numbers}
        arrays = sorted({name.partition("_")[0] for name in names})
        asked = ["squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={','.join(arrays)}"]
        try:
            answer = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=_SECONDS_FOR_AN_ANSWER)
        except subprocess.TimeoutExpired:
            return None
        if answer.returncode and "Invalid job id" not in answer.stderr:
            return None
        listed = under_way(answer.stdout)
        return {number for name, number in names.items() if name in listed}


def under_way(listing: str) -> set[str]:
    """The jobs that wait or run, of lines of a job and its state as squeue prints them; it lists some that are over."""
    told = (line.split() for line in listing.splitlines())
    return {words[0] for words in told if words and words[-1] not in _OVER}


@contextmanager
def _environment(values: Mapping[str, str]) -> Generator[None]:
    """The environment that a submitted job takes along."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _reason(problem: Exception) -> str:
    """SLURM's own words, out of those that submitit puts around them."""
    text = str(problem)
    if isinstance(problem, subprocess.CalledProcessError) and problem.stderr:
        text = problem.stderr if isinstance(problem.stderr, str) else problem.stderr.decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"error|refused|invalid", line, re.IGNORECASE)]
    return (errors or lines or ["-"])[-1]
