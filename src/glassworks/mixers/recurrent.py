"""Attention with recurrence over segments: every token reads its own segment and the whole segments before it."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from glassworks.mixers.bands import average, read_keys, rotation_kind, turned
from glassworks.mixers.base import Gates, Heads, Memory, Mixed, Mixer, MixerSpec, foreign_memory, refuse_gates
from glassworks.mixers.rotation import Rotation
from glassworks.mixers.segments import Layout, Part, SegmentMemory, cut


@dataclass(frozen=True)
class Past:
    """Whole segments before the ones that are read now, oldest first; keys as they were before any turning."""

    keys: Float[Tensor, "batch segment kv_head key head_width"]
    values: Float[Tensor, "batch segment kv_head key value_width"]
    held: Int[Tensor, " batch"] | None = None
    """How many of these segments, the last ones, each sequence holds, where they differ; None: all."""

    def followed_by(self, part: Part, most: int, stops: bool) -> "Past":
        """These segments, then the part's own; with `most` of these in front where sequences are out of step.

        `stops` makes constants of them all: no gradient passes to an earlier segment.
        """
        keys, values = self.keys, self.values
        if out_of_step(part, self):
            keys, values = (F.pad(x, (0, 0, 0, 0, 0, 0, most - x.shape[1], 0)) for x in (keys, values))
        if part.k.shape[3] == keys.shape[3]:
            # A shorter part has no whole segment.
            keys, values = (
                torch.cat([keys.to(part.k.dtype), part.k], 1),
                torch.cat([values.to(part.v.dtype), part.v], 1),
            )
        return Past(keys.detach(), values.detach(), self.held) if stops else Past(keys, values, self.held)


@dataclass(frozen=True)
class RecurrentMemory(SegmentMemory):
    """The open segment, and the whole segments before it that its tokens read."""

    past_keys: Float[Tensor, "batch segment kv_head key head_width"]
    """As they were before any turning; oldest first."""
    past_values: Float[Tensor, "batch segment kv_head key value_width"]
    held: Int[Tensor, " batch"] | None
    """How many of these segments, the last ones, each sequence holds, where they differ; None: all."""

    @property
    def past(self) -> Past:
        """The whole segments."""
        return Past(self.past_keys, self.past_values, self.held)


class TransformerXL(MixerSpec):
    """Softmax attention to the own segment and the `segments` whole ones before it, kept as keys and values.

    Distances are those of the text, at most segment (segments + 1) - 1, known by rotation; the published model adds
    terms for relative positions to the scores instead. With `stop_gradient`, keys and values of earlier segments are
    constants. The published model keeps hidden states and stops the gradient there, so that its key and value maps
    still learn from the second use; here, where only keys and values are known, they do not.
    """

    kind: Literal["transformer_xl"] = "transformer_xl"
    segment: Annotated[int, Field(ge=1)] = 128
    """Tokens of a segment."""
    segments: Annotated[int, Field(ge=1)] = 1
    """Earlier segments that are kept and read."""
    stop_gradient: bool = True
    """Whether no gradient passes from a segment to those before it."""

    uses_softmax: ClassVar[bool] = True
    rotates_inside: ClassVar[bool] = True
    resets: ClassVar[bool] = True

    def build(self, heads: Heads) -> Mixer:
        """The module for these sizes."""
        return TransformerXLMixer(heads, self)

    def reference(
        self,
        q: Float[Tensor, "batch head position head_width"],
        k: Float[Tensor, "batch kv_head position head_width"],
        v: Float[Tensor, "batch kv_head position value_width"],
        scale: float | None = None,
        rotary_base: float | None = None,
    ) -> Float[Tensor, "batch head position value_width"]:
        """One query at a time: the tokens of its segment up to it, and those of the segments before."""
        q, k, v = q.double(), k.double(), v.double()
        scale = float(q.shape[-1] ** -0.5) if scale is None else scale
        q, k = turned(q, rotary_base), turned(k, rotary_base)
        group = q.shape[1] // k.shape[1]
        heads: list[Tensor] = []
        for head in range(q.shape[1]):
            rows: list[Tensor] = []
            for i in range(q.shape[2]):
                own = i - i % self.segment
                first = max(0, own - self.segments * self.segment)
                past, now = slice(first, own), slice(own, i + 1)
                earlier = [x[:, head // group, past] for x in (k, v)]
                if self.stop_gradient:
                    earlier = [x.detach() for x in earlier]
                keys, values = (
                    torch.cat([x, y[:, head // group, now]], 1) for x, y in zip(earlier, (k, v), strict=True)
                )
                rows.append(average(q[:, head, i], keys, values, scale))
            heads.append(torch.stack(rows, 1))
        return torch.stack(heads, 1)


class TransformerXLMixer(Mixer):
    """Attention to own and earlier segments, all segments of a call at once."""

    def __init__(self, heads: Heads, spec: TransformerXL) -> None:
        super().__init__(heads)
        self.segment, self.segments, self.stops = spec.segment, spec.segments, spec.stop_gradient

    def mix(
        self,
        q: Float[Tensor, "batch head query head_width"],
        k: Float[Tensor, "batch kv_head key head_width"],
        v: Float[Tensor, "batch kv_head key value_width"],
        memory: Memory | None = None,
        gates: Gates | None = None,
        remember: bool = True,
    ) -> Mixed:
        """Reads own and earlier segments; the memory returned is the open segment and as many whole ones before it."""
        refuse_gates(self, gates, ())
        if memory is not None and type(memory) is not RecurrentMemory:
            raise foreign_memory(self, memory)
        layout = cut((q, k, v), self.segment, memory, gates)
        past = nothing_past(k, v, self.segment) if memory is None else memory.past
        outs: list[Tensor] = []
        for part in layout.parts:
            whole = past.followed_by(part, self.segments, self.stops)
            outs.append(read_segments(part, past, whole, self.heads, self.segments))
            past = last_segments(part, past, whole, layout, self.segments)
        if not remember:
            return Mixed(out=layout.joined(outs), memory=None)
        own = layout.open()
        kept = RecurrentMemory(
            own.keys, own.values, None, own.filled, past.keys.clone(), past.values.clone(), past.held
        )  # fmt: skip
        return Mixed(out=layout.joined(outs), memory=kept)


def nothing_past(k: Tensor, v: Tensor, segment: int) -> Past:
    """What lies before the first token: no segments."""
    return Past(*(x.new_empty(len(x), 0, x.shape[1], segment, x.shape[3]) for x in (k, v)))


def out_of_step(part: Part, past: Past) -> bool:
    """Whether the sequences differ in what they have read, so that a mask has to say who reads which segment."""
    return past.held is not None or part.held is not None or not isinstance(part.full, bool)


def texts_of(part: Part) -> Int[Tensor, "batch segment"]:
    """Which text each segment of a part belongs to: 0 for the one that goes on, then counted."""
    if part.fresh is None:
        return torch.zeros(part.k.shape[:2], dtype=torch.long, device=part.k.device)
    return part.fresh.long().cumsum(1)


def texts_of_whole(part: Part, past: Past, before: int) -> Int[Tensor, "batch segment"]:
    """The same for `before` earlier segments (-1 where a sequence has none) and the part's own."""
    slot = torch.arange(before, device=part.k.device).expand(part.k.shape[0], -1)
    held = past.keys.shape[1] if past.held is None else past.held[:, None]
    return torch.cat([torch.where(slot >= before - held, 0, -1), texts_of(part)], 1)


