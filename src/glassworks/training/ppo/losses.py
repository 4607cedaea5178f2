"""The two clipped losses of PPO (Schulman et al. 2017) and the numbers by which a run is watched."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from glassworks.training.ppo.advantages import masked_mean


@dataclass(frozen=True)
class PolicyLoss:
    """The loss of the policy, and how far the policy went from the one that sampled."""

    loss: Float[Tensor, ""]
    clipped: Float[Tensor, ""]
    """Share of tokens whose ratio was cut."""
    moved: Float[Tensor, ""]
    """Mean of (ratio - 1) - log ratio, an estimate of the KL from the sampling policy, in nats per token."""


def policy_loss(
    log_probs: Float[Tensor, "sample position"],
    sampled: Float[Tensor, "sample position"],
    advantages: Float[Tensor, "sample position"],
    mask: Bool[Tensor, "sample position"],
    clip: float = 0.2,
) -> PolicyLoss:
    """Mean over tokens of -min(ratio A, clip(ratio, 1 - clip, 1 + clip) A), eq. 7; ratio = policy / sampling policy."""
    difference = torch.where(mask, log_probs - sampled, torch.zeros_like(sampled))
    ratio = difference.exp()
    free = -advantages * ratio
    bounded = -advantages * ratio.clamp(1 - clip, 1 + clip)
    clipped = masked_mean((bounded > free).float(), mask)
    return PolicyLoss(
        masked_mean(torch.maximum(free, bounded), mask),
        clipped.detach(),
        masked_mean(ratio - 1 - difference, mask).detach(),
    )


def value_loss(
    values: Float[Tensor, "sample position"],
    before: Float[Tensor, "sample position"],
    returns: Float[Tensor, "sample position"],
    mask: Bool[Tensor, "sample position"],
    clip: float = 0.2,
) -> Float[Tensor, ""]:
    """Half the mean over tokens of max((V - R)^2, (V clipped around the value before - R)^2)."""
    bounded = before + (values - before).clamp(-clip, clip)
    return 0.5 * masked_mean(torch.maximum((values - returns) ** 2, (bounded - returns) ** 2), mask)


def token_log_probs(
    logits: Float[Tensor, "sample position token"], ids: Int[Tensor, "sample position"], temperature: float = 1.0
) -> Float[Tensor, "sample position"]:
    """The log-probability of each token under the logits that predict it, in nats; float32 whatever the logits."""
    scaled = logits.float() / temperature
    return scaled.gather(-1, ids[..., None])[..., 0] - scaled.logsumexp(-1)


def entropy(logits: Float[Tensor, "sample position token"]) -> Float[Tensor, "sample position"]:
    """Entropy of each prediction, in nats."""
    logs = logits.float().log_softmax(-1)
    return -(logs.exp() * logs).sum(-1)
