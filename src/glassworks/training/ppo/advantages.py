"""From rewards and values to advantages: per-token KL penalty, generalised advantage estimation, whitening."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# Keeps the division defined where all advantages are equal; far below the spread of any real batch.
SMALLEST_VARIANCE = 1e-8


def penalised_rewards(
    scores: Float[Tensor, " sample"],
    log_ratios: Float[Tensor, "sample position"],
    mask: Bool[Tensor, "sample position"],
    beta: float,
) -> Float[Tensor, "sample position"]:
    """Reward of each token: -beta x log(policy / reference), and the score of the whole answer at its last token.

    Their sum is r(x, y) - beta x log(policy(y|x) / reference(y|x)), whose mean is what is to be maximised.
    """
    rewards = torch.where(mask, -beta * log_ratios, torch.zeros_like(log_ratios))
    last = mask.long().cumsum(1).argmax(1)
    rewards[torch.arange(len(scores), device=scores.device), last] += scores
    return rewards


def advantages_of(
    rewards: Float[Tensor, "sample position"],
    values: Float[Tensor, "sample position"],
    mask: Bool[Tensor, "sample position"],
    gamma: float = 1.0,
    decay: float = 0.95,
) -> Float[Tensor, "sample position"]:
    """Generalised advantage estimates (Schulman et al. 2016, eq. 16), 0 outside `mask`.

    delta_t = r_t + gamma V_{t+1} - V_t, A_t = delta_t + gamma x decay x A_{t+1}; after the last token V and A are 0. What
    is true of `mask` must be one stretch per row.
    """
    rewards, values = rewards * mask, values * mask
    found = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[:, 0])
    following = torch.zeros_like(running)
    for place in range(rewards.shape[1] - 1, -1, -1):
        surprise = rewards[:, place] + gamma * following - values[:, place]
        # Outside the mask both terms are 0, so nothing flows in from behind the end.
        running = (surprise + gamma * decay * running) * mask[:, place]
        found[:, place] = running
        following = values[:, place]
    return found


def masked_mean(numbers: Tensor, mask: Bool[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """The mean over what is true of `mask`."""
    return (numbers * mask).sum() / mask.sum()


def whitened(
    numbers: Float[Tensor, "sample position"], mask: Bool[Tensor, "sample position"]
) -> Float[Tensor, "sample position"]:
    """Mean 0 and variance 1 over what is true of `mask`, 0 elsewhere."""
    mean = masked_mean(numbers, mask)
    variance = masked_mean((numbers - mean) ** 2, mask)
    return (numbers - mean) * torch.rsqrt(variance + SMALLEST_VARIANCE) * mask
