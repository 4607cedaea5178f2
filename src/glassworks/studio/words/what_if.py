"""A pass beside another: the same text with something changed, or another text, or another model, and how far they differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.instruments.replacing import Row, replaced_logits
from glassworks.models.token_bytes import TokenBytes
from glassworks.studio.words.changes import (
    Method,
    Stack,
    changed,
    heads_of,
    means_of,
    parse_heads,
    parse_layers,
    silenced,
)
from glassworks.studio.words.pieces import group_json
from glassworks.studio.words.prompts import Prompt, pieces_of, prompt_of, typed_tokens
from glassworks.studio.words.reading import check_reading, reader_of
from glassworks.studio.words.spelling import bytes_of

BITS = 1 / math.log(2)
# A change of a chance below this shows as 0.0 % everywhere.
NOTICED = 1e-4


@dataclass(frozen=True)
class Operation:
    """What is changed: names of silenced heads and skipped layers, tokens replaced by typed words, the temperature."""

    heads: tuple[str, ...] = ()
    method: Method = "zero"
    skip: tuple[str, ...] = ()
    instead: tuple[tuple[int, str], ...] = ()
    temperature: float = 1.0


@dataclass(frozen=True, eq=False)
class Pass:
    """One side: what was read and the logits at every position of what the decoder read."""

    subject: Subject
    prompt: Prompt
    logits: Float[Tensor, "position vocabulary"]
    temperature: float
    places: tuple[int | None, ...]
    """Where each token of the plain text stands now; None for one that was replaced."""

    @property
    def logs(self) -> Float[Tensor, " vocabulary"]:
        """Logarithms of the next word's chances at this side's temperature, in float64."""
        return torch.log_softmax(self.logits[-1].double() / self.temperature, -1)


def passed(subject: Subject, text: str, operation: Operation) -> Pass:
    """The pass under an operation. Raises InvalidInput for heads, layers or tokens that are not there."""
    if operation.temperature <= 0:
        raise InvalidInput(say("a temperature is above 0"), given=operation.temperature, right=say("0.2 to 10"))
    prompt, places = _replaced(subject, prompt_of(subject, text), operation.instead)
    check_reading(subject, prompt, ())
    heads, layers = parse_heads(subject, operation.heads), parse_layers(subject, operation.skip)
    if not heads and not layers and not operation.instead:
        logits = reader_of(subject).whole(subject, prompt)
        return Pass(subject, prompt, logits, operation.temperature, places)
    batch = prompt.batch()
    put = silenced(heads, operation.method, means_of(subject, batch, heads))
    with torch.no_grad(), changed(subject, put, layers):
        logits = subject.forward(batch)[0].float()
    return Pass(subject, prompt, logits, operation.temperature, places)


def compared(plain: Pass, other: Pass, rows: int, token: int | None) -> dict[str, Any]:
    """The two next-word distributions row by row, their divergences in bits, and what moved most.

    Words of two tokenizers are matched by their bytes; divergences then have no meaning and are None.
    """
    same = _same_words(plain.subject, other.subject)
    logs, others = plain.logs, other.logs
    table = _rows(plain, other, rows, token, same)
    found: dict[str, Any] = {
        "same_words": same,
        "rows": table,
        "entropy_bits": [_entropy(logs), _entropy(others)],
        "sides": [_side(plain), _side(other)],
        "aligned": _aligned(plain, other, same),
    }
    if same:
        moved = (others.exp() - logs.exp()).abs()
        found |= {
            "divergence_bits": [_divergence(logs, others), _divergence(others, logs)],
            "moved": float(moved.sum() / 2),
        }
    return found


def heads_alone(
    subject: Subject, text: str, method: Method, stack: Stack, tell: Callable[[int, int], None]
) -> dict[str, Any]:
    """What each head does alone: KL(plain || without it) of the next word in bits, and the change of the top word's logit."""
    prompt = prompt_of(subject, text)
    check_reading(subject, prompt, ())
    batch, heads = prompt.batch(), heads_of(subject, stack)
    if not heads:
        raise InvalidInput(say("this model has no heads that could be silenced one by one"))
    with torch.no_grad():
        plain = subject.forward(batch)[0, -1].double()
    top, logs = int(plain.argmax()), torch.log_softmax(plain, -1)
    means = means_of(subject, batch, heads)
    shape = (1 + max(head.layer for head in heads), 1 + max(head.head for head in heads))
    divergence, logit = np.full(shape, np.nan), np.full(shape, np.nan)
    made = [Row(0, tuple(silenced([head], method, means))) for head in heads]
    for number, (head, logits) in enumerate(zip(heads, replaced_logits(subject, batch, made), strict=True)):
        tell(number, len(heads))
        here = logits[-1].double()
        divergence[head.layer, head.head] = _divergence(logs, torch.log_softmax(here, -1))
        logit[head.layer, head.head] = float(here[top] - plain[top])
    return {
        "divergence_bits": divergence.astype(np.float32),
        "logit_change": logit.astype(np.float32),
        "top": group_json(pieces_of(subject, [top])),
    }


def parts_of(subject: Subject) -> list[dict[str, Any]]:
    """The stacks whose heads and layers can be changed: heads in each layer (0 where they cannot be told apart)."""
    found: list[dict[str, Any]] = []
    for stack in ("", "encoder", "cross"):
        heads = heads_of(subject, stack)
        encoder = subject.anatomy.encoder
        layers = subject.anatomy.depth if stack != "encoder" else 0 if encoder is None else len(encoder.layers)
        counts = [sum(head.layer == layer for head in heads) for layer in range(layers)]
        if stack == "" or any(counts):
            found.append({"stack": stack, "heads": counts})
    return found


