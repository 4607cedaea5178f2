"""Infini-attention: softmax inside a segment, and a memory of one size for all segments before it (infini.md 1)."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.mixers.base import Gates, Heads, Memory, Mixed, Mixer, MixerSpec, foreign_memory, refuse_gates
from glassworks.mixers.infini_products import Shares, recall
from glassworks.mixers.infini_reference import Rules, by_segments
from glassworks.mixers.infini_sums import Found, Sums, find_stored
from glassworks.mixers.segments import Part, SegmentMemory, Turn, attend, cut


@dataclass(frozen=True)
class InfiniMemory(SegmentMemory):
    """What Infini-attention keeps of the tokens it has read: sums over all full segments, and the open one.

    Its size depends on the segment's length only. The sums are in float32 at least, divided by a power of two that
    grows with them, so that they neither overflow nor stop growing.
    """

    total: Float[Tensor, "batch kv_head head_width value_width"]
    """M / 2^exponent: the sum of sigma(k) v^T, or of what the delta rule leaves of it."""
    normaliser: Float[Tensor, "batch kv_head head_width"]
    """z / 2^exponent: the sum of sigma(k); its largest entry is in [0.5, 1), or all are 0: nothing is stored."""
    exponent: Int[Tensor, "batch kv_head"]
    """Shared by both sums."""


class Infini(MixerSpec):
    """Infini-attention: out = g A_mem + (1 - g) A_dot, the gate g = sigmoid(beta) learned for each query head.

    A_dot is causal softmax attention inside the segment, A_mem = sigma(q) M / (sigma(q) z) reads what all earlier segments
    have written, sigma = ELU + 1. Keys are stored unturned. A segment is written when it is full: M += sigma(K)^T V and
    z += sum sigma(K) (linear), or with V less what M already answers to K (delta). Query heads of one group share a memory.
    `Gates.write` weighs pairs as if they were there that many times, in M and z.
    """

    kind: Literal["infini"] = "infini"
    segment: int = Field(default=128, ge=1)
    """Tokens of a segment."""
    write: Literal["linear", "delta"] = "linear"
    """The rule by which a full segment is written."""
    first: Literal["local", "zero"] = "local"
    """While nothing is stored: A_dot as it is (local), or A_mem = 0 under the gate (zero)."""
    gate_start: float = 0.0
    """beta at the start; 0 weighs both halves alike."""

    rotates_inside: ClassVar[bool] = True
    uses_softmax: ClassVar[bool] = True
    resets: ClassVar[bool] = True
    adds_up: ClassVar[bool] = True

    def build(self, heads: Heads) -> Mixer:
        """The module for these sizes, its gates at the start."""
        return InfiniMixer(heads, self)

    def reference(
        self,
        q: Float[Tensor, "batch head position head_width"],
        k: Float[Tensor, "batch kv_head position head_width"],
        v: Float[Tensor, "batch kv_head position value_width"],
        scale: float | None = None,
        rotary_base: float | None = None,
        gates: Gates | None = None,
    ) -> Float[Tensor, "batch head position value_width"]:
        """Head by head and segment by segment in float64, with all gates at their start."""
        beta = torch.full((q.shape[1],), self.gate_start, dtype=torch.float64, device=q.device)
        return by_segments((q, k, v), beta, self.rules(q.shape[3], scale, rotary_base), gates)

    def rules(self, head_width: int, scale: float | None = None, rotary_base: float | None = None) -> Rules:
        """What `infini_reference` needs to know besides tensors; the scale is 1/sqrt(head_width) unless given."""
        scale = float(head_width**-0.5) if scale is None else scale
        return Rules(self.segment, self.write, self.first, scale, rotary_base)


class InfiniMixer(Mixer):
    """Infini-attention over all segments of a call at once, in time that grows with the tokens.

    The memory and its products are in float32 (float64 for float64 inputs) whatever autocast says. How it is computed:
    docs/papers/infini-attention.md.
    """

    def __init__(self, heads: Heads, spec: Infini) -> None:
        super().__init__(heads)
        self.spec = spec
        self.gate = nn.Parameter(torch.empty(heads.query_heads))
        """beta: the weight of the memory is sigmoid(gate)."""
        self.turn: Turn | None = None
        """What tells places apart in a converted model, in place of the rotation; used inside segments only."""
        self.start()

    def start(self) -> None:
        """Sets the gates to their start; nothing is drawn."""
        with torch.no_grad():
            self.gate.fill_(self.spec.gate_start)

    def mix(
        self,
        q: Float[Tensor, "batch head query head_width"],
        k: Float[Tensor, "batch kv_head key head_width"],
        v: Float[Tensor, "batch kv_head key value_width"],
        memory: Memory | None = None,
        gates: Gates | None = None,
        remember: bool = True,
    ) -> Mixed:
        """Attends inside each segment and recalls what was stored before it; full segments join the memory returned."""
        self._check(gates)
        before = self._own(memory, k, v)
        if k.shape[2] == 0:
            return Mixed(q[..., :1] * v.new_empty(0, v.shape[3]), before if remember else None)
        layout = cut((q, k, v), self.spec.segment, before, gates)
        sums = None if before is None else Sums(before.total, before.normaliser, before.exponent)
        outs: list[Tensor] = []
        for part in layout.parts:
            is_last = not remember and part is layout.parts[-1]
            local = attend(part.turned(self.heads.rotary_base, self.turn), self.heads)
            found = find_stored(part, sums, self.spec.write, torch.promote_types(q.dtype, torch.float32), is_last)
            sums = sums if found is None else found.after
            outs.append(self._gated(part, local, found))
        out = layout.joined(outs)
        if not remember:
            return Mixed(out=out, memory=None)
        if sums is None:
            sums = Sums.nothing(layout.parts[0], torch.promote_types(q.dtype, torch.float32))
        rest = layout.open()
        return Mixed(
            out=out,
            memory=InfiniMemory(
                rest.keys, rest.values, rest.write, rest.filled, sums.total, sums.normaliser, sums.exponent
            ),
        )

    def _gated(self, part: Part, local: Tensor, found: Found | None) -> Tensor:
        """The sum g A_mem + (1 - g) A_dot; without a gate (or with A_mem = 0) where nothing is stored."""
        kind = torch.promote_types(part.q.dtype, torch.float32)
        gate = torch.sigmoid(self.gate.to(kind))[:, None, None]
        if found is None:
            return local if self.spec.first == "local" else local * (1 - gate).to(local.dtype)
        some = (found.normaliser > 0).any(-1).repeat_interleave(self.heads.group, 2)
        share = gate * some[..., None, None]
        if self.spec.first == "zero":
            keep = (1 - gate)[None, None]
        else:
            silent = part.segments - share.shape[1]
            keep = F.pad(1 - share, (0, 0, 0, 0, 0, 0, silent, 0), value=1.0)
        return recall(local, part.q, found.total, found.normaliser, Shares(keep, share))

    def _check(self, gates: Gates | None) -> None:
        refuse_gates(self, gates, ("write",))
        if gates is None or gates.write is None or torch.compiler.is_compiling():
            return
        # NaN goes through, and shows in the outputs.
        if bool((gates.write < 0).any()):
            raise InvalidInput(
                say("a pair written a negative number of times"),
                given=f"{float(gates.write.min()):.6g}",
                right=say("0 (not written), 1 (written once) or any number above"),
            )

    def _own(self, memory: Memory | None, k: Tensor, v: Tensor) -> InfiniMemory | None:
        if memory is None:
            return None
        if not isinstance(memory, InfiniMemory):
            raise foreign_memory(self, memory)
        sizes = (k.shape[0], k.shape[1], k.shape[3], v.shape[3])
        if memory.total.shape != sizes or memory.keys.shape[2] >= self.spec.segment:
            raise InvalidInput(
                say("this memory belongs to other sizes of sequences, heads or segments"),
                given=f"{tuple(memory.total.shape)}, {memory.keys.shape[2]}",
                right=say(
                    "{sizes}: sequences, heads, head width, value width; and fewer than {segment} open tokens",
                    sizes=sizes,
                    segment=self.spec.segment,
                ),
            )
        kind = torch.promote_types(k.dtype, torch.float32)
        return replace(memory, total=memory.total.to(kind), normaliser=memory.normaliser.to(kind))
