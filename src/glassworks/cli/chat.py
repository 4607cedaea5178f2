"""chat: a conversation with a model, turn by turn; lines of standard input are turns too."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glassworks.cli.api import load
from glassworks.cli.candidates import legend, show_step
from glassworks.cli.generate import spoken
from glassworks.cli.options_stream import CANDIDATES, Chat
from glassworks.cli.reproduce import go_offline
from glassworks.cli.speak import duration_words, print_json, remarks
from glassworks.cli.terminal import visible
from glassworks.core.errors import GlassworksError, InvalidInput, UnknownName
from glassworks.core.text import Text, say

if TYPE_CHECKING:
    from glassworks.models.conversation import Answer, Conversation
    from glassworks.models.generating import Sampling, Word

COMMANDS = ("/reset", "/seed", "/candidates", "/help", "/quit")


@dataclass
class _Session:
    """A conversation, and what commands change of it."""

    talk: Conversation
    choice: Sampling
    candidates: int
    as_json: bool
    turn: int = 0


def chat(command: Chat) -> int:
    """Answers turn after turn until /quit or the end of the input; returns 0."""
    go_offline(command.offline)
    from glassworks.models.conversation import Conversation
    from glassworks.models.generating import Sampling

    choice = Sampling(
        max_new_tokens=command.max_new_tokens, temperature=command.temperature, top_k=command.top_k,
        top_p=command.top_p, seed=command.seed,
    )  # fmt: skip
    subject = load(
        command.source, device=command.device, dtype=command.dtype,
        trust_remote_code=command.trust_remote_code, out=command.out,
    )  # fmt: skip
    talk = Conversation(subject, command.system, engine=command.engine, is_plain=command.plain)
    session = _Session(talk, choice, 0, command.json)
    if sys.stdin.isatty() and not command.json:
        remarks().print(str(_help()), style="dim")
    for line in _lines():
        said = line.strip()
        if not said:
            continue
        try:
            if said.startswith("/"):
                if _obeyed(session, said):
                    return 0
            else:
                _turn(session, said)
        except GlassworksError as problem:
            # A turn that fails ends no conversation.
            _tell(session, problem)
    return 0


def _lines() -> Iterator[str]:
    """What a person types, or each line of a pipe; a second Ctrl-C in a row with nothing typed ends."""
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    interrupted = False
    while True:
        try:
            line = input("> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            if interrupted:
                return
            interrupted = True
            remarks().print(str(say("/quit or Ctrl-D ends; Ctrl-C again too.")), style="dim")
            continue
        interrupted = False
        yield line


def _turn(session: _Session, said: str) -> None:
    session.turn += 1
    count = session.candidates
    if session.as_json:
        answer = session.talk.answer(said, session.choice, candidates=count)
        print_json({"turn": session.turn, "user": said} | answer.to_json())
        return
    number = 0
    if count:
        print(str(legend(count)))

    def show(word: Word) -> None:
        nonlocal number
        if word.step is None and not count:
            spoken(word.text)
        elif word.step is not None:
            number += 1
            show_step(number, word.step)

    answer = session.talk.answer(said, session.choice, show, count)
    if count:
        spoken(f"\n{answer.text}")
    print(flush=True)
    remarks().print(str(_closing(answer)), style="dim")


def _closing(answer: Answer) -> Text:
    used = answer.prompt_tokens + len(answer.ids)
    seconds = duration_words(answer.seconds)
    if answer.is_stopped:
        return say("stopped after {new} tokens, {time}", new=len(answer.ids), time=seconds)
    if not answer.is_ended:
        return say(
            "{new} tokens, {time}; cut off there (--max-new-tokens, or the end of the context)",
            new=len(answer.ids),
            time=seconds,
        )
    if answer.context is None:
        return say("{new} tokens, {time}", new=len(answer.ids), time=seconds)
    return say(
        "{new} tokens, {time}; {used} of {count} tokens of the context are used",
        new=len(answer.ids),
        time=seconds,
        used=used,
        count=answer.context,
    )


def _obeyed(session: _Session, said: str) -> bool:
    """Does what a command says; True where it ends the conversation."""
    name, _, value = said.partition(" ")
    match name:
        case "/quit" | "/exit":
            return True
        case "/reset":
            session.talk.reset()
            _note(session, name, say("The conversation begins again."))
        case "/seed":
            session.choice = session.choice.model_copy(update={"seed": _number(name, value)})
            _note(session, name, say("What is drawn now depends on seed {seed}.", seed=session.choice.seed))
        case "/candidates":
            session.candidates = CANDIDATES if not value.strip() and not session.candidates else 0
            if value.strip() not in ("", "off"):
                session.candidates = _number(name, value, least=0)
            words = say("Candidates are shown: {count}.", count=session.candidates)
            _note(session, name, words if session.candidates else say("Candidates are not shown."))
        case "/help":
            _note(session, name, _help())
        case _:
            raise UnknownName("command", name, COMMANDS)
    return False


def _number(name: str, value: str, least: int | None = None) -> int:
    try:
        number = int(value.strip())
    except ValueError:
        raise InvalidInput(
            say("{name} needs a whole number", name=name), given=value or None, right=say("e.g. {name} 3", name=name)
        ) from None
    if least is not None and number < least:
        raise InvalidInput(say("{name} needs a whole number", name=name), given=number, right=say("0 or more"))
    return number


def _help() -> Text:
    return say(
        "Each line is a turn. /reset begins again, /seed N changes the chance, /candidates N shows the likeliest tokens, /quit ends. Ctrl-C stops an answer."
    )


def _note(session: _Session, name: str, words: Text) -> None:
    if session.as_json:
        print_json({"command": name.removeprefix("/")})
    else:
        remarks().print(str(words), style="dim")


def _tell(session: _Session, problem: GlassworksError) -> None:
    if session.as_json:
        found: dict[str, Any] = {"error": str(problem.what)}
        print_json(found if problem.right is None else found | {"right": str(problem.right)})
    else:
        print(visible(f"{say('error')}: {problem}"), file=sys.stderr, flush=True)
