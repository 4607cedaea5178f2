"""What a linear probe is asked: properties of tokens that can be read off any text, and files of labelled texts."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from glassworks.anatomy.subject import Subject
from glassworks.core.errors import BrokenFile, InvalidInput
from glassworks.core.reading import read_bytes
from glassworks.core.text import Text, say
from glassworks.instruments.states import States
from glassworks.tensors.seeds import Seed

TokenTask = Literal["position", "word_start", "previous_token", "frequency"]
TOKEN_TASKS: tuple[TokenTask, ...] = ("position", "word_start", "previous_token", "frequency")
# The commonest previous tokens that are told apart; tokens after others are left out.
PREVIOUS = 8


def task_name(task: str) -> Text:
    """The name of a task for people."""
    match task:
        case "position":
            return say("position (doubling classes)")
        case "word_start":
            return say("does it begin a word")
        case "previous_token":
            return say("which token came before")
        case "frequency":
            return say("how often the token occurs (doubling classes)")
        case _:
            return say("label of the text")


def token_labels(subject: Subject, task: TokenTask, found: States) -> Int[Tensor, " token"]:
    """The class of each token, from 0; -1 where the task leaves it out."""
    match task:
        case "position":
            return (found.position + 1).log2().floor().long()
        case "word_start":
            return _word_starts(subject, found)
        case "previous_token":
            return _previous_tokens(found)
        case "frequency":
            _, inverse, counts = found.ids.unique(return_inverse=True, return_counts=True)
            return counts[inverse].log2().floor().long()


def control_labels(labels: Int[Tensor, " token"], types: Int[Tensor, " token"], seed: Seed) -> Int[Tensor, " token"]:
    """A random class for each type, drawn as often as the labels have it (Hewitt and Liang 2019); -1 stays -1.

    What a probe gains on it is memory of types, not knowledge.
    """
    generator = seed.generator()
    known = labels[labels >= 0]
    _, inverse = types.unique(return_inverse=True)
    drawn = known[torch.randint(len(known), (int(inverse.max()) + 1,), generator=generator)]
    return torch.where(labels >= 0, drawn[inverse], labels)


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with a class each, and the names of the classes."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    names: tuple[str, ...]


def read_labelled(path: Path, most: int, seed: Seed) -> LabelledTexts:
    """Texts and labels of a file, at most so many, drawn by the seed.

    Each line is TEXT<TAB>LABEL, LABEL TEXT with a whole number (no tab in the file), or a JSON object with "text" (or "sentence") and
    "label" (.jsonl). Raises NotFound, BrokenFile with the line, or InvalidInput for fewer than two labels.
    """
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as problem:
        raise BrokenFile(say("{path} cannot be read as text: {reason}", path=str(path), reason=str(problem))) from None
    pairs = [_pair(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if pairs and pairs[0][1].lower() == "label":
        del pairs[0]
    order = torch.randperm(len(pairs), generator=seed.generator())[:most].sort().values.tolist()
    names = sorted({pairs[place][1] for place in order})
    if len(names) < 2:
        raise InvalidInput(
            say("the labelled texts have fewer than two labels"),
            given=", ".join(names) or "-",
            right=say("two labels at least"),
        )
    chosen = [pairs[place] for place in order]
    return LabelledTexts(
        tuple(text for text, _ in chosen), tuple(names.index(label) for _, label in chosen), tuple(names)
    )


def _pair(path: Path, number: int, line: str) -> tuple[str, str]:
    if path.suffix == ".jsonl":
        try:
            found: Any = json.loads(line)
            text, label = found.get("text", found.get("sentence")), found["label"]
        except (ValueError, KeyError, AttributeError):
            text, label = None, None
    elif "\t" in line:
        text, _, label = line.rpartition("\t")
    else:
        leading = re.fullmatch(r"(\d+) (.+)", line)
        text, label = (leading[2], leading[1]) if leading else (None, None)
    if not isinstance(text, str) or not text.strip() or label is None:
        raise BrokenFile(
            say("line {number} of {path} is no labelled text", number=number, path=str(path)),
            right=say("TEXT<TAB>LABEL, or {example} in a .jsonl", example='{"text": "…", "label": "…"}'),
        )
    return text.strip(), str(label).strip()


def _word_starts(subject: Subject, found: States) -> Int[Tensor, " token"]:
    @cache
    def begins(previous: int, token: int) -> bool:
        before, both = subject.to_string([previous]), subject.to_string([previous, token])
        # WordPiece writes the space between words itself; others have it in their tokens.
        added = both[len(before) :]
        return bool(added.strip()) and (before[-1:].isspace() or added[:1].isspace())

    ids, positions = found.ids.tolist(), found.position.tolist()
    starts = [
        place == 0 or begins(ids[index - 1], token)
        for index, (token, place) in enumerate(zip(ids, positions, strict=True))
    ]
    return torch.tensor(starts).long()


def _previous_tokens(found: States) -> Int[Tensor, " token"]:
    before = found.ids.roll(1)
    has_one = found.position > 0
    ids, counts = before[has_one].unique(return_counts=True)
    common = ids[counts.argsort(descending=True, stable=True)[:PREVIOUS]]
    matches = (before[:, None] == common[None]) & has_one[:, None]
    return torch.where(matches.any(1), matches.long().argmax(1) if len(common) else -1, -1)


def classes_of(labels: Sequence[Tensor]) -> int:
    """One more than the largest class."""
    return max(int(one.max()) for one in labels) + 1
