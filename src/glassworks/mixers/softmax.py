"""Softmax attention: each token reads a weighted average of the values before it."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from glassworks.mixers.base import Gates, Heads, Memory, Mixed, Mixer, MixerSpec, foreign_memory, real_tokens

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


class Softmax(MixerSpec):
    """Softmax attention: out_i = sum_j softmax_j(scale q_i . k_j) v_j over j <= i."""

    kind: Literal["softmax"] = "softmax"
    kernel: Kernel = "auto"
    """Who computes it: torch's fused kernel (sdpa), plain operations (plain), or whichever is faster."""

    keeps_keys: ClassVar[bool] = True
    uses_softmax: ClassVar[bool] = True

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
        padding = real_tokens(self, gates)
        if memory is not None:
            k, v, padding = self._after(memory, k, v, padding)
        attend = _plain if self._is_plain_faster(q, k) else _fused
        out = attend(q, k, v, self.heads, padding)
        return Mixed(out=out, memory=KeyValues(k, v, padding) if remember else None)

    def _after(
        self, memory: Memory, k: Tensor, v: Tensor, padding: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        if not isinstance(memory, KeyValues):
            raise foreign_memory(self, memory)
        if padding is not None or memory.padding is not None:
            past, new = memory.padding, padding
            past = _all_real(memory.keys) if past is None else past
            new = _all_real(k) if new is None else new
            padding = torch.cat([past, new], 1)
        return torch.cat([memory.keys, k], 2), torch.cat([memory.values, v], 2), padding

    def _is_plain_faster(self, q: Tensor, k: Tensor) -> bool:
        # Milliseconds plain/fused for 64 sequences of 256 tokens, forward and backward, on two cores with AMX,
        # for one head of 256, 128, 64 and four of 32: bfloat16 13/27, 9/19, 6/15, 56/56; float32 49/56, 26/27,
        # 16/16, 106/40; float32 at matmul precision "medium" (one core) 46/95, 25/56, 17/44, 175/167.
        if self.kernel != "auto" or k.device.type != "cpu" or k.shape[2] > PLAIN_KEYS:
            return self.kernel == "plain"
        return _computed_in(q) == torch.bfloat16 or q.shape[-1] >= WIDE_HEAD or _is_float32_relaxed()


def _fused(q: Tensor, k: Tensor, v: Tensor, heads: Heads, padding: Tensor | None) -> Tensor:
    query, key = q.shape[2], k.shape[2]
    mask = None
    if padding is not None:
        mask = _allowed(query, key, padding, q.device)
    elif 1 < query < key:
        mask = _allowed(query, key, None, q.device)
    if heads.group > 1:
        k, v = k.repeat_interleave(heads.group, 1), v.repeat_interleave(heads.group, 1)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None and query == key, scale=heads.scale
    )


def _plain(q: Tensor, k: Tensor, v: Tensor, heads: Heads, padding: Tensor | None) -> Tensor:
    batch, head, query, width = q.shape
    kv_head, key = k.shape[1:3]
    rows = heads.group * query
    bias = _bias(q, key, padding)
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


def _bias(q: Tensor, key: int, padding: Tensor | None) -> Tensor:
    """0 where a query may look, minus infinity elsewhere; broadcasts to batch, head, query, key."""
    query, kind = q.shape[2], _computed_in(q)
    if padding is not None:
        allowed = _allowed(query, key, padding, q.device)
        return torch.zeros(allowed.shape, dtype=kind, device=q.device).masked_fill(~allowed, float("-inf"))
    if torch.compiler.is_compiling():
        return _causal_bias(query, key, kind, q.device)
    return _kept_causal_bias(query, key, kind, q.device)


def _causal_bias(query: int, key: int, kind: torch.dtype, device: torch.device) -> Tensor:
    return torch.full((query, key), float("-inf"), dtype=kind, device=device).triu(key - query + 1)


@lru_cache(maxsize=8)
def _kept_causal_bias(query: int, key: int, kind: torch.dtype, device: torch.device) -> Tensor:
    # A tensor made in inference mode could not serve training later.
    with torch.inference_mode(False):
        return _causal_bias(query, key, kind, device)


def _allowed(query: int, key: int, padding: Tensor | None, device: torch.device) -> Tensor:
    """True where a query may look. A padded token may look at itself, for an empty row would be NaN."""
    causal = torch.ones(query, key, dtype=torch.bool, device=device).tril(key - query)
    if padding is None:
        return causal
    itself = causal & ~torch.ones_like(causal).tril(key - query - 1)
    return (padding[:, None, None, :] & causal) | itself


def _all_real(keys: Tensor) -> Tensor:
    return torch.ones(keys.shape[0], keys.shape[2], dtype=torch.bool, device=keys.device)


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
