"""The entry point: reads what was typed, runs the command, turns every foreseeable failure into one clear message."""

import atexit
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from importlib import import_module
from typing import TYPE_CHECKING

from glassworks.cli.stopping import stoppable
from glassworks.cli.streams import make_sound
from glassworks.cli.terminal import Shown, show_only, visible
from glassworks.core.errors import GlassworksError, InvalidInput
from glassworks.core.text import LANGUAGES, Text, choose_language, say

if TYPE_CHECKING:
    from glassworks.cli.options import Command

# How the library of matrix products says it, in these words alone.
_NO_PRIMITIVE = "could not create a primitive"
_MEMORY_SIGNS = ("out of memory", "can't allocate", "can't start new thread")
OK, FAILED, INTERRUPTED, BROKEN_PIPE = 0, 1, 130, 141
# These load torch whatever is asked of them; the others only where they compute.
_WITH_TORCH = {
    "doctor",
    "examine",
    "compare",
    "surgery",
    "sweep",
    "models",
    "train",
    "stream",
    "generate",
    "chat",
    "infinify",
    "plan",
    "presets",
    "tree",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, 1 for a cause the message names, 130 after Ctrl-C. Wrong usage exits with 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    make_sound()
    _use_any_terminal()
    show_only()
    _choose_language_of(given)
    # Our own view shows progress; bars of libraries between its lines would tear it.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return _guarded(given)


def entry() -> None:
    """The program: `main`, and an end at which Ctrl-C has nothing left to interrupt."""
    # Registered first it is called last: Python goes back to the system's way just before it takes itself apart.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    try:
        code = main()
    except KeyboardInterrupt:
        # A second one, while the first was told of.
        code = INTERRUPTED
    # All is done and told: from here on it ends the process at once, with this code and no traceback, whatever is waited for.
    signal.signal(signal.SIGINT, lambda *_: os._exit(code))
    # One of several processes: the others wait for its end, and to take a million objects apart takes seconds.
    gc.freeze()
    sys.exit(code)


def _guarded(given: list[str]) -> int:
    try:
        try:
            return _answered(given)
        finally:
            # Also on the way out of --help, which leaves by SystemExit: at exit nobody could catch a broken pipe.
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) has gone; nobody is left to tell, and the interpreter must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        if _is_first():
            _tell(say("Stopped."))
        return INTERRUPTED
    except (SystemExit, GeneratorExit):
        raise
    # Not Exception alone: what a compiled library raises where it panics is none.
    except BaseException as problem:
        if os.environ.get("GLASSWORKS_DEBUG") == "1":
            raise
        if "WORLD_SIZE" in os.environ:
            problem = _told_once(problem)
        _tell(_explained(problem, given[0] if given else ""))
        return FAILED


def _is_first() -> bool:
    """Whether this process speaks for those of its training: torchrun gives each its RANK."""
    return os.environ.get("RANK", "0") == "0"


def _told_once(problem: BaseException) -> BaseException:
    """The error of one of several processes, once it is this one's to tell; in words, where another's end is the cause."""
    from glassworks.cli.processes import loss_of_another, wait_to_speak

    wait_to_speak(problem)
    return loss_of_another(problem) or problem


def _answered(given: list[str]) -> int:
    if given[:1] == ["--version"]:
        from importlib.metadata import version

        print(f"glassworks {version('glassworks')}")
        return OK
    from glassworks.cli.options import read

    _refuse_half_characters(given)
    # The reader repeats what was typed: nothing in it may steer whoever shows a pipe or a log, either.
    with redirect_stderr(sys.stderr if isinstance(sys.stderr, Shown) else Shown(sys.stderr)):
        command = read(given or ["--help"])
    return _run(command)


def _run(command: "Command") -> int:
    """Each command's function has the command's name, and a file of that name."""
    _refuse_empty(command)
    name = type(command).__name__.lower()
    if name != "train" and "RANK" in os.environ and (size := os.environ.get("WORLD_SIZE", "1")) != "1":
        raise InvalidInput(
            say("{command} runs in one process, torchrun started {size}", command=name, size=size),
            right=say("torchrun for train alone"),
        )
    if name in _WITH_TORCH:
        # Read when torch loads: its threads sleep after some microseconds of waiting for each other. As long as they
        # spin they take the cores from whatever else runs here, and `examine` three times the time.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
        if "WORLD_SIZE" in os.environ:
            # Of several processes each would warn of what it does on purpose, e.g. of looking for unused parameters.
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        # It misses a kernel for four bits, which nobody here asks for, and says so wherever a library imports it.
        logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
        from glassworks.cli.speak import tell_of_torch

        tell_of_torch(as_json=command.json)
    function: Callable[[Command], int] = import_module(f"glassworks.cli.{name}").__dict__[name]
    with stoppable():
        return function(command)


