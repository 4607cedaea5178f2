"""What healing and fine-tuning share: the order of the examples, the learning rate of a step, the number format."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import nn

from glassworks.core.errors import Diverged
from glassworks.core.text import say
from glassworks.surgery.specs import Precision
from glassworks.tensors.devices import has_fast_bfloat16
from glassworks.tensors.seeds import Seed

T = TypeVar("T")

# The usual bound on the norm of all gradients together (BERT, Llama, the library's own trainer).
LARGEST_GRADIENT = 1.0


def arithmetic(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Products in bfloat16 where that is asked for, or where the device is fast at it ("auto"); weights stay as they are."""
    is_short = precision == "bfloat16" or (precision == "auto" and has_fast_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=is_short)


def drawn(found: Sequence[T], seed: Seed, first: int, count: int) -> list[T]:
    """Elements `first` to `first + count` of an endless sequence of shuffled passes over what was found.

    It depends on the seed alone, so that work taken up again sees what it would have seen.
    """
    size = len(found)
    passes = range(first // size, (first + count - 1) // size + 1)
    order = [int(place) for one in passes for place in seed.child("pass", one).numpy().permutation(size)]
    return [found[place] for place in order[first - passes[0] * size :][:count]]


def rate_at(step: int, steps: int, largest: float, warmup: float = 0.0) -> float:
    """The learning rate of a step: up to the largest over the first share of steps, then straight down to zero."""
    rising = max(1, round(warmup * steps)) if warmup else 0
    if step < rising:
        return largest * (step + 1) / rising
    return largest * (steps - step) / max(1, steps - rising)


def update(optimiser: torch.optim.Optimizer, loss: torch.Tensor, rate: float, step: int) -> float:
    """One update from a loss; returns the loss. Raises Diverged, before anything is changed, where it is not finite."""
    value = float(loss.detach())
    parameters: list[nn.Parameter] = [p for group in optimiser.param_groups for p in group["params"]]
    optimiser.zero_grad(set_to_none=True)
    if not torch.isfinite(loss.detach()):
        raise Diverged(
            say("training met NaN or infinity in {what} at step {step}", what="loss", step=step),
            given=rate,
            right=say("a smaller learning rate; no state was kept, for none was good"),
        )
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    return value
