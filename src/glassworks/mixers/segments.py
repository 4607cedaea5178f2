"""Tokens cut into segments: the open segment that is carried on, and causal softmax inside every segment at once."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from glassworks.mixers.base import Gates, Heads, Memory
from glassworks.mixers.rotation import Rotation

Turn = Callable[[Tensor, Tensor], Tensor]
"""Turns queries or keys (row head token head_width) by their places (row token, or one row for all)."""


@dataclass(frozen=True)
class SegmentMemory(Memory):
    """The open segment: its keys, as they were before any turning, its values, and the strengths of its pairs."""

    keys: Float[Tensor, "batch kv_head open head_width"]
    """From the segment's first token on, so that the index is the place; fewer than a segment's length."""
    values: Float[Tensor, "batch kv_head open value_width"]
    write: Float[Tensor, "batch kv_head open"] | None
    """`Gates.write` of these tokens; None where all were written in full."""
    filled: Int[Tensor, " batch"] | None
    """How many of these tokens each sequence holds, where they differ; None: all."""


@dataclass(frozen=True)
class Part:
    """Segments of one shape, side by side; the queries stand at the last keys of their segment.

    Empty places have keys, values and strengths of zero and stand at a segment's end, where causality hides them.
    """

    q: Float[Tensor, "batch segment head query head_width"]
    k: Float[Tensor, "batch segment kv_head key head_width"]
    v: Float[Tensor, "batch segment kv_head key value_width"]
    write: Float[Tensor, "batch segment kv_head key"] | None
    """None where all pairs are written in full."""
    full: bool | Bool[Tensor, "batch segment"]
    """Which segments have all their tokens; the others stay open, or ended with their text."""
    fresh: Bool[Tensor, "batch segment"] | None = None
    """Which segments are the first of a new text, for which nothing is stored yet; None: none."""
    held: Int[Tensor, " batch"] | None = None
    """Keys of each sequence, for single queries that stand behind different numbers of them; None: all."""

    @property
    def segments(self) -> int:
        """How many there are."""
        return self.k.shape[1]

    def heads_first(self) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v with sequences and segments in one dimension: (batch segment) head token width; views if possible."""
        return self.q.flatten(0, 1), self.k.flatten(0, 1), self.v.flatten(0, 1)

    def turned(self, base: float | None, turn: Turn | None = None) -> "Part":
        """Queries and keys turned by their places inside the segment: by `turn`, or else by the rotation of this base.

        The part as it is where neither is given.
        """
        if turn is None and base is None:
            return self
        width, keys, queries = self.k.shape[4], self.k.shape[3], self.q.shape[3]
        places = torch.arange(keys, device=self.k.device)[None]
        mine = places[:, keys - queries :] if self.held is None else self.held[:, None] - 1
        kind = torch.promote_types(self.k.dtype, torch.float32)
        found: list[Tensor] = []
        for x, where in ((self.q, mine), (self.k, places)):
            flat = x.flatten(0, 1)
            if turn is not None:
                flat = turn(flat, where)
            elif base is not None:
                flat = Rotation.at(where, width, base, kind).turn_at_once(flat)
            found.append(flat.unflatten(0, x.shape[:2]))
        return replace(self, q=found[0], k=found[1])


@dataclass(frozen=True)
class Grid:
    """Where the tokens of sequences that are out of step lie in the only part."""

    slots: Int[Tensor, "batch token"]
    """The place of every new token; without meaning for padding."""
    last: Int[Tensor, " batch"]
    """Each sequence's last segment."""
    filled: Int[Tensor, " batch"]
    """Tokens of it, less than a segment has (0: it is full and closed, or there is none yet)."""


@dataclass(frozen=True)
class Layout:
    """One call's tokens as segments, in the order of time, and the way back."""

    parts: tuple[Part, ...]
    length: int
    """Tokens of a full segment."""
    queries: int
    """How many were asked."""
    grid: Grid | None = None
    """None where all sequences are in step: then the parts simply follow each other."""

    def joined(self, outs: list[Tensor]) -> Float[Tensor, "batch head query value_width"]:
        """One vector for every query, from those of the parts: `batch segment head query value_width` each."""
        rows = [out.transpose(1, 2).flatten(2, 3) for out in outs]
        if self.grid is None:
            whole = rows[0] if len(rows) == 1 else torch.cat(rows, 2)
            return whole[:, :, whole.shape[2] - self.queries :]
        slots = self.grid.slots
        places = slots[:, None, slots.shape[1] - self.queries :, None]
        return rows[0].gather(2, places.expand(-1, rows[0].shape[1], -1, rows[0].shape[3]))

    def open(self) -> SegmentMemory:
        """The segment that stays open; in tensors of its own, so that no longer text is kept alive by it."""
        part = self.parts[-1]
        if self.grid is None:
            held = 0 if part.full is True else part.k.shape[3]
            write = None if part.write is None else part.write[:, -1, :, :held].clone()
            return SegmentMemory(part.k[:, -1, :, :held].clone(), part.v[:, -1, :, :held].clone(), write, None)
        last, filled = self.grid.last, self.grid.filled
        compiling = torch.compiler.is_compiling()
        most = min(self.length - 1 if compiling else int(filled.max()), part.k.shape[3])
        row = torch.arange(len(last), device=last.device)
        empty = torch.arange(most, device=last.device) >= filled[:, None]

        def kept(x: Tensor) -> Tensor:
            found = x[row, last][:, :, :most]
            return found.masked_fill(empty[:, None] if x.dim() == 4 else empty[:, None, :, None], 0)

        level = not compiling and not bool(empty.any())
        write = None if part.write is None else kept(part.write)
        return SegmentMemory(kept(part.k), kept(part.v), write, None if level else filled)


