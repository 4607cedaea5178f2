"""What a command will need, foretold by the command itself in a process of its own: one at a time, gone with its asker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

from glassworks.core.text import Language, Text, say
from glassworks.studio.jobs.cores import share
from glassworks.studio.refusals import BAD, TOO_LATE, Refused, refusal

# Starting, and the work on a thin twin; on a busy machine several times ten seconds.
SECONDS = 180.0
_PROGRAM = (sys.executable, "-m", "glassworks.cli.main")


@dataclass
class Needs:
    """Asks commands what they will need."""

    program: tuple[str, ...] = _PROGRAM
    seconds: float = SECONDS
    # What is measured beside another measurement would be of a busier machine than there is.
    _turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    async def of(self, words: Sequence[str], language: Language) -> dict[str, Any]:
        """The command's own estimate, with the memory that is free now; Refused with what the command says is wrong."""
        async with self._turn:
            code, told, remarks = await self._run([*words, "--json"], language)
        try:
            found = json.loads(told) if code == 0 else None
        except ValueError:
            found = None
        if not isinstance(found, dict) or "estimate" not in found:
            raise Refused(BAD, said_in(remarks, language))
        return {
            "estimate": found["estimate"],
            "free_bytes": psutil.virtual_memory().available,
            "command": shlex.join(["glassworks", *words]),
        }

    async def _run(self, words: Sequence[str], language: Language) -> tuple[int, str, str]:
        environment = os.environ | {
            "OMP_NUM_THREADS": str(share()), "GLASSWORKS_LANG": language, "PYTHONSAFEPATH": "1",
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *self.program, *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            told, remarks = await asyncio.wait_for(process.communicate(), self.seconds)
        except TimeoutError:
            what = say("no answer within {seconds} seconds", seconds=round(self.seconds))
            raise refusal(TOO_LATE, what, language, say("a shorter text or a smaller model")) from None
        finally:
            # Also where nobody waits any more.
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return process.returncode or 0, told.decode("utf-8", "replace"), remarks.decode("utf-8", "replace")


def said_in(remarks: str, language: Language) -> dict[str, Any]:
    """The error that a command printed, as plain data again: `what`, `given`, `right`, `next`."""
    mark = f"{say('error').in_language(language)}: "
    lines = remarks.strip().splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith(mark)), None)
    if start is None:
        what = say("the command ended without an answer: {reason}", reason=lines[-1] if lines else "-")
        return _plain(what.in_language(language))
    found = _plain(lines[start].removeprefix(mark))
    labels: dict[str, Text] = {"given": say("given"), "right": say("would be right"), "next": say("next")}
    for line in lines[start + 1 :]:
        for name, label in labels.items():
            head = f"  {label.in_language(language)}: "
            if line.startswith(head):
                found[name] = line.removeprefix(head)
    return found


def _plain(what: str) -> dict[str, Any]:
    return {"what": what, "given": None, "right": None, "next": None}
