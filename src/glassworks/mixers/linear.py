"""Linear attention: a running sum of outer products, read by the query."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from glassworks.mixers.base import Heads, Memory, Mixed, Mixer, MixerSpec, foreign_memory

# Tokens handled as one matrix product. Below it the quadratic part costs less than the sums it replaces.
CHUNK = 256


@dataclass(frozen=True)
class KeyValueSum(Memory):
    """The memory of linear attention: sum_j k_j v_j^T, of one size however many tokens it has seen."""

    total: Float[Tensor, "batch kv_head head_width value_width"]
    """Kept in float32 at least: in bfloat16 a long sum would stop growing."""


class Linear(MixerSpec):
    """Linear attention without normalisation: out_i = scale sum_j (q_i . k_j) v_j over j <= i."""

    kind: Literal["linear"] = "linear"

    def build(self, heads: Heads) -> Mixer:
        """The module for these sizes."""
        return LinearMixer(heads)

    def reference(
        self,
        q: Float[Tensor, "batch head position head_width"],
        k: Float[Tensor, "batch kv_head position head_width"],
        v: Float[Tensor, "batch kv_head position value_width"],
        scale: float | None = None,
    ) -> Float[Tensor, "batch head position value_width"]:
        """Token by token: add k v^T to the sum, then read it with the query."""
        q, k, v = q.double(), k.double(), v.double()
        scale = float(q.shape[-1] ** -0.5) if scale is None else scale
        group = q.shape[1] // k.shape[1]
        heads: list[Tensor] = []
        for head in range(q.shape[1]):
            total = torch.zeros_like(k[:, 0, 0, :, None] * v[:, 0, 0, None, :])
            rows: list[Tensor] = []
            for i in range(q.shape[2]):
                total = total + k[:, head // group, i, :, None] * v[:, head // group, i, None, :]
                rows.append(scale * (q[:, head, i, :, None] * total).sum(1))
            heads.append(torch.stack(rows, 1))
        return torch.stack(heads, 1)


class LinearMixer(Mixer):
    """Linear attention in chunks: a masked product inside a chunk, the running sum for all before it."""

    def mix(
        self,
        q: Float[Tensor, "batch head query head_width"],
        k: Float[Tensor, "batch kv_head key head_width"],
        v: Float[Tensor, "batch kv_head key value_width"],
        memory: Memory | None = None,
        padding: Bool[Tensor, "batch key"] | None = None,
        remember: bool = True,
    ) -> Mixed:
        """Reads the running sum and the tokens of the chunk; time grows with the tokens, memory does not."""
        total = self._total(memory)
        if padding is not None:
            # A key of zeros writes nothing to the sum and is read by nobody.
            k = k * padding[:, None, :, None].to(k.dtype)
        earlier = k.shape[2] - q.shape[2]
        if earlier > 0:
            total = _added(total, k[:, :, :earlier], v[:, :, :earlier])
            k, v = k[:, :, earlier:], v[:, :, earlier:]
        q = q.unflatten(1, (self.heads.kv_heads, self.heads.group)) * self.heads.scale
        outs: list[Tensor] = []
        for start in range(0, q.shape[3], CHUNK):
            here = slice(start, start + CHUNK)
            outs.append(_read(q[:, :, :, here], k[:, :, here], v[:, :, here], total))
            if remember or start + CHUNK < q.shape[3]:
                total = _added(total, k[:, :, here], v[:, :, here])
        out = outs[0] if len(outs) == 1 else torch.cat(outs, 3)
        memory = KeyValueSum(total) if remember and total is not None else None
        return Mixed(out=out.flatten(1, 2), memory=memory)

    def _total(self, memory: Memory | None) -> Tensor | None:
        if memory is None:
            return None
        if not isinstance(memory, KeyValueSum):
            raise foreign_memory(self, memory)
        return memory.total


def _read(q: Tensor, k: Tensor, v: Tensor, total: Tensor | None) -> Tensor:
    inside = torch.tril(q @ k.unsqueeze(2).mT) @ v.unsqueeze(2)
    return inside if total is None else inside + q @ total.unsqueeze(2).to(q.dtype)


def _added(total: Tensor | None, k: Tensor, v: Tensor) -> Tensor:
    written = k.mT @ v
    written = written.to(torch.promote_types(written.dtype, torch.float32))
    return written if total is None else total + written
