"""Normalisation of the residual stream."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassworks.models.stack import StackSpec


class RootMeanSquareNorm(nn.Module):
    """x / sqrt(mean(x^2) + epsilon), times a learned gain; the mean is taken in float32 at least."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """The normalised stream, in the format it came in."""
        precise = x.to(torch.promote_types(x.dtype, torch.float32))
        scaled = precise * torch.rsqrt(precise.square().mean(-1, keepdim=True) + self.epsilon)
        return self.weight * scaled.to(x.dtype)


def build_norm(spec: StackSpec) -> nn.Module | None:
    """The norm of the stream of a spec, or None where it has none."""
    match spec.norm:
        case "none":
            return None
        case "layer":
            return nn.LayerNorm(spec.width, eps=spec.norm_epsilon)
        case "rms":
            return RootMeanSquareNorm(spec.width, spec.norm_epsilon)
