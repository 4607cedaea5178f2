"""Retrieval with sentence vectors: which second half belongs to which first half of a paragraph."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.evaluation.base import Benchmark, MetricScore, Scores, VectorPrepared
from glassworks.evaluation.data import fingerprint
from glassworks.evaluation.items import Item
from glassworks.evaluation.paragraphs import paragraphs, text_path
from glassworks.evaluation.spelling import Spelling

# Queries and candidates by default, as in painters.md 4.
PARAGRAPHS = 200


class Retrieval(Benchmark):
    """The second half of each paragraph is to be found among all second halves by the cosine of mean vectors.

    Hit rate at 1 and mean reciprocal rank; chance falls with the number of paragraphs, so `limit` (200 by default)
    changes the question.
    """

    kind: Literal["retrieval"] = "retrieval"
    limit: int | None = Field(default=PARAGRAPHS, ge=2)
    """Paragraphs, spread evenly over the text; None for all of them."""
    text_file: str | None = None
    """A text file in UTF-8, a paragraph per line; None for the test part of WikiText-2."""
    window: int = Field(default=128, ge=3)
    """A half is cut to so many tokens, those around it included."""

    def prepare(self, subject: Subject) -> VectorPrepared:
        """Both halves of every paragraph, first halves first; raises InvalidInput for a model that reads one way only."""
        if subject.anatomy.causal:
            raise InvalidInput(
                say("a mean over this model's tokens is no sentence vector, for none of them sees the whole text"),
                right=say("an encoder"),
            )
        spelling, path = Spelling.of(subject), text_path(self.text_file)
        halves = [_halves(text) for text in paragraphs(path, self.limit)]
        window = min(self.window, subject.anatomy.context or self.window)
        count = len(halves)
        return VectorPrepared(
            name=self.name if self.text_file is None else f"{self.name}_{Path(self.text_file).stem}",
            metric="hit_at_1",
            chance=1 / count,
            documents=count,
            data=fingerprint(path),
            notes=(say("the second half of a paragraph among {count}, by the cosine of mean vectors", count=count),),
            items=tuple(_item(half[side], spelling, window) for side in (0, 1) for half in halves),
            score=_score,
        )


def _halves(text: str) -> tuple[str, str]:
    words = text.split()
    middle = len(words) // 2
    return " ".join(words[:middle]), " ".join(words[middle:])


def _item(text: str, spelling: Spelling, window: int) -> Item:
    inner = spelling.plain(text)[: window - len(spelling.front) - len(spelling.back)]
    ids = (*spelling.front, *inner, *spelling.back)
    # Every token is read; what is scored is the vector, so the targets are the tokens themselves.
    return Item(ids, tuple(range(len(ids))), ids)


def _score(vectors: NDArray[np.float32]) -> Scores:
    with np.errstate(invalid="ignore", over="ignore"):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    queries, candidates = np.split(unit, 2)
    cosines = queries @ candidates.T
    own = np.diagonal(cosines)[:, None]
    # Ties and lost vectors (NaN) count against the model: a plan that makes all vectors alike has found nothing.
    better = ~(cosines < own)
    ranks = better.sum(axis=1).astype(np.float64)
    return {
        "hit_at_1": MetricScore.mean((ranks == 1).astype(np.float64), higher_is_better=True),
        "mrr": MetricScore.mean(1 / ranks, higher_is_better=True),
    }
