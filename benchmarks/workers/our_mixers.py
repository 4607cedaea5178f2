"""Our side of mixers that flash-linear-attention has too: forward and backward through one of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.workers.drawn import drawn, gradients_of
from benchmarks.workers.harness import Work, serve
from glassworks.mixers import Gates, Heads, Linear, Mesa, MixerSpec


def prepare(folder: Path, options: Mapping[str, Any]) -> Work:
    """Writes queries, keys, values, the gate of the past and the gradient that comes from above."""
    torch.save(drawn(options), folder / "drawn.pt")
    return dict


def _work(folder: Path, options: Mapping[str, Any], spec: MixerSpec, *, gated: bool = False) -> Work:
    mixer = spec.build(Heads(options["heads"], options["heads"], options["width"], 1.0))

    def mixed(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        gates = Gates(keep=keep) if gated else None
        return mixer(q, k, v, gates=gates, remember=False).out

    return gradients_of(folder, mixed, gated=gated)


def linear(folder: Path, options: Mapping[str, Any]) -> Work:
    """Linear attention."""
    return _work(folder, options, Linear())


def gated(folder: Path, options: Mapping[str, Any]) -> Work:
    """Linear attention whose sum fades by one number for each head and token."""
    return _work(folder, options, Linear(keep=True), gated=True)


def mesa(folder: Path, options: Mapping[str, Any]) -> Work:
    """The mesa layer, solved exactly."""
    return _work(folder, options, Mesa())


def exact_mesa(folder: Path, options: Mapping[str, Any]) -> Work:
    """The same layer in float64."""
    mixer = Mesa().build(Heads(options["heads"], options["heads"], options["width"], 1.0))

    def mixed(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        return mixer(q.double(), k.double(), v.double(), remember=False).out.to(q.dtype)

    return gradients_of(folder, mixed, gated=False)


if __name__ == "__main__":
    serve({"prepare": prepare, "linear": linear, "gated": gated, "mesa": mesa, "exact_mesa": exact_mesa})
