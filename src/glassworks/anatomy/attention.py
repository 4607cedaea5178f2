"""Watching attention itself: the scaled dot product, the model's own softmax, whatever the library calls.

A function mode sees every torch call of the watched forward pass, runs it unchanged and hands the parts (q,
k, v, scores, pattern, z) to a listener. With no listener for a part, nothing is computed for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from glassworks.anatomy.fused import RECALLED, AttentionCall, FusedCall, masked_scores, spread_heads
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say

PARTS = ("q", "k", "v", "scores", "pattern", "z")
_SDPA = {F.scaled_dot_product_attention}
_SOFTMAX = {F.softmax, torch.softmax, Tensor.softmax}
_PRODUCTS = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm}
_PRODUCTS_WITH_BIAS = {torch.baddbmm, Tensor.baddbmm}
_PACKED = {F.multi_head_attention_forward}


@runtime_checkable
class Listener(Protocol):
    """Receives the parts of one attention call; heads stand second, positions third, in every tensor."""

    def wants(self, part: str) -> bool:
        """Whether this part shall be handed over."""
        ...

    def edits(self, part: str) -> bool:
        """Whether the listener may replace this part."""
        ...

    def see(self, part: str, tensor: Tensor) -> Tensor | None:
        """Takes a part; a returned tensor replaces it in the pass."""
        ...

    def heads(self, rows: int) -> int:
        """How many heads there are among so many rows of batch and heads together."""
        ...

    def recall(self, fused: FusedCall) -> None:
        """Takes a fused call in place of its scores and pattern, to have them worked out now or later."""
        ...

    def finish(self, call: AttentionCall) -> None:
        """Ends a call."""
        ...


class AttentionWatch(TorchFunctionMode):
    """Hands the attention calls of a forward pass to whatever `listener()` returns at that moment."""

    def __init__(self, listener: Callable[[], Listener | None]) -> None:
        super().__init__()
        self._listener = listener
        self._product: tuple[Tensor, Tensor, Tensor] | None = None
        self._waiting: tuple[Tensor, Listener] | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs one torch function, listening where it belongs to attention."""
        kwargs = kwargs or {}
        if func in _PRODUCTS or func in _PRODUCTS_WITH_BIAS:
            return self._on_product(func, args, kwargs)
        if func in _SOFTMAX:
            return self._on_softmax(func, args, kwargs)
        if func in _SDPA:
            listener = self._listener()
            return func(*args, **kwargs) if listener is None else _scaled_dot_product(func, listener, *args, **kwargs)
        if func in _PACKED:
            return self._on_packed(func, args, kwargs)
        return func(*args, **kwargs)

    def _on_softmax(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        listener = self._listener()
        given: Any = args[0] if args else kwargs.get("input")
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if listener is None or dim not in (-1, given.ndim - 1) or not self._is_attention(given):
            return func(*args, **kwargs)
        scores = given if given.ndim == 4 else given.unflatten(0, (-1, listener.heads(given.shape[0])))
        keys = self._show_factors(listener, scores)
        # Some models append a column that no key answers to (an attention sink) and drop it after the softmax.
        shown = _heard(listener, "scores", scores[..., :keys])
        if shown.data_ptr() != scores.data_ptr():
            whole = torch.cat([shown, scores[..., keys:]], dim=-1).reshape(given.shape)
            args, kwargs = ((whole, *args[1:]), kwargs) if args else (args, {**kwargs, "input": whole})
        pattern = func(*args, **kwargs)
        part = pattern.reshape(scores.shape)[..., :keys]
        heard = _heard(listener, "pattern", part)
        self._waiting = (heard, listener)
        return pattern if heard is part else torch.cat([heard, pattern[..., keys:]], dim=-1).reshape(given.shape)

    def _is_attention(self, scores: Tensor) -> bool:
        """Four dimensions; or three, batch and heads together, where they are the product just seen."""
        product = self._product
        return scores.ndim == 4 or (scores.ndim == 3 and product is not None and product[2].shape == scores.shape)

    def _show_factors(self, listener: Listener, scores: Tensor) -> int:
        """Hands over the queries and keys whose product became these scores; returns the number of keys."""
        product, self._product = self._product, None
        if product is None:
            return scores.shape[-1]
        queries, keys, out = product
        count = out.shape[-1]
        if scores.numel() // scores.shape[-1] * count != out.numel() or count > scores.shape[-1]:
            return scores.shape[-1]
        _show(listener, "q", _with_heads(queries, scores), say("the model computes its scores itself"))
        _show(listener, "k", _with_heads(keys.transpose(-1, -2), scores), say("the model computes its scores itself"))
        return count

    def _on_product(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        left, right = _factors(args, kwargs, offset=1 if func in _PRODUCTS_WITH_BIAS else 0)
        if self._waiting is not None and left.numel() == self._waiting[0].numel():
            pattern, listener = self._waiting
            self._waiting = None
            values = _with_heads(right, pattern)
            if listener.wants("v"):
                replaced = listener.see("v", values)
                if replaced is not None:
                    args = (args[0], replaced.reshape(right.shape), *args[2:])
            out = func(*args, **kwargs)
            if listener.wants("z"):
                replaced = listener.see("z", _with_heads(out, pattern))
                out = out if replaced is None else replaced.reshape(out.shape)
            listener.finish(AttentionCall("softmax"))
            return out
        out = func(*args, **kwargs)
        if self._listener() is not None and isinstance(out, Tensor) and out.ndim >= 3:
            self._product = (left, right, out)
        return out

    def _on_packed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """torch.nn.MultiheadAttention hides its insides; asked a second time with weights, it tells them."""
        listener = self._listener()
        out = func(*args, **kwargs)
        if listener is None:
            return out
        for part in ("q", "k", "v", "scores", "z"):
            if listener.edits(part):
                _refuse(part, say("torch.nn.MultiheadAttention hides it"))
        if listener.wants("pattern"):
            weights: Any = func(*args, **{**kwargs, "need_weights": True, "average_attn_weights": False})[1]
            if listener.see("pattern", weights if weights.ndim == 4 else weights[None]) is not None:
                _refuse("pattern", say("torch.nn.MultiheadAttention hides it"))
        listener.finish(AttentionCall("packed"))
        return out


def _scaled_dot_product(
    func: Any,
    listener: Listener,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> Tensor:
    query, key, value = _heard(listener, "q", query), _heard(listener, "k", key), _heard(listener, "v", value)
    scale = options.get("scale") or 1.0 / math.sqrt(query.shape[-1])
    if listener.edits("scores") or listener.edits("pattern"):
        scores = _heard(listener, "scores", masked_scores(query, key, attn_mask, is_causal, scale))
        pattern = _heard(listener, "pattern", torch.softmax(scores, dim=-1).nan_to_num_(0.0))
        out = torch.matmul(pattern.to(value.dtype), spread_heads(value, query.shape[1]))
        out = _heard(listener, "z", out)
        listener.finish(AttentionCall("sdpa", scale=scale))
        return out
    out = func(query, key, value, attn_mask=attn_mask, dropout_p=dropout_p, is_causal=is_causal, **options)
    if listener.wants("scores") or listener.wants("pattern"):
        listener.recall(FusedCall(query, key, value, out, attn_mask, is_causal, scale, dropout_p > 0))
    else:
        listener.finish(AttentionCall("sdpa", scale=scale))
    return _heard(listener, "z", out)


def hand_over(listener: Listener, fused: FusedCall) -> None:
    """Works the map of a fused call out at once for a listener that wants it."""
    for part in RECALLED:
        if listener.wants(part):
            tensor = fused.recalled(part)
            listener.see(part, tensor)
            if part == "pattern":
                listener.finish(fused.checked(tensor))


def _heard(listener: Listener, part: str, tensor: Tensor) -> Tensor:
    """The part, or what the listener puts in its place."""
    replaced = listener.see(part, tensor) if listener.wants(part) else None
    return tensor if replaced is None else replaced.to(tensor.dtype)


def _factors(args: tuple[Any, ...], kwargs: dict[str, Any], offset: int) -> tuple[Any, Any]:
    """The two factors of a product, given by position or by name in their order."""
    named = [value for value in kwargs.values() if isinstance(value, Tensor)]
    left, right = [*args, *named][offset : offset + 2]
    return left, right


def _with_heads(tensor: Tensor, like: Tensor) -> Tensor:
    """A product's operand with batch and heads apart, as in `like` (batch head query key)."""
    return tensor if tensor.ndim == 4 else tensor.reshape(*like.shape[:2], *tensor.shape[-2:])


def _show(listener: Listener, part: str, tensor: Tensor, source: Any) -> None:
    if listener.edits(part):
        _refuse(part, source)
    if listener.wants(part):
        listener.see(part, tensor)


def _refuse(part: str, source: Any) -> None:
    raise InvalidInput(
        say("{part} cannot be replaced here: {source}", part=part, source=source),
        right=say("load the model with attn_implementation='sdpa', or replace the pattern"),
    )
