"""What a model reads of a text: token ids, also for models that know no words, and how each token is shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from glassworks.anatomy import Alphabet, Subject
from glassworks.anatomy.tokens import with_beginning
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.models.token_bytes import TokenBytes


def ids_of(subject: Subject, text: str) -> list[int]:
    """The ids of a text; of a model without a tokenizer the numbers that stand in it."""
    match subject.tokenizer:
        case Alphabet() as alphabet:
            return alphabet.encode(text)
        case None:
            return _numbers(subject, text)
        case tokenizer:
            # Not through `batch`, which refuses what is longer than the context: here the beginning is shown.
            return with_beginning(tokenizer, text, None) if text else []


def _numbers(subject: Subject, text: str) -> list[int]:
    last = (subject.anatomy.encoder or subject.anatomy).vocabulary - 1
    # A number of more digits is no id of any vocabulary, and Python reads no number of thousands of digits.
    if not re.fullmatch(r"(\d{1,18}|[\s,;])*", text) or re.search(r"\d{19}", text):
        raise InvalidInput(
            say("this model reads token ids, not words"),
            given=text[:80],
            right=say("numbers from 0 to {last}, with blanks between them", last=last),
        )
    return [int(number) for number in re.findall(r"\d+", text)]


def tokens_of(subject: Subject, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Each token with its place, id, legible text and bytes."""
    spelled, labels = TokenBytes(subject.tokenizer), subject.labels(ids)
    return [
        {
            "position": place,
            "id": token,
            "label": label,
            "bytes": spelled.of(token).hex(),
            "special": token in spelled.special,
        }
        for place, (token, label) in enumerate(zip(ids, labels, strict=True))
    ]
