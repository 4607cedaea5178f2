"""The rotation of queries and keys by their places, from which only the distance between two tokens is seen."""

from dataclasses import dataclass

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
        """Turns the pairs (i, i + head_width/2), the half-split order of Llama and GPT-NeoX."""
        first, second = x.chunk(2, -1)
        return x * self.cos.to(x.dtype) + torch.cat((-second, first), -1) * self.sin.to(x.dtype)

    @classmethod
    def at(cls, places: Int[Tensor, "sequence position"], head_width: int, base: float) -> "Rotation":
        """The rotation for these places, computed in float32 from the base alone, so no buffer can go stale."""
        half = torch.arange(0, head_width, 2, device=places.device, dtype=torch.float32) / head_width
        angles = places[..., None].float() * base**-half
        angles = torch.cat((angles, angles), -1)[:, None]
        return cls(cos=angles.cos(), sin=angles.sin())