def read_segments(
    part: Part, past: Past, whole: Past, heads: Heads, most: int
) -> Float[Tensor, "batch segment head query value_width"]:
    """Every segment's tokens read it and up to `most` before it, those of `past` included; `whole` holds them all."""
    known, count = past.keys.shape[1], part.segments
    if out_of_step(part, past):
        seen = texts_of_whole(part, past, most).unfold(1, most, 1)[:, :count] == texts_of(part)[..., None]
        return _read_between(part, whole, heads, most, seen)
    outs: list[Tensor] = []
    # The first segments of a text have fewer before them than the others, which look all alike.
    early = min(max(0, most - known), count)
    for begin, end in (*((segment, segment + 1) for segment in range(early)), (early, count)):
        if begin < end:
            before = min(most, known + begin)
            earlier = Past(*(x[:, known + begin - before :] for x in (whole.keys, whole.values)))
            some = replace(part, q=part.q[:, begin:end], k=part.k[:, begin:end], v=part.v[:, begin:end])
            outs.append(_read_between(some, earlier, heads, before))
    return outs[0] if len(outs) == 1 else torch.cat(outs, 1)


def last_segments(part: Part, past: Past, whole: Past, layout: Layout, most: int) -> Past:
    """The whole segments that the tokens after this part read."""
    if not out_of_step(part, past):
        kept = whole if part.full is True else past
        return Past(*(x[:, max(0, x.shape[1] - most) :] for x in (kept.keys, kept.values)))
    end, text = ends_of(part, layout)
    row = torch.arange(len(end), device=end.device)[:, None]
    chosen = end[:, None] + torch.arange(most, device=end.device)
    held = (texts_of_whole(part, past, most)[row, chosen] == text[:, None]).sum(1)
    slots = most if torch.compiler.is_compiling() else int(held.max())
    keys, values = (x[row, chosen[:, most - slots :]] for x in (whole.keys, whole.values))
    level = not torch.compiler.is_compiling() and bool((held == slots).all())
    return Past(keys, values, None if level else held)


