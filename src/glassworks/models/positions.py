"""How a token knows its place: a table added to the stream, or a rotation of queries and keys."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassworks.mixers.rotation import Rotation
from glassworks.models.spec import StackSpec

SINUSOID_BASE = 10000.0


@dataclass(frozen=True)
class Places:
    """Where the tokens of one call stand: from `start` on, or at the given positions."""

    start: int
    length: int
    ids: Int[Tensor, "batch position"] | None = None
    """Given where sequences differ (padding) or the caller says so."""

    def of(self, device: torch.device) -> Int[Tensor, "sequence position"]:
        """The positions, one row for all sequences unless they differ."""
        if self.ids is not None:
            return self.ids
        return torch.arange(self.start, self.start + self.length, device=device)[None]

    def within(self, period: int | None, device: torch.device) -> "Places":
        """The same places counted anew after every `period` tokens; as they are for None."""
        if period is None or (self.ids is None and self.start + self.length <= period):
            return self
        return Places(self.start, self.length, self.of(device) % period)


class PositionTable(nn.Module):
    """One vector per position: learned, random and frozen (saved, for it is data), or sinusoidal."""

    weight: Tensor

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        table = torch.empty(spec.context, spec.width)
        self.is_sinusoidal = spec.positions in ("sinusoidal", "concatenated")
        if spec.positions == "learned":
            self.weight = nn.Parameter(table)
        else:
            # A sinusoidal table is computed again after loading; random numbers cannot be.
            self.register_buffer("weight", table, persistent=not self.is_sinusoidal)

    def forward(self, places: Places) -> Float[Tensor, "sequence position width"]:
        """The vectors at these places, one row for all sequences unless they differ."""
        if places.ids is not None:
            return nn.functional.embedding(places.ids, self.weight)
        return self.weight[None, places.start : places.start + places.length]

    def sinusoids(self) -> Float[Tensor, "position width"]:
        """The sine and cosine of the position at wavelengths from 2 pi to 2 pi x 10000, in alternation."""
        context, width = self.weight.shape
        place = torch.arange(context, dtype=torch.float64)[:, None]
        speed = SINUSOID_BASE ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        angles = place * speed
        return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :width].float()


def rotation_at(places: Places, spec: StackSpec, device: torch.device) -> Rotation:
    """The rotation for these places, computed in float32 from the spec alone, so no buffer can go stale."""
    return Rotation.at(places.of(device), spec.width_of_head, spec.rotary_base)
