"""generate: text from a decoder, its words shown as they are made, with their candidates where that is asked for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassworks.cli.api import load, placement_of
from glassworks.cli.candidates import legend, show_step
from glassworks.cli.options_stream import CANDIDATES, Generate
from glassworks.cli.prompts import read_text
from glassworks.cli.reproduce import go_offline
from glassworks.cli.speak import duration_words, print_json, remarks
from glassworks.cli.terminal import visible
from glassworks.core.errors import InvalidInput
from glassworks.core.files import refuse_unwritable
from glassworks.core.text import say

if TYPE_CHECKING:
    from glassworks.anatomy import Subject
    from glassworks.models.generating import Generated, Word


def generate(command: Generate) -> int:
    """Writes the prompt and what follows on stdout, word by word, or a line for each with its candidates."""
    go_offline(command.offline)
    prompt = _prompt(command)
    _check(command)
    from glassworks.models.generating import Manner, Sampling
    from glassworks.models.generating import generate as write

    choice = Sampling(
        max_new_tokens=command.max_new_tokens, temperature=command.temperature, top_k=command.top_k,
        top_p=command.top_p, seed=command.seed,
    )  # fmt: skip
    subject = load(
        command.source, device=command.device, dtype=command.dtype,
        trust_remote_code=command.trust_remote_code, out=command.out, **placement_of(command),
    )  # fmt: skip
    shown = command.show_candidates
    if command.json:
        made = write(subject, prompt, choice, manner=Manner(command.engine, CANDIDATES if shown is None else shown))
        print_json(made.to_json() | _traced(command, subject, made))
        return 0
    if shown:
        made = _with_candidates(subject, prompt, choice, Manner(command.engine, shown))
    else:
        if told := _shown_end(prompt):
            spoken(told)
        made = write(subject, prompt, choice, lambda word: spoken(word.text), Manner(command.engine))
        print(flush=True)
    words = say(
        "{new} tokens in {time} ({speed} a second) after {prompt}",
        new=len(made.ids),
        time=duration_words(made.seconds),
        speed=f"{made.tokens_per_second:.1f}",
        prompt=made.prompt_tokens,
    )
    remarks().print(str(words), style="dim")
    _tell_of_trace(_traced(command, subject, made))
    return 0


def _with_candidates(subject: Subject, prompt: str, choice: Any, manner: Any) -> Generated:
    """A line for each token as it comes, then the text as a whole."""
    from glassworks.models.generating import generate as write

    print(str(legend(manner.candidates)), flush=True)
    number = 0

    def show(word: Word) -> None:
        nonlocal number
        if word.step is not None:
            number += 1
            show_step(number, word.step)

    made = write(subject, prompt, choice, show, manner)
    print()
    spoken(_shown_end(prompt) + made.text)
    print(flush=True)
    return made


def _traced(command: Generate, subject: Subject, made: Generated) -> dict[str, Any]:
    """Writes the trace, where one is asked for; says where, and whether its parts give the model's logits."""
    if command.trace is None:
        return {}
    from glassworks.models.generating import writer_of
    from glassworks.models.trace import Extent, trace

    speller = writer_of(subject, "library").speller
    ids = [*speller.beginning(), *(speller.plain(made.prompt) if made.prompt else []), *made.ids]
    extent = Extent(command.trace_layers, command.trace_tokens)
    traced = trace(subject, ids, made.prompt_tokens, made.choice, extent)
    files = traced.save(Path(command.trace))
    return {"trace": {"files": [str(path) for path in files], "check": traced.data["check"]}}


def _tell_of_trace(found: dict[str, Any]) -> None:
    if not found:
        return
    check = found["trace"]["check"]
    worst = max(check["relative_errors"].values())
    words = (
        say("put together again, the parts give the model's logits (largest relative difference {error})", error=f"{worst:.1e}")
        if check["passed"]
        else say("put together again, the parts miss the model's logits by {error}", error=f"{worst:.1e}")
    )  # fmt: skip
    for path in found["trace"]["files"]:
        print(path)
    remarks().print(str(words), style="dim")


def spoken(text: str) -> None:
    """New words on stdout, at once."""
    # What a model writes must not steer the terminal; a file or a pipe gets it as it is.
    sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def _check(command: Generate) -> None:
    if command.show_candidates is not None and command.show_candidates < 0:
        raise InvalidInput(say("no candidate would be shown"), given=command.show_candidates, right=say("1 or more"))
    if command.trace is None and (command.trace_layers is not None or command.trace_tokens is not None):
        raise InvalidInput(say("a part of a trace, but no trace"), right=say("--trace FILE.json"))
    if command.trace is not None and not command.trace.strip():
        raise InvalidInput(say("{name} is empty", name="--trace"), given=repr(command.trace))
    if command.trace is not None:
        refuse_unwritable(Path(command.trace))


def _prompt(command: Generate) -> str:
    if command.prompt is not None and command.file is not None:
        raise InvalidInput(say("one prompt at a time"), right=say("one of --prompt, --file"))
    found = command.prompt if command.file is None else read_text(Path(command.file))
    if found is not None and not found:
        raise InvalidInput(say("the prompt is empty"), given=command.file, right=say("at least one character"))
    return found or ""


def _shown_end(prompt: str, longest: int = 400) -> str:
    """A prompt as it stands before its continuation: of a long one only the end."""
    return prompt if len(prompt) <= longest else f"… {prompt[-longest:]}"