def ends_of(part: Part, layout: Layout) -> tuple[Int[Tensor, " batch"], Int[Tensor, " batch"]]:
    """How many of the part's segments each sequence has left behind, and the text that it is in then."""
    first = torch.zeros(part.k.shape[0], dtype=torch.long, device=part.k.device)
    if isinstance(part.full, bool):
        return first + (part.segments if part.full else 0), first
    last = first if layout.grid is None else layout.grid.last
    row = torch.arange(len(last), device=last.device)
    return last + part.full[row, last].long(), texts_of(part)[row, last]


def _read_between(
    part: Part, earlier: Past, heads: Heads, before: int, seen: Bool[Tensor, "..."] | None = None
) -> Tensor:
    """Each segment of a part with `before` of the earlier ones, whose first belongs to the first segment."""
    q, k, v = part.q, part.k, part.v
    count, queries, keys, length = q.shape[1], q.shape[3], k.shape[3], earlier.keys.shape[3]
    if before:
        both = (x[:, : count - 1 + before].unfold(1, before, 1) for x in (earlier.keys, earlier.values))
        past_k, past_v = (x.permute(0, 1, 2, 5, 3, 4).flatten(3, 4) for x in both)
        k, v = torch.cat([past_k.to(k.dtype), k], 3), torch.cat([past_v.to(v.dtype), v], 3)
    known = before * length
    place = torch.arange(known + keys, device=k.device)[None]
    mine = place[:, known + keys - queries :] if part.held is None else known + part.held[:, None] - 1
    allowed = place[:, None] <= mine[..., None]
    if seen is not None:
        past = seen.flatten(0, 1).repeat_interleave(length, 1)[:, None].expand(-1, queries, -1)
        own = allowed[..., known:].expand(len(past), -1, -1)
        allowed = torch.cat([past, own], 2)
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    if heads.rotary_base is not None:
        q, k = (
            Rotation.at(where, x.shape[3], heads.rotary_base, rotation_kind(x)).turn(x)
            for x, where in ((q, mine), (k, place))
        )
    return read_keys(q, k, v, heads, allowed).unflatten(0, (-1, count))
