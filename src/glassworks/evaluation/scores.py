"""Scores of tokens, and how scores under a plan compare with the whole model's and with chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassworks.evaluation.base import MetricScore, Scores
from glassworks.evaluation.items import Scored
from glassworks.evidence.statistics import Interval, bootstrap_means
from glassworks.tensors.seeds import Seed

# An interval of 95 % needs to know where the outer 2.5 % of the draws lie.
_MOST_LOST = 0.025


def token_scores(scored: Sequence[Scored]) -> Scores:
    """Nats per token, perplexity, and the share of tokens that were the likeliest; a document weighs by its tokens."""
    counts = np.array([len(one.logprobs) for one in scored], dtype=np.float64)
    nats = np.array([-one.logprob for one in scored])
    nll = MetricScore.mean(nats / counts, counts, higher_is_better=False)
    right = np.array([one.top.mean() for one in scored])
    return {"nll": nll, "ppl": nll.exponential(), "acc": MetricScore.mean(right, counts, higher_is_better=True)}


@dataclass(frozen=True, eq=False)
class Normalised:
    """A score on the scale on which the whole model is 1 and chance is 0, with its values on redrawn documents.

    `value` is NaN where the whole model is not better than chance, which leaves no scale, and minus infinity for a model
    whose numbers are not finite.
    """

    value: float
    draws: NDArray[np.float64]
    documents: int

    @property
    def interval(self) -> Interval:
        """The value with the middle 95 % of the draws; unknown where the scale itself is lost in too many of them."""
        if not math.isfinite(self.value) or np.isnan(self.draws).mean() > _MOST_LOST:
            return Interval(self.value, math.nan, math.nan, self.documents)
        low, high = np.nanpercentile(self.draws, (2.5, 97.5))
        return Interval(self.value, float(low), float(high), self.documents)


def normalised(
    score: MetricScore, full: MetricScore, chance: float, *, seed: int = 0, repeats: int = 1000
) -> Normalised:
    """(x - chance) / (full - chance), where x and the whole model's score are means over the same documents.

    The draws are of documents, the same for both (a paired bootstrap) and for every plan with this seed. Not for
    perplexities, which are no means: take their nats.
    """
    assert len(score.per_document) == len(full.per_document), "both are scored on the same documents"
    if not np.isfinite(score.per_document).all():
        return Normalised(-math.inf, np.full(repeats, -math.inf), len(full.per_document))
    better = 1.0 if full.higher_is_better else -1.0
    rows = np.stack([score.per_document, full.per_document])
    plan, whole = bootstrap_means(rows, Seed(seed).child("documents").numpy(), repeats, full.weights)
    draws = on_scale(plan, whole, chance, better)
    value = float(on_scale(np.array([score.value]), np.array([full.value]), chance, better)[0])
    return Normalised(value, draws, len(full.per_document))


def median_over(scores: Sequence[Normalised]) -> Normalised:
    """The median over benchmarks, as the paper combines them; benchmarks without a scale are left out.

    Their documents are drawn independently of each other, so the draws are combined one by one.
    """
    known = [score for score in scores if not math.isnan(score.value)]
    if not known:
        return Normalised(math.nan, np.full(1, math.nan), 0)
    # Benchmarks of equal size share the draws of one seed; shuffled against each other they are independent.
    chance = Seed(0).child("benchmarks").numpy()
    draws = np.stack([chance.permutation(score.draws) for score in known])
    value = float(np.median([score.value for score in known]))
    return Normalised(value, np.median(draws, axis=0), sum(score.documents for score in known))


def on_scale(
    plan: NDArray[np.float64], whole: NDArray[np.float64], chance: float, better: float
) -> NDArray[np.float64]:
    """(plan - chance) / (whole - chance); NaN where the whole model is not better than chance. `better` is 1 or -1."""
    room = (whole - chance) * better
    return np.where(room > 0, (plan - chance) * better / np.where(room > 0, room, 1.0), math.nan)