def cut(
    qkv: tuple[Tensor, Tensor, Tensor], length: int, memory: SegmentMemory | None = None, gates: Gates | None = None
) -> Layout:
    """Cuts new tokens, behind those of the open segment, into segments of `length` tokens.

    Where all sequences are in step nothing is copied but an open segment. Elsewhere (padding, new texts inside a
    sequence, open segments of different lengths) the real tokens are laid into a grid in which every text begins with
    a segment, so that each is cut as it would be alone.
    """
    q, k, v = qkv
    queries, tokens = q.shape[2], k.shape[2]
    if queries < tokens:
        q = F.pad(q, (0, 0, tokens - queries, 0))
    gates = Gates() if gates is None else gates
    real, starts = gates.real, gates.starts
    if not torch.compiler.is_compiling():
        real = None if real is None or bool(real.all()) else real
        starts = None if starts is None or not bool(starts.any()) else starts
    filled = None if memory is None else memory.filled
    if real is None and starts is None and filled is None:
        parts = _in_step((q, k, v), gates.write, length, memory)
        return Layout(parts, length, queries)
    if memory is None:
        memory = SegmentMemory(k[:, :, :0], v[:, :, :0], None, None)
    if filled is None:
        filled = torch.full((len(k),), memory.keys.shape[2], device=k.device)
    whole = _joined(memory, k, v, gates.write)
    if tokens == 1 and real is None and starts is None:
        return _one_step(q, whole, filled, length)
    return replace(_grid(q, whole, Gates(real=real, starts=starts), filled, length), queries=queries)


def attend(part: Part, heads: Heads) -> Float[Tensor, "batch segment head query value_width"]:
    """Causal softmax attention inside each segment; queries and keys come turned."""
    q, k, v = part.heads_first()
    mask = None
    if part.held is not None:
        mask = (torch.arange(k.shape[2], device=k.device) < part.held[:, None])[:, None, None]
    elif 1 < q.shape[2] < k.shape[2]:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=k.device).tril(k.shape[2] - q.shape[2])
    if q.shape[2] == 1:
        # Query heads of one group are further rows against the same keys, so that keys are never copied.
        q = q.unflatten(1, (heads.kv_heads, -1)).flatten(2, 3)
    elif heads.group > 1:
        k, v = k.repeat_interleave(heads.group, 1), v.repeat_interleave(heads.group, 1)
    is_causal = mask is None and part.q.shape[3] > 1
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal, scale=heads.scale)
    # Copied only where heads of a group were rows.
    return out.reshape(*part.q.shape[:4], -1)


