"""The prompt that a person gives: a text, a file, token ids, or a sequence drawn from the model's own world."""

from __future__ import annotations

import re
import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from glassworks.core.errors import InvalidInput, NotFound
from glassworks.core.text import say
from glassworks.tasks.base import Task
from glassworks.tensors.seeds import Seed

if TYPE_CHECKING:
    from glassworks.anatomy import Subject
    from glassworks.anatomy.subject import Prompt


# No context holds more; what is larger was named by mistake.
LARGEST_TEXT = 16 * 10**6


def typed_prompt(text: str | None, text_file: str | None, tokens: str | None) -> Prompt | None:
    """The prompt of the command line, None where none was given; two at once are refused.

    A file holds one text, or several with empty lines between them.
    """
    given = [
        name
        for name, value in (("--text", text), ("--text-file", text_file), ("--tokens", tokens))
        if value is not None
    ]
    if len(given) > 1:
        raise InvalidInput(
            say("one prompt at a time"), given=", ".join(given), right=say("one of --text, --text-file, --tokens")
        )
    if tokens is not None:
        return _ids(tokens)
    found = text if text_file is None else read_text(Path(text_file))
    if found is not None and not found.strip():
        raise InvalidInput(
            say("the prompt is empty"), given=text_file or repr(text), right=say("at least one character")
        )
    if found is None or text_file is None:
        return found
    texts = [part.strip() for part in re.split(r"\n[ \t\r]*\n", found) if part.strip()]
    return texts if len(texts) > 1 else found


def read_text(path: Path) -> str:
    """A UTF-8 file of at most 16 MB; names the first byte that is none."""
    try:
        # Asked before opening: opening a pipe waits for its writer, reading a device never ends.
        if not stat.S_ISREG(path.stat().st_mode):
            raise IsADirectoryError
        with path.open("rb") as file:
            found = file.read(LARGEST_TEXT + 1)
        if len(found) > LARGEST_TEXT:
            raise InvalidInput(
                say("{path} is too large for a prompt", path=str(path)),
                right=say("at most {count} MB of text", count=LARGEST_TEXT // 10**6),
            )
        return found.decode("utf-8-sig")
    except FileNotFoundError:
        raise NotFound(say("{path} is not there", path=str(path))) from None
    except (IsADirectoryError, PermissionError):
        raise InvalidInput(
            say("{path} cannot be read as a file", path=str(path)), right=say("a UTF-8 text file")
        ) from None
    except UnicodeDecodeError as problem:
        raise InvalidInput(
            say("{path} is not UTF-8 text", path=str(path)),
            given=say(
                "byte 0x{byte} at offset {offset}", byte=f"{problem.object[problem.start]:02x}", offset=problem.start
            ),
            right=say("a UTF-8 text file"),
            next_command=f"iconv -f latin1 -t utf-8 {shlex.quote(str(path))} > text.txt",
        ) from None


def drawn_prompt(subject: Subject, seed: int) -> Prompt:
    """One held-out sequence of the model's world; InvalidInput where no world is known."""
    world = subject.world
    if not isinstance(world, Task):
        raise InvalidInput(
            say("which text? This model brings no world to draw one from"),
            right=say("--text, --text-file or --tokens"),
        )
    # Trainings draw from other names, so this sequence was not seen.
    return world.sample(1, Seed(seed).child("examine")).inputs


def _ids(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.replace(" ", ",").split(",") if part]
    except ValueError:
        raise InvalidInput(
            say("token ids are whole numbers"), given=text, right=say("for example {example}", example="1,2,3")
        ) from None
    if not found:
        raise InvalidInput(say("the prompt is empty"), given=text, right=say("at least one token"))
    return found
