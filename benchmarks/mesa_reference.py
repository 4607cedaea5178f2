"""The mesa layer as others compute it, written plainly: what `benchmarks/mesa.py` measures ours against.

All take q, k, v as (row, token, width) in float32, and the lambda of R_0 = lambda I.
"""

from typing import Any

import torch
from torch import Tensor


def recursion(q: Tensor, k: Tensor, v: Tensor, strength: float) -> Tensor:
    """R_t by one rank-one update for each token, differentiated by autograd; then masked linear attention."""
    rows, tokens, width = q.shape
    inverse = strength * torch.eye(width, dtype=q.dtype).expand(rows, width, width)
    turned = []
    for t in range(tokens):
        key = k[:, t, :, None]
        u = inverse @ key
        inverse = inverse - u @ u.mT / (1 + key.mT @ u)
        turned.append((inverse @ q[:, t, :, None])[..., 0])
    return torch.tril(torch.stack(turned, 1) @ k.mT) @ v


def reversing(q: Tensor, k: Tensor, v: Tensor, strength: float) -> Tensor:
    """The original paper's own algorithm: the backward pass undoes the rank-one updates, keeping R_T alone."""
    turned = _Reversed.apply(q, k, strength)
    return torch.tril(turned @ k.mT) @ v


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, strength: float) -> Tensor:
        rows, tokens, width = q.shape
        inverse = strength * torch.eye(width, dtype=q.dtype).repeat(rows, 1, 1)
        turned = torch.empty_like(q)
        for t in range(tokens):
            u = torch.bmm(inverse, k[:, t, :, None])
            scaled = u / (1 + torch.bmm(k[:, t, None], u))
            inverse.baddbmm_(u, scaled.mT, alpha=-1)
            turned[:, t] = torch.bmm(inverse, q[:, t, :, None])[..., 0]
        ctx.save_for_backward(q, k, inverse)
        return turned

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        q, k, last = ctx.saved_tensors
        (due,) = gradients
        inverse, owed = last.clone(), torch.zeros_like(last)
        by_q, by_k = torch.empty_like(q), torch.empty_like(k)
        for t in reversed(range(q.shape[1])):
            key, gradient = k[:, t, :, None], due[:, t, :, None]
            by_q[:, t] = torch.bmm(inverse, gradient)[..., 0]
            owed.baddbmm_(gradient, q[:, t, None])
            u = torch.bmm(inverse, key)
            left, right = torch.bmm(owed.mT, u), torch.bmm(owed, u)
            by_k[:, t] = -torch.bmm(inverse, left + right)[..., 0]
            # (I - k u^T) owed (I - u k^T), and the update undone.
            middle = torch.bmm(u.mT, right)
            owed.baddbmm_(key, left.mT, alpha=-1).baddbmm_(right - middle * key, key.mT, alpha=-1)
            inverse.baddbmm_(u / (torch.bmm(key.mT, u) - 1), u.mT, alpha=-1)
        return by_q, by_k, None


def unrolled_conjugate_gradient(
    q: Tensor, k: Tensor, v: Tensor, strength: float, iterations: int = 30, length: int = 64
) -> Tensor:
    """Chunkwise conjugate gradient as MesaNet's, every iteration differentiated by autograd."""
    rows, tokens, width = q.shape
    q, k, v = (x.reshape(rows, tokens // length, length, width) for x in (q, k, v))
    starts, crosses = ((k.mT @ x).cumsum(1) - k.mT @ x for x in (k, v))

    def times(x: Tensor) -> Tensor:
        return x @ starts + torch.tril(x @ k.mT) @ k + x / strength

    x, rest = torch.zeros_like(q), q
    direction, norm = rest, rest.square().sum(-1, keepdim=True)
    for _ in range(iterations):
        image = times(direction)
        step = norm / ((direction * image).sum(-1, keepdim=True) + 1e-5)
        x, rest = x + step * direction, rest - step * image
        following = rest.square().sum(-1, keepdim=True)
        direction, norm = rest + following / (norm + 1e-5) * direction, following
    return (x @ crosses + torch.tril(x @ k.mT) @ v).reshape(rows, tokens, width)
