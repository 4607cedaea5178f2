"""Infini-attention in loops over sequences, heads and segments, in the letters of the paper (infini.md 1)."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.mixers.base import Gates
from glassworks.mixers.rotation import Rotation


@dataclass(frozen=True)
class Rules:
    """What the published descriptions leave open, and the sizes."""

    segment: int
    write: Literal["linear", "delta"]
    first: Literal["local", "zero"]
    scale: float
    rotary_base: float | None


def by_segments(
    qkv: tuple[Tensor, Tensor, Tensor], beta: Float[Tensor, " head"], rules: Rules, gates: Gates | None = None
) -> Float[Tensor, "batch head position value_width"]:
    """A = sigmoid(beta) A_mem + (1 - sigmoid(beta)) A_dot for every head of every sequence; zeros at padding."""
    q, k, v = (x.double() for x in qkv)
    group = q.shape[1] // k.shape[1]
    gates = Gates() if gates is None else gates
    strengths = torch.ones_like(k[..., 0]) if gates.write is None else gates.write.double()
    sequences: list[Tensor] = []
    for b in range(q.shape[0]):
        heads: list[Tensor] = []
        for h in range(q.shape[1]):
            rows = torch.zeros_like(q[b, h, :, :1] * v[b, 0])
            for text in _texts(gates, b, q.shape[2]):
                kv = h // group
                chosen = q[b, h, text], k[b, kv, text], v[b, kv, text], strengths[b, kv, text]
                rows = rows.index_put((torch.tensor(text),), _one_text(chosen, beta[h].double(), rules))
            heads.append(rows)
        sequences.append(torch.stack(heads))
    return torch.stack(sequences)


def _texts(gates: Gates, sequence: int, tokens: int) -> list[list[int]]:
    """The real tokens of each text in a sequence."""
    texts: list[list[int]] = [[]]
    for t in range(tokens):
        if gates.real is not None and not bool(gates.real[sequence, t]):
            continue
        if gates.starts is not None and bool(gates.starts[sequence, t]):
            texts.append([])
        texts[-1].append(t)
    return [text for text in texts if text]


def _one_text(qkvw: tuple[Tensor, Tensor, Tensor, Tensor], beta: Tensor, rules: Rules) -> Tensor:
    """One head of one text; the fourth tensor is how many times each pair is written."""
    N, g = rules.segment, torch.sigmoid(beta)
    M_s = torch.zeros_like(qkvw[1][0, :, None] * qkvw[2][0, None, :])
    z_s = torch.zeros_like(M_s[:, 0])
    rows: list[Tensor] = []
    for start in range(0, len(qkvw[0]), N):
        Q, K, V, w = (x[start : start + N] for x in qkvw)
        A_dot = _local(Q, K, V, rules)
        nothing_stored = not bool(z_s.any())
        if nothing_stored:
            rows.append(A_dot if rules.first == "local" else (1 - g) * A_dot)
        else:
            rows.append(g * _retrieved(Q, M_s, z_s) + (1 - g) * A_dot)
        if len(K) == N:
            known = 0 if rules.write == "linear" or nothing_stored else _retrieved(K, M_s, z_s)
            M_s = M_s + _sigma(K).T @ (w[:, None] * (V - known))
            z_s = z_s + (w[:, None] * _sigma(K)).sum(0)
    return torch.cat(rows)


def _local(Q: Tensor, K: Tensor, V: Tensor, rules: Rules) -> Tensor:
    """A_dot: places are counted from the segment's start."""
    placed = [Q, K]
    if rules.rotary_base is not None:
        places = torch.arange(len(Q))[None]
        rotation = Rotation.at(places, Q.shape[1], rules.rotary_base, torch.float64)
        placed = [rotation.turn(x[None, None])[0, 0] for x in placed]
    queries, keys = placed
    mask = torch.full((len(Q), len(Q)), float("-inf"), dtype=Q.dtype).triu(1)
    return torch.softmax(rules.scale * queries @ keys.T + mask, -1) @ V


def _retrieved(Q: Tensor, M: Tensor, z: Tensor) -> Tensor:
    """A_mem, each row over its own normaliser."""
    return (_sigma(Q) @ M) / (_sigma(Q) @ z)[:, None]


def _sigma(x: Tensor) -> Tensor:
    """ELU(x) + 1, without the subtraction that would lose small values."""
    return torch.where(x > 0, x + 1, torch.exp(torch.clamp(x, max=0)))
