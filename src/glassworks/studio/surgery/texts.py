"""A text under several plans at once: nats of each token beside the whole model's, and what each expects next."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.evaluation.items import Item, ItemBatch, batches, is_causal, read_scores
from glassworks.evaluation.spelling import Spelling
from glassworks.evidence.statistics import bootstrap_means
from glassworks.studio.surgery.continuing import plain_answer
from glassworks.studio.surgery.opened import Opened, check_length, kind_of, mask_of, spelling_of
from glassworks.surgery.plans import Plan
from glassworks.surgery.prefix_tree import Cost, execute
from glassworks.surgery.scoring import read_logits
from glassworks.tensors.seeds import Seed

# Longer texts are read in windows: what a page shows must be there soon.
WINDOW = 512
# An encoder is asked for each token in turn, which costs a pass over the text for each.
MOST_HIDDEN = 64
TOKENS_TOGETHER = 2048
CANDIDATES = 10
Tell = Callable[[float, float], None]


@dataclass(frozen=True, eq=False)
class Question:
    """A text as items; `next` says that the last target of the last item only holds the place of what comes next."""

    items: tuple[Item, ...]
    ids: tuple[int, ...]
    notes: tuple[Text, ...]
    next: bool
    target: str = ""
    given: int = 0
    """Scored tokens at the beginning that are only read."""


@dataclass(frozen=True)
class Typed:
    """What a person typed.

    `target` is that of an encoder-decoder, "" for what the whole model writes. `given` tokens at the beginning are read
    by a decoder without being scored, and it goes on behind them.
    """

    text: str
    target: str = ""
    given: int = 0


def asked_of(opened: Opened, typed: Typed) -> Question:
    """The text as the model's kind allows it to be scored; InvalidInput for a model that gives no chances to tokens."""
    check_length(typed.text)
    subject = opened.subject
    match kind_of(subject):
        case "writes":
            return _going_on(subject, typed)
        case "translates":
            return _translated(subject, typed.text, typed.target)
        case "fills":
            return _hidden(subject, typed.text)
        case _:
            raise InvalidInput(
                say("this model gives vectors and no chances of tokens, so it has no perplexity"),
                right=say("the cosine between its vectors under the plan and the whole model's"),
            )


def _going_on(subject: Subject, typed: Typed) -> Question:
    spelling = spelling_of(subject)
    ids = spelling.plain(typed.text)
    window = min(WINDOW, subject.anatomy.context or WINDOW)
    front = spelling.front
    room = window - len(front)
    items: list[Item] = []
    for first in range(0, len(ids), room):
        part = ids[first : first + room]
        is_last = first + room >= len(ids)
        # The place behind the last token is read as well: it says what comes next.
        positions = range(max(0, len(front) - 1), len(front) + len(part) - (0 if is_last else 1))
        targets = [*(part if front else part[1:]), *([0] if is_last else [])]
        items.append(Item((*front, *part), tuple(positions), tuple(targets)))
    places = [at for at in range(len(ids)) if front or at % room]
    given = sum(place < typed.given for place in places)
    notes = (spelling.note(subject),) if subject.tokenizer is not None else ()
    if len(items) > 1:
        notes += (say("read in windows of {window} tokens", window=window),)
    return Question(tuple(items), tuple(ids[place] for place in places), notes, next=True, given=given)


def _translated(subject: Subject, text: str, target: str) -> Question:
    spelling = spelling_of(subject)
    target = target.strip() or plain_answer(subject, text, 24)
    source = _around(spelling, text, min(WINDOW, _source_context(subject)))
    targets = (*spelling.plain(target), *spelling.back)
    item = Item((subject.start_token, *targets[:-1]), tuple(range(len(targets))), targets, source)
    return Question((item,), targets, (say("the end of the target is scored too"),), next=False, target=target)