def _in_step(
    qkv: tuple[Tensor, Tensor, Tensor], write: Tensor | None, length: int, memory: SegmentMemory | None
) -> tuple[Part, ...]:
    """What completes the open segment, the segments that are full, and what is left."""
    tokens = qkv[1].shape[2]
    known = 0 if memory is None else memory.keys.shape[2]
    head = min(tokens, length - known) if known else 0
    body = (tokens - head) // length * length
    parts: list[Part] = []
    if head:
        assert memory is not None
        q, k, v = (x[:, :, :head] for x in qkv)
        k, v, strength = _joined(memory, k, v, None if write is None else write[:, :, :head])
        parts.append(_part((q, k, v), strength, 1, full=known + head == length))
    for begin, end, count in ((head, head + body, body // length), (head + body, tokens, 1)):
        if begin < end:
            strength = None if write is None else write[:, :, begin:end]
            chosen = qkv if end - begin == tokens else [x[:, :, begin:end] for x in qkv]
            parts.append(_part((chosen[0], chosen[1], chosen[2]), strength, count, full=end - begin == count * length))
    return tuple(parts)


def _part(qkv: tuple[Tensor, Tensor, Tensor], write: Tensor | None, segments: int, full: bool) -> Part:
    q, k, v = (x.unflatten(2, (segments, -1)).transpose(1, 2) for x in qkv)
    return Part(q, k, v, None if write is None else write.unflatten(2, (segments, -1)).transpose(1, 2), full)


def _joined(memory: SegmentMemory, k: Tensor, v: Tensor, write: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Keys, values and strengths of the open segment with the new ones behind them."""
    before = memory.write
    if write is not None or before is not None:
        before = torch.ones_like(memory.keys[..., 0]) if before is None else before
        write = k.new_ones(k.shape[:3]) if write is None else write
        kind = torch.promote_types(before.dtype, write.dtype)
        write = torch.cat([before.to(kind), write.to(kind)], 2)
    return torch.cat([memory.keys.to(k.dtype), k], 2), torch.cat([memory.values.to(v.dtype), v], 2), write


def _one_step(q: Tensor, whole: tuple[Tensor, Tensor, Tensor | None], filled: Tensor, length: int) -> Layout:
    """One more token for each sequence, at the end of open segments of different lengths."""
    k, v, write = whole
    keys = k.shape[2]
    # The new token stands last: it moves to the first empty place.
    order = torch.arange(keys, device=k.device).expand(len(k), -1).clone()
    order.scatter_(1, filled[:, None], keys - 1)
    empty = torch.arange(keys, device=k.device) > filled[:, None]
    k, v = taken(k, order, empty), taken(v, order, empty)
    write = None if write is None else taken(write, order, empty)
    held = filled + 1
    full = (held == length)[:, None]
    part = replace(_part((q, k, v), write, 1, full=False), full=full, held=held)
    first = torch.zeros_like(filled)
    return Layout((part,), length, 1, Grid(first[:, None], first, torch.where(full[:, 0], 0, held)))


def _grid(q: Tensor, whole: tuple[Tensor, Tensor, Tensor | None], gates: Gates, filled: Tensor, length: int) -> Layout:
    """The real tokens of every sequence in segments of their own texts; `whole` begins with the open segments."""
    k, v, write = whole
    batch, tokens = len(q), q.shape[2]
    known = k.shape[2] - tokens
    real = torch.ones(batch, tokens, dtype=torch.bool, device=k.device) if gates.real is None else gates.real
    starts = None if gates.starts is None else gates.starts & real
    # The place in its text of each token: real tokens counted, the open segment's too, anew from each start.
    place = real.long().cumsum(1) - 1 + filled[:, None]
    if starts is not None:
        place = place - torch.where(starts, place, 0).cummax(1).values
    opens = real & (place % length == 0)
    segment = opens.long().cumsum(1) - 1 + (filled > 0)[:, None]
    count = -(-(known + tokens) // length) if starts is None else int(segment.max().clamp(min=0)) + 1
    # One place more than the grid has, for what is not real.
    away = count * length
    slots = torch.where(real, segment * length + place % length, away)
    old = torch.arange(known, device=k.device).expand(batch, -1)
    slots_of_all = torch.cat([torch.where(old < filled[:, None], old, away), slots], 1)
    source = torch.full((batch, away + 1), -1, device=k.device)
    source.scatter_(1, slots_of_all, torch.arange(known + tokens, device=k.device).expand(batch, -1))
    source = source[:, :away]
    empty, order = source < 0, source.clamp(min=0)
    fresh = None
    if starts is not None:
        fresh = torch.zeros(batch, count + 1, dtype=torch.bool, device=k.device)
        fresh = fresh.scatter(1, torch.where(starts, segment, count), True)[:, :count]
    grid = (
        taken(q, (order - known).clamp(min=0), empty | (order < known)),
        taken(k, order, empty),
        taken(v, order, empty),
    )
    part = _part(grid, None if write is None else taken(write, order, empty), count, full=False)
    full = ~empty.unflatten(1, (count, length)).any(2)
    last = segment[:, -1].clamp(min=0)
    # Of what comes after the last real token, place and segment are those of that token.
    held = (place[:, -1] + 1) % length
    laid = Grid(slots.clamp(max=away - 1), last, held)
    return Layout((replace(part, full=full, fresh=fresh),), length, tokens, laid)


def taken(x: Tensor, order: Tensor, empty: Tensor) -> Tensor:
    """Tokens (batch head token, or with a width) in another order; zeros, which hold no NaN, at empty places."""
    if x.dim() == 3:
        return x.gather(2, order[:, None].expand(-1, x.shape[1], -1)).masked_fill(empty[:, None], 0)
    found = x.gather(2, order[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))
    return found.masked_fill(empty[:, None, :, None], 0)
