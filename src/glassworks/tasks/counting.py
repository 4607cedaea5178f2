"""Predictors that only count, to print beside every accuracy of the bigram world (birth.md 1.4).

They look at no order at all; what they already reach is no evidence for an induction head.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def counts_so_far(inputs: Int[Tensor, "batch position"], vocabulary: int) -> Float[Tensor, "batch position vocabulary"]:
    """How often each token occurred up to and including each position."""
    return torch.nn.functional.one_hot(inputs, vocabulary).to(torch.float32).cumsum(1)


def most_frequent_so_far(inputs: Int[Tensor, "batch position"], vocabulary: int) -> Int[Tensor, "batch position"]:
    """Predicts the token that occurred most often so far."""
    return counts_so_far(inputs, vocabulary).argmax(-1)


def most_surprising_so_far(
    inputs: Int[Tensor, "batch position"], unigram_law: Float[Tensor, " vocabulary"]
) -> Int[Tensor, "batch position"]:
    """Predicts argmax_v n_v log((n_v / t) / pi_u(v)), the token whose count is the least likely under pi_u."""
    counts = counts_so_far(inputs, unigram_law.shape[0])
    position = torch.arange(1, inputs.shape[1] + 1, device=inputs.device)[None, :, None]
    share = (counts / position).clamp_min(1e-12)
    return (counts * (share / unigram_law.to(counts)).log()).argmax(-1)
