"""A text continued greedily by the whole model and under a plan; an encoder's vectors in its place."""

from __future__ import annotations

import time
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from glassworks.anatomy import Subject, TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.evaluation.generate import text_of
from glassworks.studio.surgery.opened import Opened, batch_of, spelling_of
from glassworks.surgery.operate import operated
from glassworks.surgery.trial import writes
from glassworks.surgery.vectors import beside

# What the whole model writes does not depend on the plan; a few texts of each open model are remembered.
_MOST_KEPT = 32
_kept: WeakKeyDictionary[Subject, dict[tuple[tuple[int, ...], int], list[int]]] = WeakKeyDictionary()


def continued_told(opened: Opened, text: str, given: int, new_tokens: int) -> dict[str, Any]:
    """What both write, token by token, and the first place at which they part (None where they do not).

    `given` leaves so many tokens of a decoder's text to go on from; 0 all of them.
    """
    subject = opened.subject
    if not writes(subject):
        return _vectors(opened, text)
    batch = batch_of(subject, text)
    if given and not subject.anatomy.has_source:
        batch = _beginning(subject, text, batch, given)
    count = _room(subject, batch, new_tokens)
    started = time.perf_counter()
    plain = _plain(subject, batch, count)
    ours = plain
    if opened.plan != opened.whole:
        with operated(subject, opened.plan, stack=opened.stack):
            ours = _written(subject, batch, count)
    differs = [at for at, (left, right) in enumerate(zip(ours, plain, strict=False)) if left != right]
    return {
        "kind": "text",
        "given": list(subject.labels(batch.read_by_encoder.ids[0].tolist())),
        "plan": _told(subject, ours),
        "plain": _told(subject, plain),
        "parts_at": differs[0] if differs else (None if len(ours) == len(plain) else min(len(ours), len(plain))),
        "seconds": time.perf_counter() - started,
    }


def plain_answer(subject: Subject, text: str, new_tokens: int) -> str:
    """What the whole model writes, as text; InvalidInput where it writes nothing."""
    batch = batch_of(subject, text)
    found = text_of(subject, _plain(subject, batch, _room(subject, batch, new_tokens))).strip()
    if not found:
        raise InvalidInput(say("the model writes nothing for this text"), right=say("a target text of your own"))
    return found


def _room(subject: Subject, batch: TokenBatch, new_tokens: int) -> int:
    """How many tokens fit behind the text; InvalidInput where none does."""
    context = subject.anatomy.context
    room = new_tokens if context is None else min(new_tokens, context - batch.ids.shape[1])
    if room < 1:
        raise InvalidInput(
            say("the text fills the model's context, so nothing can be written behind it"),
            given=batch.ids.shape[1],
            right=say("at most {count} tokens", count=(context or 1) - 1),
        )
    return room


def _beginning(subject: Subject, text: str, batch: TokenBatch, given: int) -> TokenBatch:
    """The first tokens of a text, behind what the tokenizer puts in front."""
    front = batch.ids.shape[1] - len(spelling_of(subject).plain(text))
    return subject.batch(batch.ids[0, : max(0, front) + given].tolist())


def _plain(subject: Subject, batch: TokenBatch, count: int) -> list[int]:
    known = _kept.setdefault(subject, {})
    asked = (tuple(batch.read_by_encoder.ids[0].tolist()), count)
    if asked not in known:
        if len(known) >= _MOST_KEPT:
            known.pop(next(iter(known)))
        known[asked] = _written(subject, batch, count)
    return known[asked]


def _written(subject: Subject, batch: TokenBatch, count: int) -> list[int]:
    ids = subject.generate(batch, count)
    return [int(token) for token in ids[0, batch.ids.shape[1] :].tolist()]


def _told(subject: Subject, ids: list[int]) -> dict[str, Any]:
    return {"text": text_of(subject, ids), "tokens": list(subject.labels(ids)), "ids": ids}


def _vectors(opened: Opened, text: str) -> dict[str, Any]:
    started = time.perf_counter()
    found = beside(opened.subject, batch_of(opened.subject, text), opened.plan)
    filled = [
        {"place": one.place, "plan": [list(pair) for pair in one.plan], "plain": [list(pair) for pair in one.plain]}
        for one in found.filled
    ]
    return {
        "kind": "vectors",
        "tokens": list(found.labels),
        "cosines": found.per_token.astype(np.float32),
        "of_mean": found.of_mean,
        "filled": filled,
        "seconds": time.perf_counter() - started,
    }
