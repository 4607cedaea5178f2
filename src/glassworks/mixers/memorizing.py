"""Attention to near tokens, and to the few best matching ones of all that was read long before."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from glassworks.mixers.bands import average
from glassworks.mixers.base import Gates, Heads, Memory, Mixed, Mixer, MixerSpec, foreign_memory, refuse_gates
from glassworks.mixers.recurrent import (
    Past,
    RecurrentMemory,
    TransformerXL,
    ends_of,
    last_segments,
    nothing_past,
    out_of_step,
    read_segments,
    texts_of,
    texts_of_whole,
)
from glassworks.mixers.segments import Layout, Part, cut

# Stored pairs that are compared at a time: the products of a segment of 512 queries and 4 heads then take 64 MiB.
SEARCHED = 8192


@dataclass(frozen=True)
class Stored:
    """Pairs that were read long ago, oldest first; keys of length 1, and constants."""

    keys: Float[Tensor, "batch kv_head stored head_width"]
    values: Float[Tensor, "batch kv_head stored value_width"]
    held: Int[Tensor, " batch"] | None = None
    """How many of these pairs, the last ones, each sequence holds, where they differ; None: all."""

    def followed_by(self, whole: Past) -> "Stored":
        """These pairs and those of whole segments after them."""
        keys, values = (x.detach().transpose(1, 2).flatten(2, 3) for x in (whole.keys, whole.values))
        keys = F.normalize(keys, dim=-1)
        return Stored(
            torch.cat([self.keys.to(keys.dtype), keys], 2), torch.cat([self.values.to(values.dtype), values], 2)
        )

    def between(self, first: int, last: int) -> "Stored":
        """Some of them; which sequence holds which is then another's to say."""
        return Stored(self.keys[:, :, first:last], self.values[:, :, first:last])


@dataclass(frozen=True)
class MemorizingMemory(RecurrentMemory):
    """The open segment, the one before it, and the pairs of all earlier ones, as many as are kept."""

    stored_keys: Float[Tensor, "batch kv_head stored head_width"]
    """Of length 1, unturned; oldest first."""
    stored_values: Float[Tensor, "batch kv_head stored value_width"]
    stored_held: Int[Tensor, " batch"] | None
    """How many of these pairs, the last ones, each sequence holds, where they differ; None: all."""

    @property
    def stored(self) -> Stored:
        """The pairs."""
        return Stored(self.stored_keys, self.stored_values, self.stored_held)


