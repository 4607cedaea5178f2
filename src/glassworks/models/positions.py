"""How a token knows its place: a table added to the stream, a rotation of queries and keys, or something added to scores."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassworks.mixers.rotation import Rotation
from glassworks.models.stack import RotaryScaling, StackSpec

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


@dataclass(frozen=True)
class Distances:
    """How far each key stands from each query, for layers that compute their own scores of distances."""

    between: Int[Tensor, "sequence query key"]
    """Tokens from the key to the query; negative where the key comes later."""
    both_ways: bool = False
    """Whether any query looks at later keys."""


Bearings = Rotation | Distances
"""What a layer is told of places: how to turn queries and keys, or how far they are apart."""


class PositionTable(nn.Module):
    """One vector per position: learned, random and frozen (saved, for it is data), or sinusoidal."""

    weight: Tensor

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        self.offset = spec.position_offset if spec.positions == "learned" else 0
        table = torch.empty(spec.context + self.offset, spec.width)
        self.is_sinusoidal = spec.positions in ("sinusoidal", "concatenated")
        if spec.positions == "learned":
            self.weight = nn.Parameter(table)
        else:
            # A sinusoidal table is computed again after loading; random numbers cannot be.
            self.register_buffer("weight", table, persistent=not self.is_sinusoidal)

    def forward(self, places: Places) -> Float[Tensor, "sequence position width"]:
        """The vectors at these places, one row for all sequences unless they differ."""
        if places.ids is not None:
            return nn.functional.embedding(places.ids + self.offset if self.offset else places.ids, self.weight)
        first = places.start + self.offset
        return self.weight[None, first : first + places.length]

    def sinusoids(self) -> Float[Tensor, "position width"]:
        """The sine and cosine of the position at wavelengths from 2 pi to 2 pi x 10000, in alternation."""
        return sinusoids(torch.arange(len(self.weight)), self.weight.shape[1]).float()


class RelativeBias(nn.Embedding):
    """A learned number for each bucket of distances and head, added to scores (T5): near ones exactly, far ones by logarithm."""

    def __init__(self, spec: StackSpec, ahead: bool = False) -> None:
        super().__init__(spec.relative_buckets, spec.heads)
        self.ahead = ahead
        self.furthest = spec.relative_distance

    def forward(self, between: Int[Tensor, "sequence query key"]) -> Float[Tensor, "sequence head query key"]:  # pyright: ignore[reportIncompatibleMethodOverride] - distances are looked up, not rows
        """What is added to the score of each query and key."""
        return super().forward(self.buckets(between)).permute(0, 3, 1, 2)

    def buckets(self, between: Int[Tensor, "*pair"]) -> Int[Tensor, "*pair"]:
        """The bucket of each distance; of those that look ahead the second half, where any do."""
        count, first = self.num_embeddings, torch.zeros_like(between)
        if self.ahead:
            count = count // 2
            first = (between < 0).long() * count
            distance = between.abs()
        else:
            distance = between.clamp(min=0)
        exact = count // 2
        # In float32, where the edges of the published buckets lie.
        far = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.furthest / exact) * (count - exact)
        coarse = (exact + far.long()).clamp(max=count - 1)
        return first + torch.where(distance < exact, distance, coarse)


def alibi(heads: int, between: Int[Tensor, "sequence query key"]) -> Float[Tensor, "sequence head query key"]:
    """Minus the distance times the slope of the head: 2^(-8/n), 2^(-16/n), ... for a power of two n.

    For other numbers of heads the slopes of the next smaller power of two come first, then every second one of the next
    larger, as published.
    """
    slopes = torch.tensor(alibi_slopes(heads), device=between.device)
    return -slopes[None, :, None, None] * between[:, None].abs()


def alibi_slopes(heads: int) -> list[float]:
    """The factor on distances in each head."""
    lower = 2 ** int(math.log2(heads))
    slopes = [2.0 ** (-8 * (head + 1) / lower) for head in range(lower)]
    return slopes + [2.0 ** (-8 * (2 * extra + 1) / (2 * lower)) for extra in range(heads - lower)]


def sinusoids(places: Int[Tensor, " place"], width: int) -> Float[Tensor, "place width"]:
    """Sine and cosine of each place at wavelengths from 2 pi to 2 pi x 10000, in alternation, in float64."""
    speed = SINUSOID_BASE ** (-torch.arange(0, width, 2, dtype=torch.float64, device=places.device) / width)
    angles = places.double()[:, None] * speed
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :width]


def rotation_at(places: Places, spec: StackSpec, device: torch.device) -> Rotation:
    """The rotation for these places, computed in float32 from the spec alone, so no buffer can go stale."""
    if spec.rotary_scaling is None:
        return Rotation.at(places.of(device), spec.width_turned, spec.rotary_base)
    return Rotation.by(
        places.of(device), scaled_speeds(spec.rotary_scaling, spec.width_turned, spec.rotary_base, device)
    )


def scaled_speeds(
    scaling: RotaryScaling, width: int, base: float, device: torch.device | None = None
) -> Float[Tensor, " pair"]:
    """Radians per token by which each pair turns in a rotation that is stretched over longer texts."""
    exponent = torch.arange(0, width, 2, device=device, dtype=torch.float32) / width
    match scaling.kind:
        case "linear":
            return base**-exponent / scaling.factor
        case "ntk":
            # Raised so that the slowest pair is stretched by the whole factor and the fastest not at all.
            return (base * scaling.factor ** (width / (width - 2))) ** -exponent
        case "llama3":
            speeds = base**-exponent
            turns = scaling.original * speeds / (2 * math.pi)
            kept = ((turns - scaling.low) / (scaling.high - scaling.low)).clamp(0, 1)
            return (1 - kept) * speeds / scaling.factor + kept * speeds
