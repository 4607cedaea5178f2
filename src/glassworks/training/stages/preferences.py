"""Pairs of answers of which one is preferred, from the usual files, checked and split by their prompts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.training.stages.chat import Conversation, Turn, checked, read_conversation
from glassworks.training.stages.examples import Entry, at_example, check_both, entries_of, is_held_out

# How transcripts of Bai et al. 2022 (arXiv 2204.05862) mark who speaks.
_HUMAN, _ASSISTANT = "\n\nHuman:", "\n\nAssistant:"


@dataclass(frozen=True)
class Pair:
    """A prompt, the answer that was preferred and the one that was not."""

    prompt: Conversation
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Preferences:
    """Pairs to learn from and pairs held out by their prompts, with what was left out of the files and why."""

    fit: tuple[Pair, ...] = field(repr=False)
    held_out: tuple[Pair, ...] = field(repr=False)
    duplicates: int = 0
    """Pairs that were there twice."""
    equal: int = 0
    """Pairs of two equal answers, which prefer nothing."""
    empty: int = 0
    """Pairs with an answer of no words."""
    parted: int = 0
    """Transcripts that differ before their last answer."""

    @property
    def left_out(self) -> dict[str, int | float | str]:
        """The counts, as facts of a stage."""
        counts = {"duplicates": self.duplicates, "equal": self.equal, "empty": self.empty, "parted": self.parted}
        return {f"pairs_{name}": count for name, count in counts.items()}


class _Unfit(Exception):
    """A pair that is left out and counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_preferences(paths: Sequence[str | Path], held_out: float = 0.1) -> Preferences:
    """All pairs of some files; equal prompts lie on one side of the split, which their words fix.

    Files hold objects with chosen and rejected: transcripts of Human and Assistant, or answers beside a prompt (a text,
    messages, or conversations of from and value). Raises NotFound, BrokenFile or InvalidInput, which name file and example.
    """
    fit: list[Pair] = []
    judged: list[Pair] = []
    known: set[Pair] = set()
    counts = {"duplicates": 0, "equal": 0, "empty": 0, "parted": 0}
    for path in map(Path, paths):
        for number, entry in entries_of(path):
            try:
                pair = _fit(_pair(entry))
            except _Unfit as unfit:
                counts[unfit.reason] += 1
                continue
            except InvalidInput as problem:
                raise at_example(path, number, problem) from None
            if pair in known:
                counts["duplicates"] += 1
                continue
            known.add(pair)
            (judged if is_held_out(pair.prompt, held_out) else fit).append(pair)
    check_both(fit, judged, ", ".join(map(str, paths)))
    return Preferences(tuple(fit), tuple(judged), **counts)


def read_transcript(text: str) -> Conversation:
    """The turns of a transcript of Human and Assistant; what one of them says twice in a row is one turn."""
    turns: list[Turn] = []
    rest = text
    while rest:
        role = "user" if rest.startswith(_HUMAN) else "assistant" if rest.startswith(_ASSISTANT) else None
        if role is None:
            raise InvalidInput(
                say("a transcript begins with a line of Human or Assistant"),
                given=rest[:80],
                right=say("{mark}…", mark=_HUMAN),
            )
        rest = rest[len(_HUMAN if role == "user" else _ASSISTANT) :]
        ends = [place for mark in (_HUMAN, _ASSISTANT) if (place := rest.find(mark)) >= 0]
        end = min(ends, default=len(rest))
        said = rest[:end].strip()
        if turns and turns[-1].role == role:
            said = "\n\n".join(filter(None, (turns.pop().text, said)))
        turns.append(Turn(role, said))
        rest = rest[end:]
    return tuple(turns)


def _pair(entry: Entry) -> Pair:
    match entry:
        case {"chosen": str(chosen), "rejected": str(rejected)} if (
            "prompt" not in entry and "conversations" not in entry
        ):
            return _from_transcripts(read_transcript(chosen), read_transcript(rejected))
        case {"prompt": prompt, "chosen": chosen, "rejected": rejected}:
            asked = (Turn("user", prompt),) if isinstance(prompt, str) else read_conversation(prompt)
        case {"conversations": turns, "chosen": chosen, "rejected": rejected}:
            asked = read_conversation(turns)
        case _:
            raise InvalidInput(
                say("an example of no known form"),
                given=", ".join(entry),
                right=say(
                    "fields {known}",
                    known="chosen, rejected | prompt, chosen, rejected | conversations, chosen, rejected",
                ),
            )
    return Pair(checked(asked), _answer(chosen), _answer(rejected))


def _from_transcripts(chosen: Conversation, rejected: Conversation) -> Pair:
    if chosen[:-1] != rejected[:-1]:
        raise _Unfit("parted")
    if not chosen or chosen[-1].role != "assistant" or not chosen[:-1]:
        raise InvalidInput(
            say("the conversation ends without an answer"),
            given=chosen[-1].role if chosen else "",
            right=say("a last turn of the assistant"),
        )
    if any(not turn.text for turn in chosen[:-1]):
        raise _Unfit("empty")
    return Pair(checked(chosen[:-1]), chosen[-1].text, rejected[-1].text)


def _answer(found: object) -> str:
    match found:
        case str(text):
            return text
        case {"value": str(text)} | {"content": str(text)}:
            return text
        case [{"content": str(text)}]:
            return text
        case _:
            raise InvalidInput(say("an answer is a text or a message"), given=found)


def _fit(pair: Pair) -> Pair:
    if not pair.chosen.strip() or not pair.rejected.strip():
        raise _Unfit("empty")
    if pair.chosen == pair.rejected:
        raise _Unfit("equal")
    return pair
