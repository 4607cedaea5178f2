"""flash-linear-attention's side of mixers: its naive functions, which are plain torch and run on a processor.

Its fast kernels are written for GPUs, and are not what is measured here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fla.ops.linear_attn.naive import naive_chunk_linear_attn
from fla.ops.mesa_net.naive import naive_mesa_net_CG
from fla.ops.simple_gla.naive import naive_chunk_simple_gla
from torch import Tensor

from benchmarks.workers.drawn import Mixing, gradients_of
from benchmarks.workers.harness import Work, serve


def _work(folder: Path, mixing: Mixing, *, gated: bool = False) -> Work:
    """Its functions want tokens before heads."""

    def turned(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        return mixing(*(x.transpose(1, 2) for x in (q, k, v, keep))).transpose(1, 2)

    return gradients_of(folder, turned, gated=gated)


def linear(folder: Path, options: Mapping[str, Any]) -> Work:
    """Linear attention in chunks of 64."""
    return _work(folder, lambda q, k, v, _: naive_chunk_linear_attn(q, k, v, scale=1.0))


def gated(folder: Path, options: Mapping[str, Any]) -> Work:
    """One gate for each head, in chunks of 64; it takes the gate's logarithm."""
    return _work(folder, lambda q, k, v, keep: naive_chunk_simple_gla(q, k, v, keep.log(), scale=1.0)[0], gated=True)


def mesa(folder: Path, options: Mapping[str, Any]) -> Work:
    """Conjugate gradient with 30 iterations in chunks of 64, nothing forgotten, everything written in full."""

    def mixing(q: Tensor, k: Tensor, v: Tensor, _: Tensor) -> Tensor:
        still = q.new_zeros(q.shape[:3])
        ridge = q.new_ones(q.shape[2], q.shape[3])
        return naive_mesa_net_CG(q, k, v, still, ridge, still + 1, chunk_size=64)[0]

    return _work(folder, mixing)


if __name__ == "__main__":
    serve({"linear": linear, "gated": gated, "mesa": mesa})
