"""Softmax attention: each token reads a weighted average of the values before it."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from glassworks.mixers.base import (
    Gates,
    Heads,
    Memory,
    Mixed,
    Mixer,
    MixerSpec,
    Sight,
    foreign_memory,
    refuse_asked_gates,
)

Kernel = Literal["auto", "sdpa", "plain"]

# Beyond this many keys the score tensor of the plain kernel no longer pays for the memory it takes.
PLAIN_KEYS = 1024
# From this width on the plain kernel's two matrix products outweigh its passes over the scores.
WIDE_HEAD = 128


@dataclass(frozen=True)
class KeyValues(Memory):
    """The memory of softmax attention: every key and value so far, and which of them are real tokens."""

    keys: Float[Tensor, "batch kv_head key head_width"]
    values: Float[Tensor, "batch kv_head key value_width"]
    padding: Bool[Tensor, "batch key"] | None
    starts: Bool[Tensor, "batch key"] | None = None
    """True where a text begins, of those packed into one sequence; None: nowhere."""


class Softmax(MixerSpec):
    """Softmax attention: out_i = sum_j softmax_j(scale q_i . k_j) v_j over j <= i."""

    kind: Literal["softmax"] = "softmax"
    kernel: Kernel = "auto"
    """Who computes it: torch's fused kernel (sdpa), plain operations (plain), or whichever is faster."""

    keeps_keys: ClassVar[bool] = True
    uses_softmax: ClassVar[bool] = True
    resets: ClassVar[bool] = True

    def build(self, heads: Heads) -> Mixer:
        """The module for these sizes."""
        return SoftmaxMixer(heads, self.kernel)

    def reference(
        self,
        q: Float[Tensor, "batch head position head_width"],
        k: Float[Tensor, "batch kv_head position head_width"],
        v: Float[Tensor, "batch kv_head position value_width"],
        scale: float | None = None,
    ) -> Float[Tensor, "batch head position value_width"]:
        """One query at a time: exponentials of the scores up to it, divided by their sum."""
        q, k, v = q.double(), k.double(), v.double()
        scale = float(q.shape[-1] ** -0.5) if scale is None else scale
        group = q.shape[1] // k.shape[1]
        heads: list[Tensor] = []
        for head in range(q.shape[1]):
            keys, values = k[:, head // group], v[:, head // group]
            rows: list[Tensor] = []
            for i in range(q.shape[2]):
                scores = scale * (keys[:, : i + 1] * q[:, head, i, None]).sum(-1)
                weights = torch.exp(scores - scores.amax(-1, keepdim=True))
                weights = weights / weights.sum(-1, keepdim=True)
                rows.append((weights[..., None] * values[:, : i + 1]).sum(1))
            heads.append(torch.stack(rows, 1))
        return torch.stack(heads, 1)


class SoftmaxMixer(Mixer):
    """Softmax attention by torch's fused kernel or by plain operations, whichever is faster here."""

    is_one_softmax: ClassVar[bool] = True

    def __init__(self, heads: Heads, kernel: Kernel = "auto") -> None:
        super().__init__(heads)
        self.kernel: Kernel = kernel

    def mix(
        self,
        q: Float[Tensor, "batch head query head_width"],
        k: Float[Tensor, "batch kv_head key head_width"],
        v: Float[Tensor, "batch kv_head key value_width"],
        memory: Memory | None = None,
        gates: Gates | None = None,
        remember: bool = True,
    ) -> Mixed:
        """Attends to the memory's keys and to the new ones; the memory returned holds both."""
        refuse_asked_gates(self, gates, ())
        # What is asked of the tokens is asked of the remembered ones too: only the sight spans both as it is given.
        seen = _Seen() if gates is None else _Seen(gates.real, gates.starts, gates.sight)
        if memory is not None:
            k, v, seen = self._after(memory, k, v, seen)
        attend = _plain if self._is_plain_faster(q, k) else _fused
        out = attend(q, k, v, self.heads, seen)
        return Mixed(out=out, memory=KeyValues(k, v, seen.padding, seen.starts) if remember else None)

    def _after(self, memory: Memory, k: Tensor, v: Tensor, seen: "_Seen") -> tuple[Tensor, Tensor, "_Seen"]:
        if not isinstance(memory, KeyValues):
            raise foreign_memory(self, memory)
        padding = _joined((memory.padding, memory.keys), (seen.padding, k), True)
        starts = _joined((memory.starts, memory.keys), (seen.starts, k), False)
        seen = replace(seen, padding=padding, starts=starts)
        return torch.cat([memory.keys, k], 2), torch.cat([memory.values, v], 2), seen

    def _is_plain_faster(self, q: Tensor, k: Tensor) -> bool:
        # Milliseconds plain/fused for 64 sequences of 256 tokens, forward and backward, on two cores with AMX,
        # for one head of 256, 128, 64 and four of 32: bfloat16 13/27, 9/19, 6/15, 56/56; float32 49/56, 26/27,
        # 16/16, 106/40; float32 at matmul precision "medium" (one core) 46/95, 25/56, 17/44, 175/167.
        if self.kernel != "auto" or k.device.type != "cpu" or k.shape[2] > PLAIN_KEYS:
            return self.kernel == "plain"
        return _computed_in(q) == torch.bfloat16 or q.shape[-1] >= WIDE_HEAD or _is_float32_relaxed()


@dataclass(frozen=True)
class _Seen:
    """Which keys each query looks at, and what is added to its scores."""

    padding: Tensor | None = None
    starts: Tensor | None = None
    sight: Sight | None = None

    @property
    def is_past(self) -> bool:
        """Whether every query looks at all keys up to it, and at nothing else."""
        return self.padding is None and self.starts is None and self.sight is None

    @property
    def added(self) -> Tensor | None:
        return None if self.sight is None else self.sight.bias

    def allowed(self, query: int, key: int, device: torch.device) -> Tensor | None:
        """True where a query may look, broadcasting to batch, head, query, key; None where it may look everywhere.

        A token that may look nowhere, as padding, looks at itself (or at all, looking ahead): an empty row would be NaN.
        """
        sight = Sight() if self.sight is None else self.sight
        if sight.ahead:
            return self._allowed_ahead(query, key)
        causal = torch.ones(query, key, dtype=torch.bool, device=device).tril(key - query)
        allowed = causal
        if sight.prefix is not None:
            begun = torch.arange(1, key + 1, device=device) if self.padding is None else self.padding.cumsum(1)
            early = begun <= sight.prefix[:, None]
            allowed = causal | (early[:, None, key - query :, None] & early[:, None, None, :])
        if self.padding is not None:
            allowed = self.padding[:, None, None, :] & allowed
        if self.starts is not None:
            allowed = self._same_text(query) & allowed
        if self.padding is None:
            return allowed
        return allowed | (causal & ~torch.ones_like(causal).tril(key - query - 1))

    def _allowed_ahead(self, query: int, key: int) -> Tensor | None:
        allowed = None if self.padding is None else self.padding[:, None, None, :]
        if self.starts is not None:
            same = self._same_text(query)
            allowed = same if allowed is None else same & allowed
        return None if allowed is None else allowed | ~allowed.any(-1, keepdim=True)

    def _same_text(self, query: int) -> Tensor:
        assert self.starts is not None, "asked for only where texts begin"
        text = self.starts.cumsum(1)
        return text[:, None, -query:, None] == text[:, None, None, :]


def _fused(q: Tensor, k: Tensor, v: Tensor, heads: Heads, seen: _Seen) -> Tensor:
    query, key = q.shape[2], k.shape[2]
    mask, is_causal = None, seen.is_past and query == key
    if not seen.is_past or 1 < query < key:
        mask = seen.allowed(query, key, q.device)
    if seen.added is not None:
        mask = _hidden(seen.added.to(q.dtype), mask)
    if heads.group > 1:
        k, v = k.repeat_interleave(heads.group, 1), v.repeat_interleave(heads.group, 1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal, scale=heads.scale)


def _plain(q: Tensor, k: Tensor, v: Tensor, heads: Heads, seen: _Seen) -> Tensor:
    batch, head, query, width = q.shape
    kv_head, key = k.shape[1:3]
    rows = heads.group * query
    bias = _bias(q, key, seen)
    # One operation writes scale * q k^T + bias, so that the scores pass through memory once. Query heads of
    # one group are further rows against the same keys, so that keys are never copied.
    scores = torch.baddbmm(
        bias.expand(batch, head, query, key).reshape(batch * kv_head, rows, key),
        q.reshape(batch * kv_head, rows, width),
        k.reshape(batch * kv_head, key, width).transpose(1, 2),
        alpha=heads.scale,
    )
    weights = torch.softmax(scores.view(batch, head, query, key), -1)
    return (weights.view(batch, kv_head, rows, key) @ v).view(batch, head, query, v.shape[-1])


def _bias(q: Tensor, key: int, seen: _Seen) -> Tensor:
    """What is added to scores, minus infinity where a query may not look; broadcasts to batch, head, query, key."""
    query, kind = q.shape[2], _computed_in(q)
    if not seen.is_past:
        allowed = seen.allowed(query, key, q.device)
        added = seen.added
        if added is None:
            shape = (query, key) if allowed is None else allowed.shape
            added = torch.zeros(shape, dtype=kind, device=q.device)
        return _hidden(added.to(kind), allowed)
    if torch.compiler.is_compiling():
        return _causal_bias(query, key, kind, q.device)
    return _kept_causal_bias(query, key, kind, q.device)


def _hidden(added: Tensor, allowed: Tensor | None) -> Tensor:
    """Numbers added to scores, minus infinity where a query may not look."""
    return added if allowed is None else torch.where(allowed, added, float("-inf"))


def _causal_bias(query: int, key: int, kind: torch.dtype, device: torch.device) -> Tensor:
    return torch.full((query, key), float("-inf"), dtype=kind, device=device).triu(key - query + 1)


@lru_cache(maxsize=8)
def _kept_causal_bias(query: int, key: int, kind: torch.dtype, device: torch.device) -> Tensor:
    # A tensor made in inference mode could not serve training later.
    with torch.inference_mode(False):
        return _causal_bias(query, key, kind, device)


def _joined(past: tuple[Tensor | None, Tensor], new: tuple[Tensor | None, Tensor], usual: bool) -> Tensor | None:
    """What is known of each remembered and new token, `usual` where nothing is; None where nothing is known of any."""
    if past[0] is None and new[0] is None:
        return None
    return torch.cat([_known(*past, usual), _known(*new, usual)], 1)


def _known(marks: Tensor | None, keys: Tensor, usual: bool) -> Tensor:
    if marks is not None:
        return marks
    return torch.full((keys.shape[0], keys.shape[2]), usual, dtype=torch.bool, device=keys.device)


# Torch's compiler cannot trace the question, and may take the answer of its first call.
@torch.compiler.assume_constant_result
def _is_float32_relaxed() -> bool:
    return torch.get_float32_matmul_precision() != "highest"


def _computed_in(q: Tensor) -> torch.dtype:
    """The number format of matrix products here, which autocast may lower."""
    device = q.device.type
    if q.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return q.dtype
