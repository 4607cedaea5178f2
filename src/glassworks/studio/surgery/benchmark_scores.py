"""One benchmark under a plan, of those whose data lie on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.core.text import Text, say
from glassworks.evaluation import Prepared, VectorPrepared, parse_benchmarks
from glassworks.evaluation.data import find_file
from glassworks.evaluation.items import ItemBatch
from glassworks.evaluation.local import LOCAL
from glassworks.evaluation.paragraphs import WIKITEXT
from glassworks.evaluation.tasks import harness_is_here
from glassworks.studio.surgery.opened import Opened, kind_of
from glassworks.surgery.scoring import Running, pieces_of, score_piece, scored_items, vectors_of
from glassworks.surgery.trial import Scored

TOKENS_TOGETHER = 1024
Tell = Callable[[str, float, float], None]
_kept: WeakKeyDictionary[Subject, dict[tuple[str, int], Prepared | VectorPrepared]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Offered:
    """A benchmark of the page: how the command line names it, what it asks, for which kinds of model, on which files."""

    name: str
    about: Text
    kinds: tuple[str, ...]
    files: tuple[str, ...]
    needs_harness: bool = False


def _task(name: str, about: Text) -> Offered:
    return Offered(name, about, ("writes",), LOCAL[name].files, needs_harness=True)


OFFERED = (
    Offered("ppl:window=128", say("perplexity of encyclopedia articles (WikiText-2, test part)"), ("writes",), (WIKITEXT,)),
    _task("lambada_openai", say("LAMBADA: the last word of a story")),
    _task("arc_easy", say("ARC easy: school questions with four answers")),
    _task("hellaswag_two_way", say("HellaSwag: which of two endings follows")),
    _task("piqa", say("PIQA: which of two ways reaches a goal")),
    _task("blimp", say("BLiMP: which of two sentences is grammatical")),
    Offered("mlm", say("hidden words of encyclopedia articles (WikiText-2, test part)"), ("fills",), (WIKITEXT,)),
    Offered("retrieval", say("which second half of a paragraph belongs to a first half"), ("fills", "turns"), (WIKITEXT,)),
    Offered("titles", say("the title of an encyclopedia article, given its first paragraph"), ("translates",), (WIKITEXT,)),
)  # fmt: skip


def benchmarks_told(subject: Subject) -> dict[str, Any]:
    """What this model can be scored on, each with the reason where it cannot be done here."""
    kind = kind_of(subject)
    rows = [
        {"name": one.name, "about": one.about, "reason": _reason(one)} for one in OFFERED if kind in one.kinds
    ] if subject.tokenizer is not None else []  # fmt: skip
    none = None if rows else say("this model has no tokenizer, so it cannot be scored on text")
    return {"benchmarks": rows, "none": none}


def _reason(offered: Offered) -> Text | None:
    if offered.needs_harness and not harness_is_here():
        return say("lm-evaluation-harness is not installed")
    absent = next((name for name in offered.files if find_file(name) is None), None)
    return None if absent is None else say("the data file {name} is not on this machine", name=absent)


def prepared_for(subject: Subject, name: str, limit: int) -> Prepared | VectorPrepared:
    """The benchmark's items for this model, remembered while it is open; only what the page offers."""
    if name not in {one.name for one in OFFERED}:
        raise UnknownName("benchmark", name, [one.name for one in OFFERED])
    known = _kept.setdefault(subject, {})
    if (name, limit) not in known:
        [benchmark] = parse_benchmarks(name, limit)
        made = benchmark.prepare(subject)
        if not isinstance(made, Prepared | VectorPrepared):
            raise InvalidInput(say("the benchmark {name} writes texts, which takes too long here", name=name))
        known[name, limit] = made
    return known[name, limit]


def effort_told(opened: Opened, name: str, limit: int) -> dict[str, Any]:
    """What scoring would take: documents and tokens; nothing is run."""
    prepared = prepared_for(opened.subject, name, limit)
    tokens = sum(item.length for item in prepared.items)
    return {
        "documents": prepared.documents,
        "tokens": tokens,
        "data": prepared.data,
        "notes": list(prepared.notes),
    }


def score_told(opened: Opened, name: str, limit: int, tell: Tell) -> dict[str, Any]:
    """Every metric under the plan and of the whole model, with 95 % intervals over documents; the main one first."""
    prepared = prepared_for(opened.subject, name, limit)
    pieces = pieces_of(opened.subject, prepared, TOKENS_TOGETHER)
    started = time.perf_counter()
    found = (_vectors if isinstance(prepared, VectorPrepared) else _likelihoods)(opened, pieces, prepared, tell)
    rows = [row.cells() for row in found.rows()]
    return {
        "benchmark": prepared.name,
        "metric": prepared.metric,
        "documents": prepared.documents,
        "data": prepared.data,
        "notes": list(prepared.notes),
        "rows": rows,
        "seconds": time.perf_counter() - started,
    }


def _likelihoods(opened: Opened, pieces: list[ItemBatch], prepared: Prepared | VectorPrepared, tell: Tell) -> Scored:
    assert isinstance(prepared, Prepared)
    plans, arrays = _both(opened), []
    for done, piece in enumerate(pieces):
        tell(prepared.name, done, len(pieces))
        arrays.append(score_piece(opened.subject, piece, plans, Running(opened.stack)).arrays())
    plan, whole = (prepared.score(scored_items(pieces, arrays, row)) for row in (0, len(plans) - 1))
    return Scored(prepared, plan, whole)


def _vectors(opened: Opened, pieces: list[ItemBatch], prepared: Prepared | VectorPrepared, tell: Tell) -> Scored:
    assert isinstance(prepared, VectorPrepared)
    plans = _both(opened)
    found = np.zeros((len(plans), len(prepared.items), opened.subject.anatomy.width), np.float32)
    with torch.no_grad():
        for done, piece in enumerate(pieces):
            tell(prepared.name, done, len(pieces))
            found[:, list(piece.items)] = vectors_of(opened.subject, piece, plans, Running(opened.stack))
    return Scored(prepared, prepared.score(found[0]), prepared.score(found[-1]))


def _both(opened: Opened) -> list[Any]:
    """The plan and the whole model; once, where they are the same."""
    return list(dict.fromkeys(opened.plans))
