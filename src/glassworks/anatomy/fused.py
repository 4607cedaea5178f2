"""torch's fused attention hides its map; it is worked out from what went in, and checked against what came out."""

import math
from collections.abc import Iterator
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

# On a processor a map is made in pieces of about so many weights, which stay in its cache from product to softmax.
PIECE_WEIGHTS = 1 << 18


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
        if part == "scores":
            return masked_scores(self.query, self.key, self.mask, self.is_causal, self.scale)
        keys = spread_heads(self.key, self.query.shape[1])
        pattern = self.query.new_empty((*self.query.shape[:3], keys.shape[2]), dtype=self.dtype)
        masks = _Masks.of(pattern, self.mask, self.is_causal)
        for piece in _pieces(pattern):
            texts, heads, _ = piece
            scores = masks.over(products(self.query[piece], keys[texts, heads], self.scale), piece)
            torch.softmax(scores, dim=-1, out=pattern[piece])
        # A query that may see nothing has no weights.
        return pattern if self.mask is None else pattern.nan_to_num_(0.0)

    def checked(self, pattern: Tensor) -> AttentionCall:
        """How far the weights are from giving what came out; of many queries a spread sample is looked at."""
        if self.drops:
            return AttentionCall("sdpa", scale=self.scale)
        queries = pattern.shape[-2]
        some = torch.linspace(0, queries - 1, min(queries, CHECKED_QUERIES), device=pattern.device).long()
        pattern, out = pattern.index_select(-2, some), self.out.index_select(-2, some)
        allowed = TOLERANCE[out.dtype] * max(1.0, float(out.abs().max()))
        return AttentionCall("sdpa", _disagreement(pattern, self.value, out), allowed, self.scale)


# Texts, heads and queries of a piece of a map.
_Piece = tuple[slice, slice, slice]
_WHOLE: Final[_Piece] = (slice(None), slice(None), slice(0, None))


@dataclass(frozen=True, eq=False)
class _Masks:
    """What a call hides from its queries, as numbers to add: 0 or minus infinity, or what the call itself adds."""

    mask: Tensor | None
    future: Tensor | None

    @classmethod
    def of(cls, scores: Tensor, mask: Tensor | None, is_causal: bool) -> "_Masks":
        """The masks of scores of this shape and number format."""
        future = None
        if is_causal:
            future = torch.full_like(scores[0, 0], -math.inf, memory_format=torch.contiguous_format).triu_(1)
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, -math.inf)
        elif mask is not None:
            # A mask at the lowest number of its type is meant as minus infinity.
            lowest = mask <= torch.finfo(mask.dtype).min
            mask = mask.to(scores.dtype).masked_fill(lowest, -math.inf)
        return cls(None if mask is None else mask.expand(scores.shape), future)

    def over(self, scores: Tensor, piece: _Piece) -> Tensor:
        """A piece of the scores, masked in place."""
        if self.future is not None:
            # Only the lower part is kept before, so that keys of the future may hold any number, NaN too.
            queries = piece[2]
            scores.tril_(queries.start).add_(self.future[queries])
        return scores if self.mask is None else scores.add_(self.mask[piece])


def _pieces(pattern: Tensor) -> Iterator[_Piece]:
    """A map cut into pieces that lie in one stretch of memory each; whole where it is not made by a processor."""
    texts, heads, queries, keys = pattern.shape
    if pattern.device.type != "cpu":
        yield _WHOLE
        return
    rows = max(1, PIECE_WEIGHTS // max(1, keys))
    some_heads = max(1, rows // max(1, queries))
    some_texts = max(1, some_heads // max(1, heads))
    for text in range(0, texts, some_texts):
        for head in range(0, heads, some_heads):
            for query in range(0, queries, rows):
                yield (
                    slice(text, text + some_texts),
                    slice(head, head + some_heads),
                    slice(query, query + rows),
                )


def products(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """Queries with as many keys, times the factor, in float32 (float64 stays), as a new tensor."""
    exact = torch.promote_types(query.dtype, torch.float32)
    # The factor goes to the queries, which are fewer than the scores.
    return (query.to(exact) * scale) @ key.to(exact).transpose(-1, -2)


def masked_scores(query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool, scale: float) -> Tensor:
    """The scores in float32 (float64 stays), masked ones at minus infinity, as torch documents its call."""
    scores = products(query, spread_heads(key, query.shape[1]), scale)
    return _Masks.of(scores, mask, is_causal).over(scores, _WHOLE)


def key_value_heads(heads: int, kv_heads: int) -> tuple[int, ...]:
    """The key-value head that each query head reads: neighbours share one in grouped-query attention."""
    return tuple(head * kv_heads // heads for head in range(heads))


def spread_heads(tensor: Tensor, heads: int) -> Tensor:
    """Key/value heads (second dimension) so that each query head has its own."""
    return tensor if tensor.shape[1] == heads else tensor[:, key_value_heads(heads, tensor.shape[1])]


def _disagreement(pattern: Tensor, value: Tensor, out: Tensor) -> float:
    """Max |pattern @ v - output| over queries that see anything, in float32."""
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
