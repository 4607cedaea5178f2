"""Attention to the last tokens and to the first few of the text, the sinks: any length in a memory of one size."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from glassworks.mixers.bands import read_keys, rotation_kind, turned
from glassworks.mixers.base import Gates, Heads, Memory, Mixed, Mixer, MixerSpec, foreign_memory, real_tokens
from glassworks.mixers.chunks import precise_kind
from glassworks.mixers.rotation import Rotation
from glassworks.mixers.segments import taken

# Queries of one block at least: with blocks as short as a window of 16 the products are too small to be fast.
SHORTEST_BLOCK = 64


@dataclass(frozen=True)
class WindowMemory(Memory):
    """The sinks and the last tokens, in their order; at most sinks + window - 1 of them."""

    keys: Float[Tensor, "batch kv_head kept head_width"]
    """As they were before any turning."""
    values: Float[Tensor, "batch kv_head kept value_width"]
    filled: Int[Tensor, " batch"] | None
    """How many of these tokens each sequence holds, the first ones, where they differ; None: all."""


class SlidingWindow(MixerSpec):
    """Softmax attention to the last `window` tokens, the own one included, and the first `sinks` tokens of the text.

    Places are counted inside what is kept, as published for streaming with attention sinks (infini.md 5): once more
    tokens were read than are kept, a sink stands at the same distance from every later token, sinks + window - 1 for
    the first. So no query meets a distance beyond that, however long the text. `sinks=0` is plain sliding-window
    attention. Time grows with tokens times window, memory does not grow. Packed texts are refused.
    """

    kind: Literal["sliding_window"] = "sliding_window"
    window: Annotated[int, Field(ge=1)] = 256
    """Tokens that are read, the own one included."""
    sinks: Annotated[int, Field(ge=0)] = 4
    """First tokens of the text that are read from everywhere."""

    uses_softmax: ClassVar[bool] = True
    rotates_inside: ClassVar[bool] = True

    def build(self, heads: Heads) -> Mixer:
        """The module for these sizes."""
        return SlidingWindowMixer(heads, self)

    def reference(
        self,
        q: Float[Tensor, "batch head position head_width"],
        k: Float[Tensor, "batch kv_head position head_width"],
        v: Float[Tensor, "batch kv_head position value_width"],
        scale: float | None = None,
        rotary_base: float | None = None,
    ) -> Float[Tensor, "batch head position value_width"]:
        """One query at a time: the tokens that it keeps, at their places among what is kept."""
        q, k, v = q.double(), k.double(), v.double()
        scale = float(q.shape[-1] ** -0.5) if scale is None else scale
        group = q.shape[1] // k.shape[1]
        heads: list[Tensor] = []
        turned_k, most = turned(k, rotary_base), self.sinks + self.window - 1
        near, far = turned(q, rotary_base), turned(q, rotary_base, [min(i, most) for i in range(q.shape[2])])
        for head in range(q.shape[1]):
            keys, values = turned_k[:, head // group], v[:, head // group]
            rows: list[Tensor] = []
            for i in range(q.shape[2]):
                recent = slice(max(i - self.window + 1, 0), i + 1)
                sinks = slice(0, min(self.sinks, recent.start))
                # The query is turned twice: less far for the sinks, whose distance has stopped growing.
                scores = [
                    (far[:, head, i, None] * keys[:, sinks]).sum(-1),
                    (near[:, head, i, None] * keys[:, recent]).sum(-1),
                ]
                weights = torch.softmax(scale * torch.cat(scores, 1), 1)
                read = torch.cat([values[:, sinks], values[:, recent]], 1)
                rows.append((weights[..., None] * read).sum(1))
            heads.append(torch.stack(rows, 1))
        return torch.stack(heads, 1)


class SlidingWindowMixer(Mixer):
    """Sliding-window attention in blocks of queries, each beside the keys of its windows and the sinks."""

    def __init__(self, heads: Heads, spec: SlidingWindow) -> None:
        super().__init__(heads)
        self.window, self.sinks = spec.window, spec.sinks

    def mix(
        self,
        q: Float[Tensor, "batch head query head_width"],
        k: Float[Tensor, "batch kv_head key head_width"],
        v: Float[Tensor, "batch kv_head key value_width"],
        memory: Memory | None = None,
        gates: Gates | None = None,
        remember: bool = True,
    ) -> Mixed:
        """Reads what is kept and the new tokens; the memory returned is what later tokens may still read."""
        real = real_tokens(self, gates)
        filled, tokens = None, k.shape[2]
        if memory is not None:
            if not isinstance(memory, WindowMemory):
                raise foreign_memory(self, memory)
            k, v = torch.cat([memory.keys.to(k.dtype), k], 2), torch.cat([memory.values.to(v.dtype), v], 2)
            filled = memory.filled
        if real is not None and not torch.compiler.is_compiling() and bool(real.all()):
            real = None
        if real is None and filled is None:
            return Mixed(out=self._read(q, k, v), memory=self._kept(k, v) if remember else None)
        return self._in_order(q, k, v, _all_real(k, tokens, real, filled), remember)

    def _in_order(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor, remember: bool) -> Mixed:
        """The same where sequences hold different tokens: each sequence's real ones are moved to its beginning."""
        tokens, queries = k.shape[2], q.shape[2]
        order = real.long().argsort(dim=1, descending=True, stable=True)
        count = real.sum(1)
        empty = torch.arange(tokens, device=k.device) >= count[:, None]
        k, v = taken(k, order, empty), taken(v, order, empty)
        q = F.pad(q, (0, 0, tokens - queries, 0))
        out = self._read(taken(q, order, empty), k, v)
        back = order.argsort(dim=1)[:, tokens - queries :]
        out = out.gather(2, back[:, None, :, None].expand(-1, out.shape[1], -1, out.shape[3]))
        return Mixed(out=out, memory=self._kept_of_each(k, v, count) if remember else None)

    def _kept(self, k: Tensor, v: Tensor) -> WindowMemory:
        """The sinks and the last tokens, in tensors of their own, so that no longer text is kept alive by them."""
        tokens, recent = k.shape[2], self.window - 1
        if tokens <= self.sinks + recent:
            return WindowMemory(k.clone(), v.clone(), None)
        keys, values = (torch.cat([x[:, :, : self.sinks], x[:, :, tokens - recent :]], 2) for x in (k, v))
        return WindowMemory(keys, values, None)

    def _kept_of_each(self, k: Tensor, v: Tensor, count: Tensor) -> WindowMemory:
        most = self.sinks + self.window - 1
        kept = min(most, k.shape[2])
        if not torch.compiler.is_compiling():
            kept = min(kept, int(count.max()))
        slot = torch.arange(kept, device=k.device).expand(len(count), -1)
        gone = (count - most).clamp(min=0)[:, None]
        order = torch.where(slot < self.sinks, slot, slot + gone).clamp(max=k.shape[2] - 1)
        filled = count.clamp(max=most)
        empty = slot >= filled[:, None]
        level = not torch.compiler.is_compiling() and bool((filled == kept).all())
        return WindowMemory(taken(k, order, empty), taken(v, order, empty), None if level else filled)

    def _read(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Each query's average; keys begin with the sinks, queries stand at the last keys."""
        queries, tokens = q.shape[2], k.shape[2]
        if tokens > self.sinks + self.window:
            return self._blocks(q, k, v)
        base = self.heads.rotary_base
        if base is not None:
            place = torch.arange(tokens, device=k.device)
            rotation = Rotation.at(place[None], k.shape[3], base, rotation_kind(k))
            q, k = rotation.among(place[tokens - queries :]).turn(q), rotation.turn(k)
        allowed = None
        if queries > 1:
            allowed = torch.ones(1, queries, tokens, dtype=torch.bool, device=k.device).tril(tokens - queries)
        return read_keys(q, k, v, self.heads, allowed)

    def _blocks(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Blocks of queries in the batch dimension, with the keys of all their windows and the sinks before them."""
        batch, queries = len(q), q.shape[2]
        block = min(max(self.window, SHORTEST_BLOCK), queries)
        blocks = -(-queries // block)
        first = k.shape[2] - queries
        q, k, sinks = self._turned(q, k) if self.heads.rotary_base is not None else (q, k, k[:, :, : self.sinks])
        width = v.shape[3]
        # As wide as the keys, for which alone the fused kernel is made.
        v = F.pad(v, (0, max(0, k.shape[3] - width)))
        q = F.pad(q, (0, 0, 0, blocks * block - queries))
        allowed = self._allowed(blocks, block, first, k.device)
        # Of later blocks all look alike: one mask serves them.
        early = min(blocks, max(0, -(-(self.window - 1 + self.sinks - first) // block)))
        outs: list[Tensor] = []
        for begin, end, mask in (
            (0, early, allowed[:early].repeat(batch, 1, 1)),
            (early, blocks, allowed[early : early + 1]),
        ):
            if begin < end:
                here = q[:, :, begin * block : end * block].unflatten(2, (-1, block)).transpose(1, 2)
                start = first + begin * block - self.window + 1
                keys = _beside(sinks, k, start, (end - begin, block, self.window))
                values = _beside(v[:, :, : self.sinks], v, start, (end - begin, block, self.window))
                out = read_keys(here.flatten(0, 1), keys, values, self.heads, mask)
                outs.append(out.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2, 3))
        return torch.cat(outs, 2)[:, :, :queries, :width]

    def _turned(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys turned by their places, and keys for the sinks.

        A query's distance to a sink stops growing while that to other tokens does not, so one turning cannot serve both.
        Its products with the sinks are therefore numbers of their own in the query, which the sinks' keys only pick out.
        """
        base, tokens = self.heads.rotary_base, k.shape[2]
        assert base is not None, "asked for only where there are places"
        # In float32 the angles of far places would be rounded by more than the distance of neighbours is worth.
        rotation = Rotation.at(torch.arange(tokens, device=k.device)[None], k.shape[3], base, precise_kind(k.device))
        place = torch.arange(tokens - q.shape[2], tokens, device=k.device)
        near, k = rotation.among(place).turn(q), rotation.turn(k)
        if not self.sinks:
            return near, k, k[:, :, :0]
        far = rotation.among(place.clamp(max=self.sinks + self.window - 1)).turn(q)
        sinks = k[:, :, : self.sinks]
        found = (far.unflatten(1, (k.shape[1], -1)).flatten(2, 3) @ sinks.mT).view(*q.shape[:3], self.sinks)
        picked = torch.eye(self.sinks, dtype=k.dtype, device=k.device).expand(*k.shape[:2], -1, -1)
        return torch.cat([near, found], -1), F.pad(k, (0, self.sinks)), F.pad(picked, (k.shape[3], 0))

    def _allowed(self, blocks: int, block: int, first: int, device: torch.device) -> Tensor:
        """Block, query, key: which sinks have been read, and which keys of the band are in the window and no sinks."""
        start = first + block * torch.arange(min(blocks, 1 + -(-(self.window + self.sinks) // block)), device=device)
        query, key = torch.arange(block, device=device)[:, None], torch.arange(block + self.window - 1, device=device)
        near = (key >= query) & (key < query + self.window)
        band = near & (start[:, None, None] - self.window + 1 + key >= self.sinks)
        sinks = torch.arange(self.sinks, device=device) <= start[:, None, None] + query
        return torch.cat([sinks, band], 2)


def _beside(sinks: Tensor, x: Tensor, first: int, sizes: tuple[int, int, int]) -> Tensor:
    """The sinks and the tokens from `first` on (zeros where there are none), as (batch block) head token width.

    `sizes` are the blocks, their length and the window: each block has the tokens of all its windows.
    """
    blocks, block, window = sizes
    x = F.pad(x[:, :, max(0, first) : first + blocks * block + window - 1], (0, 0, max(0, -first), 0))
    x = F.pad(x, (0, 0, 0, blocks * block + window - 1 - x.shape[2]))
    x = x.unfold(2, block + window - 1, block).permute(0, 2, 1, 4, 3)
    return torch.cat([sinks[:, None].expand(-1, blocks, -1, -1, -1), x], 3).flatten(0, 1)


def _all_real(k: Tensor, new: int, real: Tensor | None, filled: Tensor | None) -> Tensor:
    """True at real tokens, of those that were kept and of the new ones behind them."""
    whole = torch.ones(len(k), k.shape[2], dtype=torch.bool, device=k.device)
    kept = k.shape[2] - new
    if filled is not None:
        whole[:, :kept] = torch.arange(kept, device=k.device) < filled[:, None]
    if real is not None:
        whole[:, kept:] = real
    return whole