def _replaced(
    subject: Subject, prompt: Prompt, instead: Sequence[tuple[int, str]]
) -> tuple[Prompt, tuple[int | None, ...]]:
    """The prompt with typed words in the place of some of its tokens, and where each of the others stands then."""
    ids: list[list[int]] = [[token] for token in prompt.shown]
    for place, typed in instead:
        if not 0 <= place < len(ids):
            raise InvalidInput(
                say("the text has no token {place}", place=place), right=say("0 to {last}", last=len(ids) - 1)
            )
        ids[place] = typed_tokens(subject, typed) if typed else []
    made = tuple(token for one in ids for token in one)
    if not made:
        raise InvalidInput(say("nothing is left of the text"), right=say("at least one token"))
    starts = accumulate((len(one) for one in ids), initial=0)
    gone = {place for place, _ in instead}
    places = tuple(None if place in gone else start for place, start in zip(range(len(ids)), starts, strict=False))
    return (Prompt(prompt.ids, made) if prompt.source else Prompt(made)), places


def _rows(plain: Pass, other: Pass, rows: int, token: int | None, same: bool) -> list[dict[str, Any]]:
    """The likeliest words of both sides, and those whose chance moved most, by the plain side's order."""
    logs, others = plain.logs, other.logs
    count = min(rows, len(logs))
    left = set(torch.topk(logs, count).indices.tolist())
    if same:
        largest = torch.topk((others.exp() - logs.exp()).abs(), count)
        moved = largest.indices[largest.values > NOTICED].tolist()
        left |= {*torch.topk(others, count).indices.tolist(), *moved} | ({token} if token is not None else set())
        pairs = [(own, own) for own in left]
    else:
        pairs = _matched(plain, other, count)
    spelled = (bytes_of(plain.subject.tokenizer), bytes_of(other.subject.tokenizer))
    found = [_row(plain, other, pair, spelled) for pair in pairs]
    return sorted(found, key=lambda row: -max((row["plain"] or {"chance": 0.0})["chance"], 0.0))


def _matched(plain: Pass, other: Pass, count: int) -> list[tuple[int | None, int | None]]:
    """Likely words of two tokenizers, those of equal bytes together."""
    sides: list[dict[bytes, int]] = []
    for one in (plain, other):
        spelled = TokenBytes(one.subject.tokenizer)
        # The first of equal bytes is the likelier one.
        named: dict[bytes, int] = {}
        for token in torch.topk(one.logs, min(8 * count, len(one.logs))).indices.tolist():
            named.setdefault(spelled.of(token), token)
        sides.append(named)
    first, second = sides
    names = dict.fromkeys([*list(first)[:count], *list(second)[:count]])
    return [(first.get(name), second.get(name)) for name in names]


def _row(
    plain: Pass, other: Pass, pair: tuple[int | None, int | None], spelled: tuple[TokenBytes, TokenBytes]
) -> dict[str, Any]:
    sides: list[dict[str, Any] | None] = []
    for one, token in zip((plain, other), pair, strict=True):
        if token is None:
            sides.append(None)
            continue
        logs = one.logs
        rank = int((logs > logs[token]).sum()) + 1
        sides.append({"chance": float(logs[token].exp()), "logit": float(one.logits[-1, token]), "rank": rank})
    token, table = (pair[0], spelled[0]) if pair[0] is not None else (pair[1], spelled[1])
    assert token is not None, "one of both has it"
    raw = table.of(token)
    shown = raw.decode(errors="backslashreplace")
    row: dict[str, Any] = {"id": pair[0], "other_id": pair[1], "text": shown, "hex": raw.hex()}
    return row | {"special": token in table.special, "plain": sides[0], "changed": sides[1]}


def _side(one: Pass) -> dict[str, Any]:
    """The tokens that a side read, each with its surprise in bits: -log2 of its chance where it stood (None for the first)."""
    shown = one.prompt.shown
    surprise: list[float | None] = [None] * len(shown)
    if not one.prompt.source:
        logs = torch.log_softmax(one.logits[:-1].double(), -1)
        said = torch.tensor(shown[1:], dtype=torch.long)
        surprise[1:] = (-logs.gather(1, said[:, None])[:, 0] * BITS).tolist()
    pieces = [group_json([piece]) for piece in pieces_of(one.subject, shown)]
    return {"tokens": pieces, "labels": list(one.subject.labels(shown)), "surprise_bits": surprise}


def _aligned(plain: Pass, other: Pass, same: bool) -> list[int | None]:
    """Where each plain token stands on the other side; None where it is not there."""
    first, second = plain.prompt.shown, other.prompt.shown
    fits = same and len(other.places) == len(first)
    places = other.places if fits else (None,) * len(first)
    return [at if at is not None and second[at] == own else None for own, at in zip(first, places, strict=True)]


def _same_words(first: Subject, second: Subject) -> bool:
    """Whether equal ids are equal words."""
    if first is second:
        return True
    if first.anatomy.vocabulary != second.anatomy.vocabulary:
        return False
    spelled = (TokenBytes(first.tokenizer), TokenBytes(second.tokenizer))
    every = max(1, first.anatomy.vocabulary // 512)
    return all(spelled[0].of(token) == spelled[1].of(token) for token in range(0, first.anatomy.vocabulary, every))


def _divergence(logs: Tensor, others: Tensor) -> float:
    """KL(first || second) in bits."""
    return max(0.0, float(torch.where(logs.isneginf(), 0.0, logs.exp() * (logs - others)).sum()) * BITS)


def _entropy(logs: Tensor) -> float:
    return max(0.0, float(-torch.where(logs.isneginf(), 0.0, logs.exp() * logs).sum()) * BITS)
