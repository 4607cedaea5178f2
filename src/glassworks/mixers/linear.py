"""Linear attention: a running sum of outer products, read by the query; with a gate that lets it fade."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from glassworks.mixers.base import (
    GateName,
    Gates,
    Heads,
    Memory,
    Mixed,
    Mixer,
    MixerSpec,
    foreign_memory,
    refuse_gates,
    refuse_starts,
)
from glassworks.mixers.chunks import cut, full_precision, joined, precise_kind

# Tokens of one chunk at most. Milliseconds of forward and backward for 32 heads of width 64, 1024 tokens, one core: 56
# with 32, 50 with 64, 60 with 128; the masked product of all tokens 457.
CHUNK = 64
# Up to so many chunks, one product with a triangle of ones adds up the chunks before each; later its square grows dear.
ADDED_AT_ONCE = 64


@dataclass(frozen=True)
class KeyValueSum(Memory):
    """The memory of linear attention: sum_j k_j v_j^T, of one size however many tokens it has seen."""

    total: Float[Tensor, "batch kv_head head_width value_width"]
    """Kept in float32 at least: in bfloat16 a long sum would stop growing."""


class Linear(MixerSpec):
    """Linear attention without normalisation: out_i = scale sum_j (q_i . k_j) v_j over j <= i.

    With `keep` the sum fades: before token i is added, it is multiplied by the gate of token i, one number per
    key-value head that the layer finds in the stream, so that a pair of token j counts the product of the gates after
    j. That is gated linear attention with one gate per head (infini.md 5). Nothing is normalised in either form.
    """

    later: ClassVar[frozenset[str]] = frozenset({"keep"})

    kind: Literal["linear"] = "linear"
    keep: bool = False
    """Whether a gate says how much of the sum each token keeps."""

    @property
    def gate_names(self) -> tuple[GateName, ...]:
        """Which gates the model must compute."""
        return ("keep",) if self.keep else ()

    def build(self, heads: Heads) -> Mixer:
        """The module for these sizes."""
        return LinearMixer(heads, self.gate_names)

    def reference(
        self,
        q: Float[Tensor, "batch head position head_width"],
        k: Float[Tensor, "batch kv_head position head_width"],
        v: Float[Tensor, "batch kv_head position value_width"],
        scale: float | None = None,
        keep: Float[Tensor, "batch kv_head position"] | None = None,
    ) -> Float[Tensor, "batch head position value_width"]:
        """Token by token: let the sum fade, add k v^T to it, then read it with the query."""
        q, k, v = q.double(), k.double(), v.double()
        scale = float(q.shape[-1] ** -0.5) if scale is None else scale
        keep = torch.ones_like(k[..., 0]) if keep is None else keep.double()
        group = q.shape[1] // k.shape[1]
        heads: list[Tensor] = []
        for head in range(q.shape[1]):
            total = torch.zeros_like(k[:, 0, 0, :, None] * v[:, 0, 0, None, :])
            rows: list[Tensor] = []
            for i in range(q.shape[2]):
                total = keep[:, head // group, i, None, None] * total
                total = total + k[:, head // group, i, :, None] * v[:, head // group, i, None, :]
                rows.append(scale * (q[:, head, i, :, None] * total).sum(1))
            heads.append(torch.stack(rows, 1))
        return torch.stack(heads, 1)


class LinearMixer(Mixer):
    """Linear attention in chunks: a masked product inside a chunk, the running sum for all before it."""

    def __init__(self, heads: Heads, gate_names: tuple[GateName, ...] = ()) -> None:
        super().__init__(heads)
        self.gate_names = gate_names

    def mix(
        self,
        q: Float[Tensor, "batch head query head_width"],
        k: Float[Tensor, "batch kv_head key head_width"],
        v: Float[Tensor, "batch kv_head key value_width"],
        memory: Memory | None = None,
        gates: Gates | None = None,
        remember: bool = True,
    ) -> Mixed:
        """Reads the running sum and the tokens of the chunk; time grows with the tokens, memory does not."""
        total = self._total(memory)
        refuse_gates(self, gates, self.gate_names)
        refuse_starts(self, gates)
        real, keep = (None, None) if gates is None else (gates.real, gates.keep)
        if real is not None:
            # A key of zeros writes nothing to the sum and is read by nobody.
            k = k * real[:, None, :, None].to(k.dtype)
        earlier, tokens = k.shape[2] - q.shape[2], q.shape[2]
        if keep is not None:
            keep = keep if real is None else keep.masked_fill(~real[:, None], 1)
            out, total = _fading(F.pad(q * self.heads.scale, (0, 0, earlier, 0)), k, v, keep, total)
            return Mixed(out=out[:, :, earlier:], memory=KeyValueSum(total) if remember else None)
        if earlier > 0:
            written = _wide(k[:, :, :earlier].mT @ v[:, :, :earlier])
            total = written if total is None else total + written
            k, v = k[:, :, earlier:], v[:, :, earlier:]
        batch, kv_heads = k.shape[:2]
        length = -(-tokens // -(-tokens // CHUNK))
        q, k, v = (cut(x, batch * kv_heads, length) for x in (q * self.heads.scale, k, v))
        out, total = _read(q, k, v, None if total is None else total.flatten(0, 1), remember)
        memory = KeyValueSum(total.unflatten(0, (batch, kv_heads))) if remember and total is not None else None
        return Mixed(out=joined(out, batch, length, tokens), memory=memory)

    def _total(self, memory: Memory | None) -> Tensor | None:
        if memory is None:
            return None
        if not isinstance(memory, KeyValueSum):
            raise foreign_memory(self, memory)
        return memory.total


def _read(q: Tensor, k: Tensor, v: Tensor, total: Tensor | None, remember: bool) -> tuple[Tensor, Tensor | None]:
    """Outputs of all chunks at once (as `cut` lays them out), and the sum after the last."""
    chunks = k.shape[1]
    flat_q, flat_k, flat_v = (x.flatten(0, 1) for x in (q, k, v))
    inside = torch.bmm(_masked(torch.bmm(flat_q, flat_k.mT)), flat_v)
    if chunks == 1 and total is None and not remember:
        return inside.unflatten(0, q.shape[:2]), None
    written = _wide(torch.bmm(flat_k.mT, flat_v)).unflatten(0, (-1, chunks))
    starts = _before(written)
    if total is not None:
        starts = starts + total[:, None]
    if chunks > 1 or total is not None:
        inside = torch.baddbmm(inside, flat_q, starts.flatten(0, 1).to(inside.dtype))
    return inside.unflatten(0, q.shape[:2]), starts[:, -1] + written[:, -1] if remember else None


def _fading(q: Tensor, k: Tensor, v: Tensor, keep: Tensor, total: Tensor | None) -> tuple[Tensor, Tensor]:
    """Outputs of all tokens and the sum after the last, of a sum that fades.

    Shares are differences of logarithms, taken before the exponential: a product of many small gates would leave the
    number format, and its inverse too.
    """
    batch, kv_heads, tokens = keep.shape
    length = -(-tokens // -(-tokens // CHUNK))
    # A gate that has rounded to 0 stands for the smallest number above it.
    wide = torch.promote_types(keep.dtype, torch.float32)
    fading = keep.to(wide).clamp(min=torch.finfo(wide).tiny).log()
    q, k, v, fading = (cut(x, batch * kv_heads, length) for x in (q, k, v, fading))
    gone = fading.cumsum(2)
    later = torch.ones(length, length, dtype=torch.bool, device=k.device).triu(1)
    between = (gone[..., :, None] - gone[..., None, :]).masked_fill(later, float("-inf")).exp()
    scores = (q @ k.mT).unflatten(2, (-1, length))
    inside = (scores * between[:, :, None].to(scores.dtype)).flatten(2, 3) @ v
    until_end = (gone[..., -1:] - gone).exp()
    written = _wide((k * until_end[..., None].to(k.dtype)).mT @ v)
    starts, last = _carried(written, gone[..., -1], None if total is None else total.flatten(0, 1))
    since_start = gone.exp().to(q.dtype).repeat(1, 1, q.shape[2] // length)
    out = inside + (q * since_start[..., None]) @ starts.to(q.dtype)
    return joined(out, batch, length, tokens), last.unflatten(0, (batch, kv_heads))


def _carried(written: Tensor, gone: Tensor, first: Tensor | None) -> tuple[Tensor, Tensor]:
    """What each chunk starts from, and the sum after the last, where `gone` is the logarithm of what a chunk keeps."""
    flat = written.flatten(2)
    carried = torch.zeros_like(flat[:, :1]) if first is None else first.flatten(1)[:, None].to(flat.dtype)
    starts: list[Tensor] = []
    for begin in range(0, flat.shape[1], ADDED_AT_ONCE):
        block = flat[:, begin : begin + ADDED_AT_ONCE]
        chunks = block.shape[1]
        # Differences of long sums: float32 would leave some 1e-5 of a share to rounding.
        until = F.pad(gone[:, begin : begin + chunks].to(precise_kind(gone.device)).cumsum(1), (1, 0))
        own = torch.ones(chunks + 1, chunks, dtype=torch.bool, device=flat.device).triu()
        shares = (until[:, :, None] - until[:, None, 1:]).masked_fill(own, float("-inf")).exp().to(flat.dtype)
        # These are additions: autocast and lowered products would round every sum to eight bits.
        with full_precision(flat.device):
            both = torch.baddbmm(until.exp()[..., None].to(flat.dtype) * carried, shares, block)
        starts.append(both[:, :chunks])
        carried = both[:, chunks:]
    return torch.cat(starts, 1).view_as(written), carried.view_as(written[:, 0])


def _masked(scores: Tensor) -> Tensor:
    rows, tokens = scores.shape[1:]
    if rows == tokens:
        return scores.tril_()
    return scores.unflatten(1, (-1, tokens)).tril().flatten(1, 2)


def _before(written: Tensor) -> Tensor:
    """For each chunk the sum of what those before it wrote."""
    chunks = written.shape[1]
    if chunks > ADDED_AT_ONCE or torch.compiler.is_compiling():
        return written.cumsum(1) - written
    earlier = torch.ones(chunks, chunks, dtype=written.dtype, device=written.device).tril(-1)
    # These are additions: autocast and lowered products would round every sum to eight bits.
    with full_precision(written.device):
        return (earlier @ written.flatten(2)).view_as(written)


def _wide(total: Tensor) -> Tensor:
    return total.to(torch.promote_types(total.dtype, torch.float32))