def _hidden(subject: Subject, text: str) -> Question:
    spelling, mask = spelling_of(subject), mask_of(subject)
    assert mask is not None, "a model that fills in has a mask token"
    ids = spelling.plain(text)
    room = min(MOST_HIDDEN, (subject.anatomy.context or WINDOW) - len(spelling.front) - len(spelling.back))
    kept, first = ids[:room], len(spelling.front)
    whole = (*spelling.front, *kept, *spelling.back)
    items = tuple(
        Item((*whole[: first + at], mask, *whole[first + at + 1 :]), (first + at,), (token,))
        for at, token in enumerate(kept)
        if token != mask
    )
    notes = [say("each token hidden in turn and asked for")]
    if len(ids) > room:
        notes.append(say("the first {count} tokens only", count=room))
    return Question(items, tuple(token for token in kept if token != mask), tuple(notes), next=False)


def _source_context(subject: Subject) -> int:
    encoder = subject.anatomy.encoder
    return WINDOW if encoder is None or encoder.context is None else encoder.context


def _around(spelling: Spelling, text: str, window: int) -> tuple[int, ...]:
    room = window - len(spelling.front) - len(spelling.back)
    return (*spelling.front, *spelling.plain(text)[:room], *spelling.back)


@dataclass(frozen=True, eq=False)
class Read:
    """Of each plan [plan, token]: nats, KL(whole || plan), whether both name the same likeliest token.

    `last` are the logits at the place of the next token, None where none was asked.
    """

    nats: NDArray[np.float64]
    divergence: NDArray[np.float64]
    agrees: NDArray[np.bool_]
    last: Float[Tensor, "plan vocabulary"] | None
    seconds: float

    def summary(self, row: int, whole: int, given: int) -> dict[str, Any]:
        """The plan of a row beside the whole model's, without the first `given` tokens."""
        nats, plain = self.nats[row, given:], self.nats[whole, given:]
        return summary(nats, plain, self.divergence[row, given:], self.agrees[row, given:])


def read_under(opened: Opened, question: Question, plans: Sequence[Plan], tell: Tell) -> Read:
    """The items under each of different plans; what they begin with in common is run once."""
    subject = opened.subject
    pieces = batches(question.items, TOKENS_TOGETHER, causal=is_causal(subject))
    found = [[np.zeros((3, len(item.targets))) for item in question.items] for _ in plans]
    rows = {plan: row for row, plan in enumerate(plans)}
    last: dict[int, Tensor] = {}
    started, total, done = time.perf_counter(), len(pieces) * len(rows), 0
    for piece in pieces:
        whole = _logits_of_whole(opened, piece)
        for plan, stream in execute(subject, piece.batch, plans, stack=opened.stack):
            logits = whole if plan == opened.whole else read_logits(subject, piece, stream, opened.stack)
            for item, values in zip(piece.items, _parted(piece, logits, whole), strict=True):
                found[rows[plan]][item] = values
                if question.next and item == len(question.items) - 1:
                    place = piece.items.index(item)
                    last[rows[plan]] = logits[sum(piece.counts[: place + 1]) - 1].float()
            done += 1
            tell(done, total)
    end = -1 if question.next else None
    together = np.stack([np.concatenate(one, axis=1)[:, :end] for one in found])
    ends = torch.stack([last[row] for row in range(len(plans))]) if question.next else None
    return Read(together[:, 0], together[:, 1], together[:, 2] > 0, ends, time.perf_counter() - started)


def _logits_of_whole(opened: Opened, piece: ItemBatch) -> Float[Tensor, "target vocabulary"]:
    with torch.no_grad():
        [(_, stream)] = execute(opened.subject, piece.batch, [opened.whole], stack=opened.stack)
        return read_logits(opened.subject, piece, stream, opened.stack)


def _parted(
    piece: ItemBatch, logits: Float[Tensor, "target vocabulary"], whole: Float[Tensor, "target vocabulary"]
) -> list[NDArray[np.float64]]:
    """For each row of the piece: nats, divergence and agreement of its targets, [3, target]."""
    nats = np.concatenate([-one.logprobs for one in read_scores(logits, piece)])
    if logits is whole:
        divergence, agrees = np.zeros_like(nats), np.ones_like(nats)
    else:
        known, ours = whole.float().log_softmax(-1), logits.float().log_softmax(-1)
        divergence = (known.exp() * (known - ours)).sum(-1).clamp_min(0).double().numpy()
        agrees = (known.argmax(-1) == ours.argmax(-1)).double().numpy()
    ends = np.cumsum(piece.counts)[:-1]
    return list(np.split(np.stack([nats, divergence, agrees]), ends, axis=1))


