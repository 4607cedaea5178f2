"""A new way for tokens to exchange information: the mean of all values so far.

It is a spec, a module and a slow reference. Because it is linear in the values, its attention map comes for free.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from glassworks.mixers import Gates, Heads, Memory, Mixed, Mixer, MixerSpec, attention_map


@dataclass(frozen=True)
class Sum(Memory):
    """The sum of all values so far and how many they were."""

    total: Tensor
    count: int


class Mean(MixerSpec):
    """Each token reads the mean of the values up to and including its own."""

    kind: Literal["mean"] = "mean"

    def build(self, heads: Heads) -> Mixer:
        """The module for these sizes."""
        return MeanMixer(heads)

    def reference(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
        """One query at a time, in float64."""
        v = v.double().repeat_interleave(q.shape[1] // v.shape[1], 1)
        return torch.stack([v[:, :, : i + 1].mean(2) for i in range(v.shape[2])], 2)


class MeanMixer(Mixer):
    """The running mean; no gates in this example."""

    def mix(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        memory: Memory | None = None,
        gates: Gates | None = None,
        remember: bool = True,
    ) -> Mixed:
        """Adds up the values and divides by their number."""
        before = memory if isinstance(memory, Sum) else Sum(torch.zeros_like(v[:, :, :1]), 0)
        sums = before.total + v.cumsum(2)
        counts = before.count + torch.arange(1, v.shape[2] + 1, dtype=v.dtype)
        out = (sums / counts[:, None]).repeat_interleave(self.heads.group, 1)
        return Mixed(out=out, memory=Sum(sums[:, :, -1:], before.count + v.shape[2]) if remember else None)


heads = Heads(query_heads=2, kv_heads=1, head_width=3, scale=1.0)
mixer = Mean().build(heads)
q, k, v = torch.randn(1, 2, 4, 3), torch.randn(1, 1, 4, 3), torch.randn(1, 1, 4, 3)

print(attention_map(mixer, q, k)[0, 0])

whole = mixer(q, k, v).out
assert torch.allclose(whole.double(), Mean().reference(q, k, v))

# Cut anywhere and handed its memory on, it gives the same.
first = mixer(q[:, :, :3], k[:, :, :3], v[:, :, :3])
second = mixer(q[:, :, 3:], k[:, :, 3:], v[:, :, 3:], first.memory)
assert torch.allclose(torch.cat([first.out, second.out], 2), whole)
