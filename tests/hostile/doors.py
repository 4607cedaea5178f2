"""The command line in a child process of its own, held to a bound of time and memory: what comes back is judged."""

import io
import os
import re
import resource
import select
import signal
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

MEGABYTE = 1 << 20
SECONDS = 20.0
"""Processor time of one answer at most; the clock may show ten times that on a busy machine."""
PATIENCE = 10
MEGABYTES = 600
"""What a refusal may cost at most beside what the libraries themselves take; the tests say where less is asked."""
USAGE = 2
# Bold, dim and their end, of our own lines on a terminal; strangers' texts in the tests use other sequences.
OWN_COLOURS = re.compile("\x1b\\[[0123]m")
WARM = (
    "glassworks.cli.compare",
    "glassworks.cli.examine",
    "glassworks.cli.generate",
    "glassworks.cli.stream",
    "glassworks.cli.surgery",
    "glassworks.models.gallery.readings",
    "glassworks.models.load",
)
"""Modules that some command loads where it needs them."""


@dataclass(frozen=True)
class Answer:
    """What one command left: its exit status (negative for a signal), its words, processor seconds, growth in megabytes."""

    code: int
    out: str
    err: str
    seconds: float
    megabytes: float
    most: float
    """Megabytes that it may take."""

    @property
    def trouble(self) -> str:
        """Why this is no answer for a person; empty where it is one."""
        told = OWN_COLOURS.sub("", self.out + self.err)
        if self.code in (-signal.SIGALRM, -signal.SIGPROF):
            return "it hangs"
        if self.code not in (0, 1, USAGE):
            return f"exit status {self.code}"
        for sign in ("Traceback (most", "unexpected:", "not enough memory", "Warning: ", "Exception ignored"):
            if sign in told:
                return sign
        if self.megabytes > self.most:
            return f"it takes {self.megabytes:.0f} MB"
        if self.code == 1 and "error: " not in self.err:
            return "no error is told"
        if steering(told):
            return f"control characters reach the terminal: {steering(told)!r}"
        return ""


def steering(text: str) -> str:
    """The characters of a text with which a terminal can be steered, or a line turned round."""
    return "".join(sorted({sign for sign in text if _steers(sign)}))


def _steers(sign: str) -> bool:
    code = ord(sign)
    return (
        (code < 32 and sign not in "\n\t\r")
        or 127 <= code < 160
        or sign in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )


def knock(
    *arguments: str | Path, seconds: float = SECONDS, megabytes: float = MEGABYTES, is_terminal: bool = False
) -> Answer:
    """Runs one command as a person would, in a fork of this process, and returns what it left.

    With `is_terminal` its output believes to be one; what is returned is still what was written.
    """
    with TemporaryDirectory() as place:
        out, err = Path(place, "out"), Path(place, "err")
        before = _resident()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _child([str(argument) for argument in arguments], (out, err), (seconds, megabytes), is_terminal=is_terminal)
        code, used = _ended(child, seconds * PATIENCE)
        return Answer(
            code,
            out.read_text(errors="replace"),
            err.read_text(errors="replace"),
            used.ru_utime + used.ru_stime,
            max(0.0, used.ru_maxrss / 1024 - before),
            megabytes,
        )


def ready() -> None:
    """Loads what the commands load, once, so that each child begins with it and its seconds are its own."""
    import torch

    torch.set_num_threads(1)
    for name in WARM:
        import_module(name)
    from transformers import AutoTokenizer, GPT2LMHeadModel, LlamaForCausalLM

    assert AutoTokenizer is not None
    assert GPT2LMHeadModel is not LlamaForCausalLM


class _Terminal(io.TextIOWrapper):
    """A file that says of itself that it is a terminal."""

    def isatty(self) -> bool:
        return True


def _opened(number: int, *, is_terminal: bool) -> io.TextIOWrapper:
    kind = _Terminal if is_terminal else io.TextIOWrapper
    return kind(open(number, "wb", closefd=False), encoding="utf-8", errors="replace")


def _child(arguments: list[str], files: tuple[Path, Path], bounds: tuple[float, float], *, is_terminal: bool) -> None:
    seconds, megabytes = bounds
    for number, path in zip((1, 2), files, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - the process's own, to its end
    sys.stdout, sys.stderr = (_opened(number, is_terminal=is_terminal) for number in (1, 2))
    # Addresses, most of which libraries never touch; what is touched is judged at the end.
    bound = _virtual() + int((megabytes + 4096) * MEGABYTE)
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    # A door that waits uses no processor time.
    signal.setitimer(signal.ITIMER_REAL, seconds * PATIENCE)
    code = 99
    try:
        from glassworks.cli.main import main

        code = main(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _ended(child: int, seconds: float) -> tuple[int, resource.struct_rusage]:
    watch = os.pidfd_open(child)
    if not select.select([watch], [], [], seconds + 5)[0]:
        os.kill(child, signal.SIGKILL)
    os.close(watch)
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MEGABYTE


def _virtual() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