def text_told(opened: Opened, typed: Typed, tell: Tell) -> dict[str, Any]:
    """Perplexity of the text under the plan and of the whole model, token by token, and what each expects next."""
    question = asked_of(opened, typed)
    plans = list(dict.fromkeys(opened.plans))
    read = read_under(opened, question, plans, tell)
    ours, plain = read.nats[0], read.nats[-1]
    found: dict[str, Any] = {
        "tokens": list(opened.subject.labels(question.ids)),
        "nats": ours.astype(np.float32),
        "plain_nats": plain.astype(np.float32),
        "divergence": read.divergence[0].astype(np.float32),
        "given": question.given,
        "summary": read.summary(0, len(plans) - 1, question.given),
        "notes": list(question.notes),
        "target": question.target,
        "seconds": read.seconds,
        "token_runs": sum(len(item.ids) for item in question.items) * (Cost.of(plans).done + opened.depth),
    }
    if read.last is not None:
        found["next"] = _candidates(opened.subject, read.last[0], read.last[-1])
    return found


def summary(
    ours: NDArray[np.float64], plain: NDArray[np.float64], divergence: NDArray[np.float64], agrees: NDArray[np.bool_]
) -> dict[str, Any]:
    """Perplexities, and the difference in nats per token with a 95 % interval over tokens (paired bootstrap)."""
    count = len(ours)
    if count == 0:
        raise InvalidInput(say("the text has too few tokens to score"), right=say("a few words more"))
    draws = bootstrap_means(np.stack([ours - plain]), Seed(0).child("tokens").numpy())[0]
    low, high = np.percentile(draws, (2.5, 97.5)) if count > 1 else (np.nan, np.nan)
    with np.errstate(over="ignore"):
        return {
            "tokens": count,
            "nats": float(ours.mean()),
            "plain_nats": float(plain.mean()),
            "perplexity": float(np.exp(ours.mean())),
            "plain_perplexity": float(np.exp(plain.mean())),
            "difference": float((ours - plain).mean()),
            "low": float(low),
            "high": float(high),
            "divergence": float(divergence.mean()),
            "agreement": float(agrees.mean()),
        }


def _candidates(
    subject: Subject, ours: Float[Tensor, " vocabulary"], plain: Float[Tensor, " vocabulary"]
) -> dict[str, Any]:
    """The likeliest next tokens of both, with each one's probability under both; KL(whole || plan) in nats."""
    chances = torch.stack([ours, plain]).double().log_softmax(-1)
    count = min(CANDIDATES, chances.shape[1])
    top = chances.topk(count, dim=-1).indices.tolist()
    chosen = list(dict.fromkeys([*top[1], *top[0]]))
    divergence = (chances[1].exp() * (chances[1] - chances[0])).sum().clamp_min(0)
    return {
        "ids": chosen,
        "labels": list(subject.labels(chosen)),
        "plan": chances[0, chosen].exp().float().numpy(),
        "plain": chances[1, chosen].exp().float().numpy(),
        "divergence": float(divergence),
    }


def many_told(opened: Opened, typed: Typed, plans: Sequence[Plan], tell: Tell) -> dict[str, Any]:
    """The summary of each of many plans on one text, in the order given; equal plans once."""
    question = asked_of(opened, typed)
    every = list(dict.fromkeys([*plans, opened.whole]))
    read = read_under(opened, question, every, tell)
    whole = every.index(opened.whole)
    return {
        "rows": [
            {
                "plan": str(plan),
                "layer_runs": plan.layer_runs,
                "critical_depth": plan.critical_depth,
                "summary": read.summary(row, whole, question.given),
            }
            for row, plan in enumerate(every)
        ],
        "seconds": read.seconds,
        "target": question.target,
    }
