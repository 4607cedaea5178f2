"""Facts scattered over a document and recalled at its end, against how much of the document is read (infini.md 2, 3).

A model that reads the last L bytes has met the facts that stand there, and can only guess the others: the score grows
with L as that of book summaries does in the paper. Answers are written by the model itself, digit by digit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from glassworks.core.text import say
from glassworks.evaluation.answers import rouge
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.infini.workbench import Progress, Workbench, pieces, streams_of
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.tasks import Facts
from glassworks.tasks.haystacks import Haystacks
from glassworks.tensors.seeds import Seed

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.infini.spec import InfiniAttention

LABEL = "facts"
SCORES = ("f1", "rouge2", "rougeL", "exact")
# How many times longer than those of training documents are.
LONGER = 32
METRICS = ("loss", "loss/key", "loss/all", "accuracy/key")


def measure(study: InfiniAttention, bench: Bench) -> Sequence[Measurement]:
    """Scores of the recalled facts by how much was read, and the training."""
    work = Workbench(study, bench)
    trained_on = _task(work, work.seeds[0]).length
    length = min(LONGER * trained_on, study.longest)
    reads = tuple(length >> power for power in reversed(range((length // trained_on).bit_length())))
    progress = Progress(bench.events, "books", len(work.seeds) * study.facts_samples * sum(reads))
    values = np.array([[_scores(work, seed, length, count, progress) for seed in work.seeds] for count in reads])
    return [
        Measurement(
            "facts", say("recalled facts against bytes read of the document's end"), values.transpose(2, 0, 1),
            ("score", "read", "seed"), {"score": SCORES, "read": reads, "seed": work.seeds}, "score",
            (
                say("{count} documents of {length} bytes with {facts} facts for each seed", count=study.facts_samples, length=length, facts=_task(work, work.seeds[0]).facts),
                say("scored are the numbers alone, in the order of the questions; exact: facts whose own number is given"),
            ),
        ),
        work.training_curves("training_books", say("the passkey model while it learns to recall facts"), METRICS),
    ]  # fmt: skip


def _task(work: Workbench, seed: int) -> Facts:
    task = work.trained(LABEL, seed).spec.task
    assert isinstance(task, Facts), "the study's models are trained on facts"
    return task


def _scores(work: Workbench, seed: int, length: int, read: int, progress: Progress) -> list[float]:
    """The mean scores over documents of which the last `read` bytes are read; the documents are those of the seed."""
    task = _task(work, seed)
    texts = task.texts(work.study.facts_samples, Seed(seed).child("facts"), length)
    found = answers(work.model(LABEL, seed), texts, read)
    progress.add(read * len(found))
    right, given = (spelled(some, task.digits) for some in (texts.answers, found))
    rows = [score(answer, wanted) for answer, wanted in zip(given, right, strict=True)]
    exact = (found == texts.answers).unflatten(1, (-1, task.digits)).all(2).double().mean()
    return [*(sum(row[name] for row in rows) / len(rows) for name in SCORES[:-1]), float(exact)]


def score(answer: str, right: str) -> dict[str, float]:
    """Overlaps of one answer with the right one; F1 of the numbers whatever their order is what ROUGE calls ROUGE-1."""
    overlaps = rouge(answer, right)
    return {"f1": overlaps["rouge1"], "rouge2": overlaps["rouge2"], "rougeL": overlaps["rougeL"]}


def spelled(answers: Tensor, digits: int) -> list[str]:
    """Answers (document byte) as numbers with a blank between them; a byte that is no ASCII becomes a question mark."""
    numbers = ["".join(chr(code) if code < 128 else "?" for code in row) for row in answers.tolist()]
    return [" ".join(row[at : at + digits] for at in range(0, len(row), digits)) for row in numbers]


@torch.no_grad()
def answers(model: GlassworksForCausalLM, texts: Haystacks, read: int) -> Tensor:
    """What the model writes in the places of the answers (document byte), after the last `read` bytes of each document.

    Questions and stops are given; each digit is the first choice among all bytes, and is read in place of the right one.
    """
    first = int(texts.answered.nonzero()[0])
    start, begun = max(0, texts.length - read), texts.asked + first
    known = texts.between(start, begun)
    stream, cache = deque(streams_of(model, known.split(pieces(len(known)), 1)), maxlen=1).pop()
    written: list[Tensor] = []
    for place in range(first, texts.ending.shape[1]):
        if texts.answered[place]:
            byte = model.lm_head(stream[:, -1]).argmax(1, keepdim=True)
            written.append(byte.cpu())
        else:
            byte = texts.ending[:, place : place + 1]
        if place + 1 < texts.ending.shape[1]:
            ((stream, cache),) = streams_of(model, [byte], cache)
    return torch.cat(written, 1)