def _refuse_half_characters(given: list[str]) -> None:
    """A name of other bytes can be neither recorded as JSON nor handed to compiled readers and writers."""
    for word in given:
        if not word.isascii() and any("\ud800" <= sign <= "\udfff" for sign in word):
            raise _not_utf8(word)


def _not_utf8(given: str) -> InvalidInput:
    right = say("names and texts in UTF-8, and a locale such as C.UTF-8")
    return InvalidInput(say("this is not UTF-8"), given=given, right=right)


def _refuse_empty(command: "Command") -> None:
    """An empty path would mean the present folder, which nobody who typed '' asked for."""
    from glassworks.cli.options import (
        Chat,
        Compare,
        Examine,
        Generate,
        Infinify,
        Models,
        Presets,
        Stream,
        Surgery,
        Sweep,
        Train,
        Tree,
    )

    match command:
        case Models() | Presets():
            named = {"NAME": command.name}
        case Tree():
            named = {"--branch": command.branch}
        case _:
            named = {"--out": command.out}
    if isinstance(command, Chat | Compare | Examine | Generate | Infinify | Stream | Surgery | Sweep):
        named |= {"MODEL": command.source}
    if isinstance(command, Stream):
        named |= {"--file": command.file, "--save-memory": command.save_memory, "--load-memory": command.load_memory}
    named |= {"OTHER": command.other} if isinstance(command, Compare) else {}
    named |= {"TASK": command.task} if isinstance(command, Train) else {}
    for name, value in named.items():
        if value is not None and not value.strip():
            raise InvalidInput(say("{name} is empty", name=name), given=repr(value))


def _explained(problem: BaseException, command: str) -> GlassworksError:
    """What is told of any failure of a command: its cause where it is foreseeable, else what Python calls it."""
    if isinstance(problem, GlassworksError):
        return problem
    if isinstance(problem, OSError):
        return _error_of(problem)
    if isinstance(problem, UnicodeEncodeError) and "surrogates" in problem.reason:
        # The name of a folder further up, mostly.
        return _not_utf8(problem.object)
    # torch reports a full device or host memory as a RuntimeError, and Python a thread whose stack finds no room.
    words = str(problem).lower() if isinstance(problem, RuntimeError) else ""
    if isinstance(problem, MemoryError) or any(sign in words for sign in _MEMORY_SIGNS) or words == _NO_PRIMITIVE:
        return _out_of_memory(problem, command)
    first = (str(problem).strip().splitlines() or ["-"])[0]
    return GlassworksError(
        say("unexpected: {kind}: {message}", kind=type(problem).__name__, message=first),
        right=say("this is a mistake of ours; GLASSWORKS_DEBUG=1 shows where"),
    )


def _error_of(problem: OSError) -> GlassworksError:
    import errno

    right = say("a folder with free space that you may write to") if problem.errno == errno.ENOSPC else None
    what = say("{path}: {reason}", path=problem.filename or "-", reason=problem.strerror or str(problem))
    return GlassworksError(what, right=right, next_command="glassworks doctor")


def _out_of_memory(problem: BaseException, command: str) -> GlassworksError:
    # Each command takes its settings in its own way; an example of another's would be refused.
    example = {"train": "batch=4 length=64", "reproduce": "--set batch=32"}.get(command)
    return GlassworksError(
        say("not enough memory"),
        given=str(problem).splitlines()[0] if str(problem) else None,
        right=say("a smaller batch, width or length, e.g. {example}", example=example)
        if example
        else say("a shorter text or a smaller model"),
        next_command="glassworks doctor",
    )


def _tell(message: GlassworksError | Text) -> None:
    text = f"{say('error')}: {message}" if isinstance(message, GlassworksError) else str(message)
    # Also into files and pipes: logs are read in terminals.
    print(visible(text), file=sys.stderr)


def _choose_language_of(arguments: Sequence[str]) -> None:
    """Looks for --lang before anything is read, so that help and usage errors speak it too."""
    for place, argument in enumerate(arguments):
        name, separator, value = argument.partition("=")
        if name == "--lang":
            word = value if separator else next(iter(arguments[place + 1 :]), "")
            if word in LANGUAGES:
                choose_language(word)


def _use_any_terminal() -> None:
    """A terminal without Unicode gets question marks instead of a crash."""
    import io

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    entry()
