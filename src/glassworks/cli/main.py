"""The entry point: reads what was typed, runs the command, turns every foreseeable failure into one clear message."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from glassworks.core.errors import GlassworksError
from glassworks.core.text import LANGUAGES, Text, choose_language, say

if TYPE_CHECKING:
    from glassworks.cli.options import Command

OK, FAILED, INTERRUPTED, BROKEN_PIPE = 0, 1, 130, 141


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
    except GlassworksError as problem:
        return _failed(problem)
    except KeyboardInterrupt:
        _tell(say("Stopped."))
        return INTERRUPTED
    except OSError as problem:
        return _failed(_error_of(problem))
    except MemoryError as problem:
        return _failed(_out_of_memory(problem))
    except RuntimeError as problem:
        # torch reports a full device or host memory as a RuntimeError; anything else is our own mistake.
        if "out of memory" in str(problem).lower() or "can't allocate" in str(problem).lower():
            return _failed(_out_of_memory(problem))
        raise


def _answered(given: list[str]) -> int:
    if given[:1] == ["--version"]:
        from importlib.metadata import version

        print(f"glassworks {version('glassworks')}")
        return OK
    from glassworks.cli.options import read

    return _run(read(given or ["--help"]))


def _run(command: "Command") -> int:
    from glassworks.cli import options

    match command:
        case options.Doctor():
            from glassworks.cli.speak import tell_of_torch

            tell_of_torch(as_json=command.json)
            from glassworks.cli.doctor import doctor

            return doctor(command)
        case options.Reproduce():
            from glassworks.cli.reproduce import reproduce

            return reproduce(command)
        case options.Claims():
            from glassworks.cli.claims import claims

            return claims(command)
        case options.Examine():
            from glassworks.cli.speak import tell_of_torch

            tell_of_torch(as_json=command.json)
            from glassworks.cli.examine import examine

            return examine(command)
        case options.Runs():
            from glassworks.cli.runs import runs

            return runs(command)
        case options.Export():
            from glassworks.cli.export import export

            return export(command)


def _failed(problem: GlassworksError) -> int:
    if os.environ.get("GLASSWORKS_DEBUG") == "1":
        raise problem
    _tell(problem)
    return FAILED


def _error_of(problem: OSError) -> GlassworksError:
    import errno

    right = say("a folder with free space that you may write to") if problem.errno == errno.ENOSPC else None
    what = say("{path}: {reason}", path=problem.filename or "-", reason=problem.strerror or str(problem))
    return GlassworksError(what, right=right, next_command="glassworks doctor")


def _out_of_memory(problem: BaseException) -> GlassworksError:
    return GlassworksError(
        say("not enough memory"),
        given=str(problem).splitlines()[0] if str(problem) else None,
        right=say("a smaller batch, width or length, e.g. --set batch=32, or a shorter text"),
        next_command="glassworks doctor",
    )


def _tell(message: GlassworksError | Text) -> None:
    print(f"{say('error')}: {message}" if isinstance(message, GlassworksError) else str(message), file=sys.stderr)


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
