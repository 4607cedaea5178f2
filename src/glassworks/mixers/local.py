"""Attention inside segments and nothing else: what is left of segment models without their memory."""

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from glassworks.mixers.bands import average, turned
from glassworks.mixers.base import Gates, Heads, Memory, Mixed, Mixer, MixerSpec, foreign_memory, refuse_gates
from glassworks.mixers.segments import SegmentMemory, attend, cut


class Local(MixerSpec):
    """Softmax attention inside each segment: out_i = sum_j softmax_j(scale q_i . k_j) v_j over j <= i of i's segment.

    The control that shows what a memory adds: its layers pass nothing from one segment to the next.
    """

    kind: Literal["local"] = "local"
    segment: Annotated[int, Field(ge=1)] = 128
    """Tokens of a segment."""

    uses_softmax: ClassVar[bool] = True
    rotates_inside: ClassVar[bool] = True
    resets: ClassVar[bool] = True

    def build(self, heads: Heads) -> Mixer:
        """The module for these sizes."""
        return LocalMixer(heads, self.segment)

    def reference(
        self,
        q: Float[Tensor, "batch head position head_width"],
        k: Float[Tensor, "batch kv_head position head_width"],
        v: Float[Tensor, "batch kv_head position value_width"],
        scale: float | None = None,
        rotary_base: float | None = None,
    ) -> Float[Tensor, "batch head position value_width"]:
        """One query at a time: the tokens of its segment up to it."""
        q, k, v = q.double(), k.double(), v.double()
        scale = float(q.shape[-1] ** -0.5) if scale is None else scale
        # Only distances matter: those inside a segment are those of the text.
        q, k = turned(q, rotary_base), turned(k, rotary_base)
        group = q.shape[1] // k.shape[1]
        heads: list[Tensor] = []
        for head in range(q.shape[1]):
            rows: list[Tensor] = []
            for i in range(q.shape[2]):
                own = slice(i - i % self.segment, i + 1)
                rows.append(average(q[:, head, i], k[:, head // group, own], v[:, head // group, own], scale))
            heads.append(torch.stack(rows, 1))
        return torch.stack(heads, 1)


class LocalMixer(Mixer):
    """Softmax attention inside all segments at once."""

    def __init__(self, heads: Heads, segment: int) -> None:
        super().__init__(heads)
        self.segment = segment

    def mix(
        self,
        q: Float[Tensor, "batch head query head_width"],
        k: Float[Tensor, "batch kv_head key head_width"],
        v: Float[Tensor, "batch kv_head key value_width"],
        memory: Memory | None = None,
        gates: Gates | None = None,
        remember: bool = True,
    ) -> Mixed:
        """Reads the own segment, the part of it in the memory included; the memory returned is the open segment."""
        refuse_gates(self, gates, ())
        if memory is not None and type(memory) is not SegmentMemory:
            raise foreign_memory(self, memory)
        layout = cut((q, k, v), self.segment, memory, gates)
        out = layout.joined([attend(part.turned(self.heads.rotary_base), self.heads) for part in layout.parts])
        return Mixed(out=out, memory=layout.open() if remember else None)
