"""torch's fused attention hides its map; it is worked out from what went in, and checked against what came out."""

import math
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from glassworks.core.errors import StrangeModel
from glassworks.core.text import say

# What pattern @ v may differ from the model's own output, relative to the largest output: kernels sum in
# another order.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}

# What a fused call hides.
Recalled = Literal["scores", "pattern"]
RECALLED: Final[tuple[Recalled, ...]] = ("scores", "pattern")

# A wrong mask or factor shows in any few queries, so not all of a long text are multiplied out again.
CHECKED_QUERIES = 32


@dataclass(frozen=True)
class AttentionCall:
    """What is known of one attention call after it.

    `kind` is "sdpa", "softmax", "packed" or "linear"; `error` is max |pattern @ v - output| where the map was
    recomputed (NaN otherwise), `allowed` the largest error that summing in another order explains, `scale`
    the factor of q k^T (NaN where the model computes its scores itself).
    """

    kind: str
    error: float = math.nan
    allowed: float = math.nan
    scale: float = math.nan


@dataclass(frozen=True, eq=False)
class FusedCall:
    """One call of torch's fused attention: what went in, heads second, and what came out.

    `drops` is true where some of the weights were dropped by chance, so that nothing can be checked.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor
    mask: Tensor | None
    is_causal: bool
    scale: float
    drops: bool

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors that the map is worked out from."""
        return tuple(t for t in (self.query, self.key, self.value, self.out, self.mask) if t is not None)

    @property
    def dtype(self) -> torch.dtype:
        """The number format of scores and pattern."""
        return torch.promote_types(self.query.dtype, torch.float32)

    def recalled(self, part: Recalled) -> Tensor:
        """The scores before the softmax, or the weights after it, in float32 (float64 stays)."""
        scores = masked_scores(self.query, self.key, self.mask, self.is_causal, self.scale)
        if part == "scores":
            return scores
        torch.softmax(scores, dim=-1, out=scores)
        # A query that may see nothing has no weights.
        return scores if self.mask is None else scores.nan_to_num_(0.0)

    def checked(self, pattern: Tensor) -> AttentionCall:
        """How far the weights are from giving what came out."""
        if self.drops:
            return AttentionCall("sdpa", scale=self.scale)
        allowed = TOLERANCE[self.out.dtype] * max(1.0, float(self.out.abs().max()))
        return AttentionCall("sdpa", disagreement(pattern, self.value, self.out), allowed, self.scale)


def masked_scores(query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool, scale: float) -> Tensor:
    """The scores in float32 (float64 stays), masked ones at minus infinity, as torch documents its call."""
    exact = torch.promote_types(query.dtype, torch.float32)
    # The factor goes to the queries, which are fewer than the scores; the masks change the new tensor in place.
    scores = (query.to(exact) * scale) @ spread_heads(key, query.shape[1]).to(exact).transpose(-1, -2)
    if is_causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu_(1)
        scores.masked_fill_(future, -math.inf)
    if mask is not None and mask.dtype == torch.bool:
        scores.masked_fill_(~mask, -math.inf)
    elif mask is not None:
        # A mask at the lowest number of its type is meant as minus infinity.
        scores += mask.to(exact).masked_fill(mask <= torch.finfo(mask.dtype).min, -math.inf)
    return scores


def key_value_heads(heads: int, kv_heads: int) -> tuple[int, ...]:
    """The key-value head that each query head reads: neighbours share one in grouped-query attention."""
    return tuple(head * kv_heads // heads for head in range(heads))


def spread_heads(tensor: Tensor, heads: int) -> Tensor:
    """Key/value heads (second dimension) so that each query head has its own."""
    return tensor if tensor.shape[1] == heads else tensor[:, key_value_heads(heads, tensor.shape[1])]


def disagreement(pattern: Tensor, value: Tensor, out: Tensor) -> float:
    """Max |pattern @ v - output| over queries that see anything, in float32; of many queries a spread sample."""
    queries = pattern.shape[-2]
    if queries > CHECKED_QUERIES:
        some = torch.linspace(0, queries - 1, CHECKED_QUERIES, device=pattern.device).long()
        pattern, out = pattern[..., some, :], out[..., some, :]
    again = pattern @ spread_heads(value, pattern.shape[1]).to(pattern.dtype)
    seen = pattern.sum(-1, keepdim=True) > 0
    return float(((again - out.to(pattern.dtype)).abs() * seen).max())


def check_agreement(call: AttentionCall, place: str) -> None:
    """Raises StrangeModel where a recomputed map does not give the model's own output."""
    if call.error > call.allowed:
        raise StrangeModel(
            say("the attention map of {place}, recomputed from q and k, does not give its output", place=place),
            given=f"max |pattern @ v - z| = {call.error:.3g}, allowed {call.allowed:.3g}",
            right=say("load the model with attn_implementation='eager', so that it computes its map itself"),
        )
