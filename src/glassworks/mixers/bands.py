"""Softmax over a few chosen keys, for mixers whose tokens read only what stands near them; fast, and loop by loop."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from glassworks.mixers.base import Heads
from glassworks.mixers.rotation import Rotation


def read_keys(
    q: Float[Tensor, "row head query width"],
    k: Float[Tensor, "row kv_head key width"],
    v: Float[Tensor, "row kv_head key value_width"],
    heads: Heads,
    allowed: Bool[Tensor, "#row query key"] | None = None,
) -> Float[Tensor, "row head query value_width"]:
    """Softmax attention to the keys that are `allowed` (all unless given), of which every query needs one.

    A mask of one row serves all rows without being copied for each.
    """
    bias = None
    if allowed is not None:
        bias = torch.zeros(allowed.shape, dtype=q.dtype, device=q.device)
        bias = bias.masked_fill(~allowed, float("-inf"))[:, None]
    if heads.group > 1:
        k, v = k.repeat_interleave(heads.group, 1), v.repeat_interleave(heads.group, 1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=heads.scale)


def rotation_kind(x: Tensor) -> torch.dtype:
    """The number format in which places are turned where they are not always counted from the same token."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def turned(
    x: Float[Tensor, "batch head position width"], base: float | None, places: Sequence[int] | None = None
) -> Float[Tensor, "batch head position width"]:
    """Vectors turned by their places, 0 and on unless given, for references; as they are where `base` is None."""
    if base is None:
        return x
    there = torch.arange(x.shape[2], device=x.device) if places is None else torch.tensor(places, device=x.device)
    return Rotation.at(there[None], x.shape[-1], base, rotation_kind(x)).turn(x)


def average(
    q: Float[Tensor, "batch width"],
    keys: Float[Tensor, "batch key width"],
    values: Float[Tensor, "batch key value_width"],
    scale: float,
) -> Float[Tensor, "batch value_width"]:
    """What one query reads, for references: exponentials of the scores, divided by their sum."""
    scores = scale * (keys * q[:, None]).sum(-1)
    weights = torch.exp(scores - scores.amax(-1, keepdim=True))
    weights = weights / weights.sum(-1, keepdim=True)
    return (weights[..., None] * values).sum(1)
