"""How the learning rate goes over the steps, and how gradients are kept in bounds."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from glassworks.core.spec import Spec


class Constant(Spec):
    """The optimiser's rate at every step."""

    kind: Literal["constant"] = "constant"

    def rate(self, step: int, peak: float) -> float:
        """The rate of a step, counted from 0."""
        return peak


class WarmupCosine(Spec):
    """A straight line up to the optimiser's rate, then half a cosine down (mesa.md 8)."""

    kind: Literal["warmup_cosine"] = "warmup_cosine"
    warmup: int = Field(default=1000, ge=0)
    """Steps of the straight line."""
    until: int = Field(default=30_000, ge=1)
    """The step at which the cosine ends; later steps stay at its end."""
    start: float = Field(default=0.0, ge=0)
    """The rate of the first step."""
    final: float = Field(default=1e-5, ge=0)
    """The rate at the end."""

    def rate(self, step: int, peak: float) -> float:
        """The rate of a step, counted from 0."""
        if step < self.warmup:
            return self.start + (peak - self.start) * step / self.warmup
        share = min(1.0, (step - self.warmup) / max(1, self.until - self.warmup))
        return self.final + (peak - self.final) * 0.5 * (1 + math.cos(math.pi * share))


class ClipValue(Spec):
    """Every element of every gradient is kept within +-limit (mesa.md 8)."""

    kind: Literal["value"] = "value"
    limit: float = Field(default=1.0, gt=0)
    """Largest absolute value of an element."""

    def apply(self, parameters: list[Tensor]) -> None:
        """Cuts the gradients in place."""
        torch.nn.utils.clip_grad_value_(parameters, self.limit)


class ClipNorm(Spec):
    """All gradients together are scaled down to a length."""

    kind: Literal["norm"] = "norm"
    limit: float = Field(default=1.0, gt=0)
    """Largest Euclidean length of all gradients as one vector."""

    def apply(self, parameters: list[Tensor]) -> None:
        """Scales the gradients in place."""
        torch.nn.utils.clip_grad_norm_(parameters, self.limit)


AnySchedule = Annotated[Constant | WarmupCosine, Field(discriminator="kind")]
AnyClip = Annotated[ClipValue | ClipNorm, Field(discriminator="kind")]
