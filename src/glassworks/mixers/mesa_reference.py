"""The mesa layer one token after the other, in the letters of the papers (mesa.md 3)."""

import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.mixers.base import Gates


def regressions(
    qkv: tuple[Tensor, Tensor, Tensor],
    gates: Gates | None,
    regulariser: Float[Tensor, "kv_head head_width"],
    constant: bool,
) -> Float[Tensor, "batch head position value_width"]:
    """o_t = G_t R_t q_t for queries (already scaled), keys and values; `regulariser` is the diagonal of R_0^-1.

    Under a keep gate the regulariser fades with the data, by the recursion of the original paper's appendix, unless it
    is `constant`, as in MesaNet, where no recursion for R_t is known and each token costs a solve.
    """
    q, k, v = qkv
    batch, kv_heads, length, width = k.shape
    q = q.unflatten(1, (kv_heads, -1))
    gamma, beta = torch.ones_like(k[..., 0]), torch.ones_like(k[..., 0])
    if gates is not None and gates.keep is not None:
        gamma = gates.keep.double()
    if gates is not None and gates.write is not None:
        beta = gates.write.double()
    if gates is not None and gates.real is not None:
        real = gates.real[:, None]
        gamma, beta = torch.where(real, gamma, 1), torch.where(real, beta, 0)
    Lambda = torch.diag_embed(regulariser)
    R_t = torch.diag_embed(1 / regulariser).expand(batch, -1, -1, -1)
    H_t = torch.zeros(batch, kv_heads, width, width, dtype=k.dtype, device=k.device)
    G_t = torch.zeros(batch, kv_heads, v.shape[3], width, dtype=k.dtype, device=k.device)
    rows: list[Tensor] = []
    for t in range(length):
        k_t, v_t, q_t = k[:, :, t], v[:, :, t], q[:, :, :, t]
        gamma_t, beta_t = gamma[:, :, t, None, None], beta[:, :, t, None, None]
        G_t = gamma_t * G_t + beta_t * v_t[..., :, None] * k_t[..., None, :]
        if constant:
            H_t = gamma_t * H_t + beta_t * k_t[..., :, None] * k_t[..., None, :]
            q_star = torch.linalg.solve(H_t + Lambda, q_t.mT).mT
        else:
            # Rounding makes R_t a little asymmetric, and as u reads one side of it, forgetting would blow that up.
            R_t = (R_t + R_t.mT) / 2
            u = (R_t @ k_t[..., None])[..., 0]
            within = (k_t * u).sum(-1)[..., None, None]
            R_t = (R_t - beta_t * u[..., :, None] * u[..., None, :] / (gamma_t + beta_t * within)) / gamma_t
            q_star = q_t @ R_t
        rows.append(q_star @ G_t.mT)
    return torch.stack(rows, 3).flatten(1, 2)
