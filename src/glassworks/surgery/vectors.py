"""An encoder under a plan beside the plain model: how far its vectors turn, and what it fills in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from glassworks.anatomy import Subject, TokenBatch
from glassworks.surgery.plans import Plan
from glassworks.surgery.prefix_tree import execute, to_logits

SHOWN = 5


@dataclass(frozen=True)
class Filled:
    """The likeliest answers at one place, each with its probability: under the plan and of the plain model."""

    place: int
    plan: tuple[tuple[str, float], ...]
    plain: tuple[tuple[str, float], ...]


@dataclass(frozen=True, eq=False)
class Beside:
    """Cosine between the last states under the plan and of the plain model: of each token, and of their mean."""

    labels: tuple[str, ...]
    per_token: NDArray[np.float64]
    of_mean: float
    filled: tuple[Filled, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "cosine_per_token": self.per_token.tolist(),
            "cosine_of_mean": self.of_mean,
            "filled": [{"place": one.place, "plan": dict(one.plan), "plain": dict(one.plain)} for one in self.filled],
        }


def beside(subject: Subject, batch: TokenBatch, plan: Plan) -> Beside:
    """Both passes over one text; answers where the text holds mask tokens, or once for a classifier."""
    whole = Plan.identity(subject.anatomy.depth)
    streams = dict(execute(subject, batch, [plan, whole]))
    ours, plain = (streams[one][0].double() for one in (plan, whole))
    cosines = torch.cosine_similarity(ours, plain, dim=-1)
    of_mean = torch.cosine_similarity(ours.mean(0), plain.mean(0), dim=0)
    places = _places(subject, batch)
    filled: list[Filled] = []
    if places:
        answers = [to_logits(subject, batch, streams[one])[0].float().softmax(-1) for one in (plan, whole)]
        filled = [Filled(place, *(_likeliest(subject, one[place]) for one in answers)) for place in places]
    return Beside(batch.labels, cosines.cpu().numpy(), float(of_mean), tuple(filled))


def _places(subject: Subject, batch: TokenBatch) -> list[int]:
    """Where the model is asked for something: masked positions, or the one answer of a classifier."""
    anatomy = subject.anatomy
    if anatomy.answers_once:
        return [0]
    tokenizer: Any = subject.tokenizer
    if not isinstance(tokenizer, PreTrainedTokenizerBase) or (anatomy.head is None and not anatomy.tied_head):
        return []
    return [place for place, token in enumerate(batch.ids[0].tolist()) if token == tokenizer.mask_token_id]


def _likeliest(subject: Subject, probabilities: Float[Tensor, " answer"]) -> tuple[tuple[str, float], ...]:
    best = probabilities.topk(min(SHOWN, len(probabilities)))
    numbers = [int(number) for number in best.indices.tolist()]
    names = [str(number) for number in numbers] if subject.anatomy.answers_once else subject.labels(numbers)
    return tuple(zip(names, best.values.tolist(), strict=True))
