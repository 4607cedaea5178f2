"""The sums M and z of Infini-attention before every segment, all segments of a part at once."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from glassworks.mixers.infini_products import LEAST_READ, affine_scan, features, product
from glassworks.mixers.segments import Part

Write = Literal["linear", "delta"]


@dataclass(frozen=True)
class Sums:
    """M and z of every sequence and key-value head, both divided by the same power of two."""

    total: Tensor
    """batch kv_head head_width value_width"""
    normaliser: Tensor
    """batch kv_head head_width"""
    exponent: Tensor
    """batch kv_head: of the power of two."""

    @classmethod
    def nothing(cls, part: Part, kind: torch.dtype) -> "Sums":
        """What is stored before the first segment."""
        batch, _, kv_heads, _, width = part.k.shape
        total = torch.zeros(batch, kv_heads, width, part.v.shape[4], dtype=kind, device=part.k.device)
        return cls(total, total[..., 0].clone(), torch.zeros(batch, kv_heads, dtype=torch.int32, device=total.device))

    def scaled_to(self, exponent: Tensor) -> "Sums":
        """The same divided by another power of two."""
        factor = torch.exp2((self.exponent - exponent).to(self.total.dtype))
        return Sums(self.total * factor[..., None, None], self.normaliser * factor[..., None], exponent)

    def levelled(self) -> "Sums":
        """The same with the largest entry of z in [0.5, 1); exponent 0 where nothing is stored."""
        largest = torch.frexp(self.normaliser.detach().amax(-1))
        return self.scaled_to(torch.where(largest.mantissa == 0, 0, self.exponent + largest.exponent))


@dataclass(frozen=True)
class Found:
    """M and z before each segment of a part, and after its last; the first segments are left out where M is unknown yet."""

    total: Tensor
    """batch segment kv_head head_width value_width"""
    normaliser: Tensor
    """batch segment kv_head head_width"""
    after: Sums | None
    """None where nothing has been stored."""


def find_stored(part: Part, before: Sums | None, rule: Write, kind: torch.dtype, is_last: bool) -> Found | None:
    """What each segment of a part finds stored, in the number format `kind`; None where all find nothing and leave nothing.

    `is_last` spares writing the last segment, for there is nobody to read it.
    """
    segments = part.segments
    count = segments - is_last
    if part.fresh is None and (count == 0 or not _any_full(part)):
        if before is None:
            return None
        total, normaliser = before.total[:, None], before.normaliser[:, None]
        return Found(total.expand(-1, segments, -1, -1, -1), normaliser.expand(-1, segments, -1, -1), before)
    if before is None and (part.fresh is not None or part.full is not True):
        before = Sums.nothing(part, kind)
    exponent = _exponent(part, count, before)
    before = None if before is None else before.scaled_to(exponent)
    written = _written(part, count, exponent, kind)
    states = _all_at_once if part.fresh is None else _one_by_one
    total, normaliser = states(written, before, part.fresh, rule)
    if count < segments:
        return Found(total, normaliser, None)
    after = Sums(total[:, -1], normaliser[:, -1], exponent).levelled()
    return Found(total[:, :-1], normaliser[:, :-1], after)


@dataclass(frozen=True)
class _Written:
    """What the segments of a part write."""

    sigma: Tensor
    """batch segment kv_head key head_width: of the keys, divided as the sums are"""
    strength: Tensor | None
    """batch segment kv_head key 1: how many times each pair counts; None: once"""
    pairs: Tensor
    """batch segment kv_head head_width value_width: sigma(K)^T V"""
    keys: Tensor
    """batch segment kv_head head_width: the sum of sigma(K)"""

    def only(self, chosen: slice) -> "_Written":
        """What these segments write."""
        strength = None if self.strength is None else self.strength[:, chosen]
        return _Written(self.sigma[:, chosen], strength, self.pairs[:, chosen], self.keys[:, chosen])

    def taken(self, normaliser: Tensor) -> Tensor:
        """sigma(K)^T diag(1 / sigma(K) z) sigma(K): by what matrix each segment takes from M what M answers already."""
        read = product(self.sigma, normaliser[..., None])
        unknown = read < LEAST_READ
        weight = read.masked_fill(unknown, 1).reciprocal().masked_fill(unknown, 0)
        if self.strength is not None:
            weight = weight * self.strength
        return product(self.sigma.mT, self.sigma * weight)


def _written(part: Part, count: int, exponent: Tensor, kind: torch.dtype) -> _Written:
    """What the first `count` segments write; those that are not full write nothing."""
    strength = None if part.write is None else part.write[:, :count, :, :, None].to(kind)
    if isinstance(part.full, Tensor):
        full = part.full[:, :count, None, None, None].to(kind)
        strength = full if strength is None else full * strength
    sigma = features(part.k[:, :count], torch.exp2(-exponent.to(kind))[:, None, :, None, None])
    values = part.v[:, :count].to(kind)
    counted = sigma if strength is None else sigma * strength
    values = values if strength is None else values * strength
    return _Written(sigma, strength, product(sigma.mT, values), counted.sum(-2))


def _all_at_once(written: _Written, before: Sums | None, fresh: Tensor | None, rule: Write) -> tuple[Tensor, Tensor]:
    """M and z before every segment that has something stored before it, and after the last (batch segment ...)."""
    assert fresh is None, "texts that begin inside a sequence are taken one by one"
    if before is None:
        total, normaliser = written.pairs[:, :1], written.keys[:, :1]
        written = written.only(slice(1, None))
    else:
        total, normaliser = before.total[:, None], before.normaliser[:, None]
    normaliser = torch.cat([normaliser, written.keys], 1).cumsum(1)
    if rule == "linear":
        return torch.cat([total, written.pairs], 1).cumsum(1), normaliser
    batch = len(total)
    first, taken, pairs = (
        x.transpose(1, 2).flatten(0, 1) for x in (total, written.taken(normaliser[:, :-1]), written.pairs)
    )
    return affine_scan(first[:, 0], taken, pairs).unflatten(0, (batch, -1)).transpose(1, 2), normaliser


def _one_by_one(written: _Written, before: Sums | None, fresh: Tensor | None, rule: Write) -> tuple[Tensor, Tensor]:
    """The same where texts begin inside sequences (`fresh`: batch segment), before which all is forgotten."""
    assert fresh is not None
    assert before is not None
    total, normaliser = before.total, before.normaliser
    totals: list[Tensor] = []
    normalisers: list[Tensor] = []
    count = written.pairs.shape[1]
    for segment in range(max(count, fresh.shape[1])):
        begins = fresh[:, segment, None, None]
        normaliser = normaliser.masked_fill(begins, 0)
        total = total.masked_fill(begins[..., None], 0)
        totals.append(total)
        normalisers.append(normaliser)
        if segment < count:
            change = written.pairs[:, segment]
            if rule == "delta":
                taken = written.only(slice(segment, segment + 1)).taken(normaliser[:, None])[:, 0]
                change = change - product(taken, total)
            total, normaliser = total + change, normaliser + written.keys[:, segment]
    if count == fresh.shape[1]:
        totals.append(total)
        normalisers.append(normaliser)
    return torch.stack(totals, 1), torch.stack(normalisers, 1)


def _exponent(part: Part, count: int, before: Sums | None) -> Tensor:
    """Twice the power of two above what is stored and the number of pairs: divided by it, sums are below the mean of sigma v."""
    tokens = (count * part.k.shape[3]).bit_length()
    if before is None:
        shape = (part.k.shape[0], part.k.shape[2])
        return torch.full(shape, tokens + 1, dtype=torch.int32, device=part.k.device)
    return before.exponent.clamp(min=tokens) + 1


def _any_full(part: Part) -> bool:
    if isinstance(part.full, bool):
        return part.full
    return torch.compiler.is_compiling() or bool(part.full.any())
