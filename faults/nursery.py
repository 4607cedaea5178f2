"""Children that run one command each, forked from a process that has loaded everything: a moment instead of seconds.

What forking changes, against a fresh interpreter: modules are loaded already, hash randomisation is that of the parent, and
the address space starts large. What it does not change: the command, its signals, its files, its locks. The parent never
computes, so it has no threads that a fork would lose.
"""

import contextlib
import importlib
import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# A child that does not end by itself is a finding, not a reason to wait forever.
PATIENCE_SECONDS = 240.0
_LOOK_SECONDS = 0.001
_LIBRARIES = (
    "glassworks.cli.main", "torch", "transformers", "safetensors.numpy", "matplotlib.backends.backend_agg", "pandas",
    "pyarrow.parquet", "accelerate", "datasets",
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code (minus the signal where one ended it), what it said, and what it cost."""

    code: int
    out: str
    err: str
    cpu_seconds: float
    """Of itself alone."""
    cpu_seconds_of_all: float
    """With all that it started and waited for."""
    seconds: float


@dataclass
class Child:
    """A running command; `pid` is also its process group."""

    pid: int
    log: Path
    began: float = field(default_factory=time.monotonic)
    _code: int | None = None
    _cpu: float = 0.0
    _cpu_of_all: float = 0.0

    def cpu(self) -> float:
        """Processor time so far, in seconds, over all its threads; the last that was seen once it has ended."""
        if self._code is None:
            with contextlib.suppress(OSError):
                # Linux's number for the processor clock of another process (clock_getcpuclockid).
                self._cpu = time.clock_gettime((~self.pid << 3) | 2)
        return self._cpu

    def is_over(self) -> bool:
        """Whether it has ended; collects it."""
        if self._code is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
                self._cpu_of_all = usage.ru_utime + usage.ru_stime
        return self._code is not None

    def until(self, is_met: Callable[[], bool]) -> bool:
        """Waits for a condition; False where the child ended before it was met."""
        while not self.is_over():
            self.cpu()
            if is_met():
                return True
            time.sleep(_LOOK_SECONDS)
            if time.monotonic() - self.began > PATIENCE_SECONDS:
                return False
        return False

    def signal(self, number: signal.Signals) -> None:
        """To the child and all that it started."""
        if not self.is_over():
            os.killpg(self.pid, number)

    def wait(self) -> Ended:
        """Its end; one that outlives the patience is killed, which its code then tells."""
        self.until(lambda: False)
        if self._code is None:
            os.killpg(self.pid, signal.SIGKILL)
            while not self.is_over():
                time.sleep(_LOOK_SECONDS)
        assert self._code is not None
        out, err = (_read(self.log.with_suffix(ending)) for ending in (".out", ".err"))
        return Ended(self._code, out, err, self._cpu, self._cpu_of_all, time.monotonic() - self.began)


@dataclass(frozen=True)
class Nursery:
    """Where children come from; `folder` takes what they say."""

    folder: Path

    @classmethod
    def opened(cls, folder: Path) -> "Nursery":
        """Loads the libraries once. Nothing is computed here, now or later."""
        folder.mkdir(parents=True, exist_ok=True)
        _imported(_LIBRARIES)
        return cls(folder)

    def learn(self, child: Callable[[], object]) -> None:
        """Runs something in a child, and then loads here what it had to load there."""
        told = self.folder / "modules"

        def remembering() -> int:
            child()
            told.write_text("\n".join(sorted(sys.modules)), encoding="utf-8")
            return 0

        ended = self.born(remembering).wait()
        if ended.code:
            raise RuntimeError(f"the undisturbed command failed: {ended.err[-2000:]}")
        _imported([name for name in told.read_text(encoding="utf-8").splitlines() if name not in sys.modules])

    def ask(self, question: Callable[[], Any]) -> Any:
        """What a child answers, as JSON carries it: readers of files start threads, which this process must not have."""
        told = self.folder / "answer"
        told.unlink(missing_ok=True)

        def answering() -> int:
            told.write_text(json.dumps(question()), encoding="utf-8")
            return 0

        ended = self.born(answering).wait()
        if ended.code:
            raise RuntimeError(f"a look at the files failed ({ended.code}): {ended.err[-2000:]}")
        return json.loads(told.read_text(encoding="utf-8"))

    def born(
        self, work: Callable[[], int], environment: Mapping[str, str] | None = None, here: Path | None = None
    ) -> Child:
        """A child in a session of its own that does the work and exits with its code."""
        log = self.folder / "child"
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid:
            with contextlib.suppress(ProcessLookupError):
                while os.getsid(pid) != pid:
                    # Signals go to its session, which it has to open first.
                    time.sleep(_LOOK_SECONDS)
            return Child(pid, log)
        try:
            _live(work, log, environment or {}, here)
        finally:
            os._exit(70)

    def command(
        self,
        words: Sequence[str],
        environment: Mapping[str, str] | None = None,
        before: Callable[[], None] | None = None,
        here: Path | None = None,
    ) -> Child:
        """A child that runs `glassworks WORDS`, after `before` prepared it."""

        def work() -> int:
            from glassworks.cli.main import main

            if before is not None:
                before()
            sys.argv = ["glassworks", *words]
            return main(list(words))

        return self.born(work, environment, here)


def _live(work: Callable[[], int], log: Path, environment: Mapping[str, str], here: Path | None) -> None:
    """The child's whole life; never returns."""
    os.setsid()
    # As a terminal starts a command; a shell's background or nohup would have it ignore what is to be tried.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for number, ending in ((1, ".out"), (2, ".err")):
        handle = os.open(log.with_suffix(ending), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        os.dup2(handle, number)
        os.close(handle)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    renew_streams()
    os.environ.update(environment)
    if here is not None:
        os.chdir(here)
    code = 70
    try:
        code = work()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            code = code or 120
        os._exit(code)


def renew_streams() -> None:
    """Opens stdout and stderr anew on what their numbers mean now, as a fresh interpreter would."""
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for the child's whole life
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115 - as above


def _imported(names: Sequence[str]) -> None:
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                importlib.import_module(name)
            except Exception:  # an optional part that this machine lacks, or a module that was made on the fly
                continue


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