class Memorizing(MixerSpec):
    """Attention to own and previous segment, mixed with attention to the nearest keys of everything before them.

    Each query takes the `neighbours` stored keys with the largest product, exactly (the published model searches
    approximately), and a learned weight per head, sigmoid(gate), mixes what it reads there with what it reads nearby;
    where nothing is stored yet the near part counts alone. Queries and stored keys are divided by their length, as
    published, and have no places. Products of length-1 vectors are all small, so each head learns a factor for them,
    as in query-key normalisation. Stored pairs are constants. Of `capacity` pairs the oldest are dropped, once per
    segment. A pair enters the store when its segment no longer is the previous one. Published in one layer of a
    stack, whose other layers are `TransformerXL` (infini.md 1.2).
    """

    kind: Literal["memorizing"] = "memorizing"
    segment: Annotated[int, Field(ge=1)] = 128
    """Tokens of a segment."""
    neighbours: Annotated[int, Field(ge=1)] = 32
    """Stored pairs that each query reads."""
    capacity: Annotated[int, Field(ge=1)] = 65536
    """Pairs stored at most."""
    sharpness: Annotated[float, Field(gt=0)] = 20.0
    """The factor on products of queries and stored keys where training starts."""

    uses_softmax: ClassVar[bool] = True
    rotates_inside: ClassVar[bool] = True
    resets: ClassVar[bool] = True

    @property
    def near(self) -> TransformerXL:
        """The part that reads own and previous segment."""
        return TransformerXL(segment=self.segment)

    def build(self, heads: Heads) -> Mixer:
        """The module for these sizes, its gates at 1/2."""
        return MemorizingMixer(heads, self)

    def reference(
        self,
        q: Float[Tensor, "batch head position head_width"],
        k: Float[Tensor, "batch kv_head position head_width"],
        v: Float[Tensor, "batch kv_head position value_width"],
        scale: float | None = None,
        rotary_base: float | None = None,
    ) -> Float[Tensor, "batch head position value_width"]:
        """One query at a time: its nearest stored keys by sorting all products; of a mixer just built."""
        near = self.near.reference(q, k, v, scale, rotary_base)
        q, k, v = q.double(), k.double().detach(), v.double().detach()
        group = q.shape[1] // k.shape[1]
        q, k = q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True)
        batches: list[Tensor] = []
        for b in range(q.shape[0]):
            heads: list[Tensor] = []
            for head in range(q.shape[1]):
                rows: list[Tensor] = []
                for i in range(q.shape[2]):
                    end = max(0, (i // self.segment - 1) * self.segment)
                    stored = range(max(0, end - self.capacity), end)
                    query, keys = q[b, head, i], k[b, head // group]
                    products = (keys @ query.detach()).tolist()
                    best = sorted(stored, key=products.__getitem__, reverse=True)[: self.neighbours]
                    mixed = near[b, head, i]
                    if best:
                        read = average(query[None], keys[None, best], v[b, None, head // group, best], self.sharpness)
                        mixed = (mixed + read[0]) / 2
                    rows.append(mixed)
                heads.append(torch.stack(rows))
            batches.append(torch.stack(heads))
        return torch.stack(batches)


class MemorizingMixer(Mixer):
    """Near attention for all segments at once, then segment by segment the search among what is stored by then."""

    def __init__(self, heads: Heads, spec: Memorizing) -> None:
        super().__init__(heads)
        self.spec = spec
        self.gate = nn.Parameter(torch.zeros(heads.query_heads))
        # The logarithm of the factor, over that of the start: a step of training changes it by a share of itself.
        self.sharpness = nn.Parameter(torch.zeros(heads.query_heads))

    def mix(
        self,
        q: Float[Tensor, "batch head query head_width"],
        k: Float[Tensor, "batch kv_head key head_width"],
        v: Float[Tensor, "batch kv_head key value_width"],
        memory: Memory | None = None,
        gates: Gates | None = None,
        remember: bool = True,
    ) -> Mixed:
        """Reads near and stored pairs; the memory returned grows with the tokens up to the capacity."""
        refuse_gates(self, gates, ())
        if memory is not None and not isinstance(memory, MemorizingMemory):
            raise foreign_memory(self, memory)
        layout = cut((q, k, v), self.spec.segment, memory, gates)
        past, stored = nothing_past(k, v, self.spec.segment), Stored(k[:, :, :0].detach(), v[:, :, :0].detach())
        if memory is not None:
            past, stored = memory.past, memory.stored
        outs: list[Tensor] = []
        for part in layout.parts:
            whole = past.followed_by(part, most=1, stops=True)
            near = read_segments(part, past, whole, self.heads, most=1)
            candidates = stored.followed_by(whole)
            outs.append(self._with_stored(part, near, past, stored, candidates))
            stored = self._kept(part, layout, past, stored, candidates)
            past = last_segments(part, past, whole, layout, most=1)
        out = layout.joined(outs)
        if not remember:
            return Mixed(out=out, memory=None)
        own = layout.open()
        return Mixed(
            out=out,
            memory=MemorizingMemory(
                own.keys, own.values, None, own.filled, past.keys.clone(), past.values.clone(), past.held,
                stored.keys.clone(), stored.values.clone(), stored.held,
            ),
        )  # fmt: skip

    def _with_stored(self, part: Part, near: Tensor, past: Past, stored: Stored, candidates: Stored) -> Tensor:
        """What the part's segments read nearby, mixed with what they read among the candidates before."""
        before = candidates.keys.shape[2] - self._own(part) - self.spec.segment
        weight = torch.sigmoid(self.gate).to(near.dtype)[:, None, None]
        holds = self._holders(part, past, stored, candidates)
        outs: list[Tensor] = []
        # Taken apart at once: one by one, each would fill a gradient as large as all of them.
        queries, nearby = part.q.unbind(1), near.unbind(1)
        for segment in range(part.segments):
            last = before + segment * self.spec.segment
            first = max(0, last - self.spec.capacity)
            if last <= first:
                outs.append(nearby[segment])
                continue
            seen = None if holds is None else holds(segment)[:, first:last]
            far = self._read(queries[segment], candidates.between(first, last), seen)
            mixed = torch.lerp(nearby[segment], far.to(near.dtype), weight)
            if seen is not None:
                mixed = torch.where(seen.any(1)[:, None, None, None], mixed, nearby[segment])
            outs.append(mixed)
        return torch.stack(outs, 1)

    def _read(
        self,
        q: Float[Tensor, "batch head query head_width"],
        stored: Stored,
        seen: Bool[Tensor, "batch stored"] | None,
    ) -> Float[Tensor, "batch head query value_width"]:
        """What each query reads among its nearest keys, of those that its sequence may see."""
        batch, kv_heads, pairs, _ = stored.keys.shape
        # Query heads of one group search among the same keys.
        rows = F.normalize(q, dim=-1).unflatten(1, (kv_heads, -1)).flatten(2, 3)
        best = _nearest(rows.detach(), stored.keys, self.spec.neighbours, seen)
        there = torch.arange(batch * kv_heads, device=q.device).view(batch, kv_heads, 1, 1) * pairs + best
        keys, values = (x.flatten(0, 2)[there] for x in (stored.keys, stored.values))
        factor = (self.spec.sharpness * self.sharpness.exp()).to(q.dtype).view(1, kv_heads, -1, 1)
        factor = factor.repeat_interleave(q.shape[2], 2)
        scores = factor * (keys @ rows[..., None])[..., 0]
        if seen is not None:
            # Among fewer pairs than neighbours some are found that are not to be seen.
            hidden = ~seen[torch.arange(batch, device=q.device).view(-1, 1, 1, 1), best]
            scores = scores.masked_fill(hidden, -math.inf).masked_fill(hidden.all(-1, keepdim=True), 0)
        out = (torch.softmax(scores, -1)[..., None, :] @ values)[..., 0, :]
        return out.unflatten(2, (-1, q.shape[2])).flatten(1, 2)

    def _own(self, part: Part) -> int:
        """Pairs of the part's own segments among the candidates: those of whole segments."""
        return part.segments * self.spec.segment if part.k.shape[3] == self.spec.segment else 0

    def _holders(
        self, part: Part, past: Past, stored: Stored, candidates: Stored
    ) -> Callable[[int], Bool[Tensor, "batch candidate"]] | None:
        """Which candidates are of the same text as a segment; None where all sequences are in step and all are."""
        if not out_of_step(part, past) and stored.held is None:
            return None
        texts = self._texts(part, past, stored)[:, : candidates.keys.shape[2]]
        own = texts_of(part)
        return lambda segment: texts == own[:, segment : segment + 1]

    def _texts(self, part: Part, past: Past, stored: Stored) -> Int[Tensor, "batch candidate"]:
        """The text of each candidate, as `texts_of_whole` counts them; -1 where a sequence holds none."""
        pairs = stored.keys.shape[2]
        slot = torch.arange(pairs, device=part.k.device).expand(part.k.shape[0], -1)
        held = pairs if stored.held is None else stored.held[:, None]
        before = torch.where(slot >= pairs - held, 0, -1)
        return torch.cat([before, texts_of_whole(part, past, 1).repeat_interleave(self.spec.segment, 1)], 1)

    def _kept(self, part: Part, layout: Layout, past: Past, stored: Stored, candidates: Stored) -> Stored:
        """What later tokens find stored: all whole segments but the last, as many pairs as there is room for."""
        length, capacity = self.spec.segment, self.spec.capacity
        if not out_of_step(part, past) and stored.held is None:
            end = max(0, candidates.keys.shape[2] - length)
            return candidates.between(max(0, end - capacity), end)
        end, text = ends_of(part, layout)
        room = min(capacity, stored.keys.shape[2] + (part.segments) * length)
        row = torch.arange(len(end), device=end.device)[:, None]
        chosen = stored.keys.shape[2] + end[:, None] * length - room + torch.arange(room, device=end.device)
        own = self._texts(part, past, stored)[row, chosen.clamp(min=0)] == text[:, None]
        held = ((chosen >= 0) & own).sum(1)
        if not torch.compiler.is_compiling():
            room = int(held.max())
        chosen = chosen[:, chosen.shape[1] - room :].clamp(min=0)
        keys, values = (x.transpose(1, 2)[row, chosen].transpose(1, 2) for x in (candidates.keys, candidates.values))
        level = not torch.compiler.is_compiling() and bool((held == room).all())
        return Stored(keys, values, None if level else held)


@torch.no_grad()
def _nearest(
    q: Float[Tensor, "batch kv_head row head_width"],
    keys: Float[Tensor, "batch kv_head stored head_width"],
    neighbours: int,
    seen: Bool[Tensor, "batch stored"] | None,
) -> Int[Tensor, "batch kv_head row neighbour"]:
    """The keys with the largest products, as many as asked for or all; of equal ones any."""
    found, best = q[..., :0], torch.zeros_like(q[..., :0], dtype=torch.long)
    for begin in range(0, keys.shape[2], SEARCHED):
        products = q @ keys[:, :, begin : begin + SEARCHED].mT
        if seen is not None:
            products = products.masked_fill(~seen[:, None, None, begin : begin + SEARCHED], -math.inf)
        count = min(neighbours, products.shape[3])
        here = products.topk(count, dim=-1, sorted=False)
        found, best = (
            torch.cat([found.to(products.dtype), here.values], -1),
            torch.cat([best, here.indices + begin], -1),
        )
        if found.shape[3] > neighbours:
            chosen = found.topk(neighbours, dim=-1, sorted=False).indices
            found, best = found.gather(-1, chosen), best.gather(-1, chosen)
    return best
