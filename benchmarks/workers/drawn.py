"""What both sides of a mixer's comparison read, and the work that is timed: forward, then all gradients."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.workers.harness import Answer, Work

Mixing = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def drawn(options: Mapping[str, Any]) -> dict[str, Tensor]:
    """Queries and keys of length 1 and values, [sequence, head, token, width]; keep in (0.9, 1), [sequence, head, token]."""
    chance = torch.Generator().manual_seed(0)
    sizes = options["batch"], options["heads"], options["tokens"]
    q, k, v, above = (torch.randn(*sizes, options["width"], generator=chance) for _ in range(4))
    keep = 1 - 0.1 * torch.rand(sizes, generator=chance)
    return {"q": F.normalize(q, dim=-1), "k": F.normalize(k, dim=-1), "v": v, "keep": keep, "above": above}


def gradients_of(folder: Path, mixing: Mixing, *, gated: bool) -> Work:
    """Outputs and the gradients of queries, keys and values, and of the gate where there is one."""
    found = torch.load(folder / "drawn.pt", weights_only=True)
    names = ["q", "k", "v", *(["keep"] if gated else [])]
    inputs = {name: found[name].requires_grad_() for name in names}
    q, k, v, keep, above = (found[name] for name in ("q", "k", "v", "keep", "above"))

    def work() -> Answer:
        out = mixing(q, k, v, keep)
        found = torch.autograd.grad(out, list(inputs.values()), above)
        return {"out": out.detach()} | {f"gradient of {name}": one for name, one in zip(inputs, found, strict=True)}

    return work
