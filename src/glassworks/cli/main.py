"""The entry point: reads what was typed, runs the command, turns every foreseeable failure into one clear message."""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from glassworks.core.errors import GlassworksError, InvalidInput
from glassworks.core.text import LANGUAGES, Text, choose_language, say

if TYPE_CHECKING:
    from glassworks.cli.options import Command

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
    _use_any_terminal()
    _choose_language_of(given)
    # Our own view shows progress; bars of libraries between its lines would tear it.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return _guarded(given)


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
        _tell(say("Stopped."))
        return INTERRUPTED
    except Exception as problem:
        if os.environ.get("GLASSWORKS_DEBUG") == "1":
            raise
        _tell(_explained(problem, given[0] if given else ""))
        return FAILED


def _answered(given: list[str]) -> int:
    if given[:1] == ["--version"]:
        from importlib.metadata import version

        print(f"glassworks {version('glassworks')}")
        return OK
    from glassworks.cli.options import read

    return _run(read(given or ["--help"]))


def _run(command: "Command") -> int:
    """Each command's function has the command's name, and a file of that name."""
    _refuse_empty(command)
    name = type(command).__name__.lower()
    if name in _WITH_TORCH:
        # Read when torch loads: its threads sleep after some microseconds of waiting for each other. As long as they
        # spin they take the cores from whatever else runs here, and `examine` three times the time.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
        from glassworks.cli.speak import tell_of_torch

        tell_of_torch(as_json=command.json)
    function: Callable[[Command], int] = import_module(f"glassworks.cli.{name}").__dict__[name]
    return function(command)


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


def _explained(problem: Exception, command: str) -> GlassworksError:
    """What is told of any failure of a command: its cause where it is foreseeable, else what Python calls it."""
    if isinstance(problem, GlassworksError):
        return problem
    if isinstance(problem, OSError):
        return _error_of(problem)
    # torch reports a full device or host memory as a RuntimeError.
    words = str(problem).lower() if isinstance(problem, RuntimeError) else ""
    if isinstance(problem, MemoryError) or "out of memory" in words or "can't allocate" in words:
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
    print(_visible(text), file=sys.stderr)


def _visible(text: str) -> str:
    """Control characters spelled out: what a person or a file gave must not steer the terminal."""
    return "".join(sign if sign == "\n" or sign.isprintable() else repr(sign)[1:-1] for sign in text)


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
    sys.exit(main())
