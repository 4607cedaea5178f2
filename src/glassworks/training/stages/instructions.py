"""Demonstrations for fine-tuning, from the usual files: instructions with answers, lists of messages, judged answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.training.stages.chat import Conversation, Turn, checked, read_conversation
from glassworks.training.stages.examples import Entry, at_example, check_both, entries_of, is_held_out


@dataclass(frozen=True)
class Demonstrations:
    """Conversations that end with an answer worth imitating: to learn from, and held out by their prompts."""

    fit: tuple[Conversation, ...] = field(repr=False)
    held_out: tuple[Conversation, ...] = field(repr=False)
    duplicates: int = 0
    """Conversations that were there twice; the second was dropped."""
    refused: int = 0
    """Answers that somebody judged bad (KTO files), dropped."""


def read_demonstrations(paths: Sequence[str | Path], held_out: float = 0.1) -> Demonstrations:
    """All demonstrations of some files; what is held out is fixed by the words of the prompts.

    Files hold objects with instruction, input and output (Alpaca); messages of role and content, whose last is the
    assistant's, perhaps with a label (KTO: only answers labelled true are kept); or conversations of from and value
    (ShareGPT). Raises NotFound, BrokenFile or InvalidInput, which name the file and the example.
    """
    fit: list[Conversation] = []
    judged: list[Conversation] = []
    known: set[Conversation] = set()
    duplicates = refused = 0
    for path in map(Path, paths):
        for number, entry in entries_of(path):
            if entry.get("label") is False:
                refused += 1
                continue
            conversation = _demonstration(path, number, entry)
            if conversation in known:
                duplicates += 1
                continue
            known.add(conversation)
            (judged if is_held_out(conversation[:-1], held_out) else fit).append(conversation)
    check_both(fit, judged, ", ".join(map(str, paths)))
    return Demonstrations(tuple(fit), tuple(judged), duplicates, refused)


def _demonstration(path: Path, number: int, entry: Entry) -> Conversation:
    try:
        conversation = _conversation(entry)
        if conversation[-1].role != "assistant":
            raise InvalidInput(
                say("the conversation ends without an answer"),
                given=conversation[-1].role,
                right=say("a last turn of the assistant"),
            )
    except InvalidInput as problem:
        raise at_example(path, number, problem) from None
    return conversation


def _conversation(entry: Entry) -> Conversation:
    match entry:
        case {"messages": messages}:
            return read_conversation(messages)
        case {"instruction": str(instruction), "output": str(answer)}:
            given = cast(object, entry.get("input") or "")
            asked = f"{instruction}\n{given}" if given else instruction
            return checked((Turn("user", asked), Turn("assistant", answer)))
        case {"instruction": str(instruction), "instances": [{"input": str(given), "output": str(answer)}, *_]}:
            asked = f"{instruction}\n{given}" if given else instruction
            return checked((Turn("user", asked), Turn("assistant", answer)))
        case {"prompt": str(asked), "completion": str(answer)}:
            return checked((Turn("user", asked), Turn("assistant", answer)))
        case {"conversations": messages} if "chosen" not in entry:
            return read_conversation(messages)
        case _:
            raise InvalidInput(
                say("an example of no known form"),
                given=", ".join(entry),
                right=say(
                    "fields {known}", known="messages | instruction, input, output | prompt, completion | conversations"
                ),
            )


def prompts_of(conversations: Sequence[Conversation]) -> tuple[Conversation, ...]:
    """What is asked in some demonstrations, each once, in their order."""
    return tuple(dict.fromkeys(conversation[:-1] for conversation in conversations))
