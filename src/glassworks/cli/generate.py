"""generate: text from a decoder, its words shown as they are made."""

from __future__ import annotations

import sys
from pathlib import Path

from glassworks.cli.api import load
from glassworks.cli.options_stream import Generate
from glassworks.cli.prompts import read_text
from glassworks.cli.reproduce import go_offline
from glassworks.cli.speak import duration_words, print_json, remarks
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say


def generate(command: Generate) -> int:
    """Writes the prompt and what follows on stdout, word by word."""
    go_offline(command.offline)
    prompt = _prompt(command)
    from glassworks.models.generating import Sampling
    from glassworks.models.generating import generate as write

    choice = Sampling(
        max_new_tokens=command.max_new_tokens, temperature=command.temperature, top_k=command.top_k,
        top_p=command.top_p, seed=command.seed,
    )  # fmt: skip
    subject = load(
        command.source, device=command.device, dtype=command.dtype,
        trust_remote_code=command.trust_remote_code, out=command.out,
    )  # fmt: skip
    if command.json:
        print_json(write(subject, prompt, choice).to_json())
        return 0
    told = _shown_end(prompt)
    if told:
        spoken(told)
    made = write(subject, prompt, choice, spoken)
    print(flush=True)
    words = say(
        "{new} tokens in {time} ({speed} a second) after {prompt}",
        new=len(made.ids),
        time=duration_words(made.seconds),
        speed=f"{made.tokens_per_second:.1f}",
        prompt=made.prompt_tokens,
    )
    remarks().print(str(words), style="dim")
    return 0


def spoken(text: str) -> None:
    """New words on stdout, at once."""
    # What a model writes must not steer the terminal.
    safe = "".join(sign if sign in "\n\t" or sign.isprintable() else repr(sign)[1:-1] for sign in text)
    sys.stdout.write(safe if sys.stdout.isatty() else text)
    sys.stdout.flush()


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
