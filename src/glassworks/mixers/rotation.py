"""The rotation of queries and keys by their places, from which only the distance between two tokens is seen."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Rotation:
    """Cosines and sines of the angles by which queries and keys are turned."""

    cos: Float[Tensor, "sequence 1 position head_width"]
    sin: Float[Tensor, "sequence 1 position head_width"]

    def turn(
        self, x: Float[Tensor, "batch head position head_width"]
    ) -> Float[Tensor, "batch head position head_width"]:
        """Turns the pairs (i, i + head_width/2), the half-split order of Llama and GPT-NeoX.

        Where there are fewer angles than numbers, the first numbers are such a head, and the others stay.
        """
        turned = self.cos.shape[-1]
        if turned < x.shape[-1]:
            return torch.cat((self.turn(x[..., :turned]), x[..., turned:]), -1)
        first, second = x.chunk(2, -1)
        return x * self.cos.to(x.dtype) + torch.cat((-second, first), -1) * self.sin.to(x.dtype)

    def turn_at_once(
        self, x: Float[Tensor, "batch head position head_width"]
    ) -> Float[Tensor, "batch head position head_width"]:
        """The same in half the passes and with nothing kept for the gradient; equal up to rounding.

        For mixers that are younger than stored results, which `turn` must not change.
        """
        return cast(Tensor, _Turn.apply(x, self.cos.to(x.dtype), self.sin.to(x.dtype)))

    def among(self, places: Int[Tensor, " position"]) -> "Rotation":
        """The rotation for some of the positions that this one was made for, by their index."""
        return Rotation(cos=self.cos[:, :, places], sin=self.sin[:, :, places])

    @classmethod
    def at(
        cls, places: Int[Tensor, "sequence position"], head_width: int, base: float, kind: torch.dtype = torch.float32
    ) -> "Rotation":
        """The rotation for these places, computed (in float32 unless said) from the base alone, so no buffer goes stale."""
        half = torch.arange(0, head_width, 2, device=places.device, dtype=kind) / head_width
        return cls.by(places, base**-half)

    @classmethod
    def by(cls, places: Int[Tensor, "sequence position"], speeds: Float[Tensor, " pair"]) -> "Rotation":
        """The rotation in which each pair turns by its own speed, in radians per token; in the format of the speeds."""
        angles = places[..., None].to(speeds.dtype) * speeds
        angles = torch.cat((angles, angles), -1)[:, None]
        return cls(cos=angles.cos(), sin=angles.sin())


class _Turn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *due: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        # A rotation's transpose turns back.
        return _turned(due[0], cos, -sin), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    out = x * cos
    half = x.shape[-1] // 2
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return out
