"""Benchmark: what a model is scored on, as a value; prepared once for a model, it can be run under many plans."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from glassworks.anatomy import Subject
from glassworks.core.spec import Spec
from glassworks.core.text import Text
from glassworks.evaluation.items import Item, Scored


@dataclass(frozen=True, eq=False)
class MetricScore:
    """A metric over all documents and for each of them.

    `value` is the mean of `per_document`, weighted where there are `weights`; a perplexity is the exponential of the
    mean that stands beside it as its own metric.
    """

    value: float
    per_document: NDArray[np.float64]
    higher_is_better: bool
    weights: NDArray[np.float64] | None = None

    @classmethod
    def mean(
        cls, per_document: NDArray[np.float64], weights: NDArray[np.float64] | None = None, *, higher_is_better: bool
    ) -> "MetricScore":
        """The (weighted) mean over documents."""
        return cls(float(np.average(per_document, weights=weights)), per_document, higher_is_better, weights)

    def exponential(self) -> "MetricScore":
        """The perplexity of a score in nats; infinite where it is beyond all numbers."""
        with np.errstate(over="ignore"):
            return MetricScore(
                float(np.exp(self.value)), np.exp(self.per_document), self.higher_is_better, self.weights
            )


Scores: TypeAlias = Mapping[str, MetricScore]
"""Metric name to its score; the same names whatever the model."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Ready:
    """What all prepared benchmarks state: never built itself.

    `metric` is the one to compare by, `chance` what a model without knowledge reaches in it, `documents` how many are
    scored, `data` where they came from, `notes` what a reader must know (first token, windows, what was cut).
    """

    name: str
    metric: str
    chance: float
    documents: int
    data: str
    notes: tuple[Text, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Prepared(Ready):
    """Items whose log-probabilities are asked; `score` turns what was read, in the order of the items, into metrics."""

    items: tuple[Item, ...]
    score: Callable[[Sequence[Scored]], Scores]


@dataclass(frozen=True, eq=False, kw_only=True)
class VectorPrepared(Ready):
    """Texts whose vectors are asked: the last stream's mean over an item's tokens; `score` takes [item, width]."""

    items: tuple[Item, ...]
    score: Callable[[NDArray[np.float32]], Scores]


@dataclass(frozen=True, eq=False, kw_only=True)
class GenerativePrepared(Ready):
    """Prompts whose greedy continuations are asked, up to one of the `until` texts or so many tokens.

    `score` takes the continuations in the order of the prompts.
    """

    prompts: tuple[str, ...]
    until: tuple[str, ...]
    max_new_tokens: int
    first_token: str
    score: Callable[[Sequence[str]], Scores]


AnyPrepared: TypeAlias = Prepared | VectorPrepared | GenerativePrepared


class Benchmark(Spec):
    """Something to score a model on; `limit` takes fewer documents than there are."""

    limit: int | None = Field(default=None, ge=1)
    """At most so many documents; None for all of them."""

    @property
    def name(self) -> str:
        """What its scores are called in tables and figures."""
        return self.kind

    def prepare(self, subject: Subject) -> AnyPrepared:
        """Documents found, tokenised for this model; raises NotFound for absent data, InvalidInput for a model that does not fit."""
        raise NotImplementedError
