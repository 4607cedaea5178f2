"""Attention that is linear in its values and uses no softmax: its map, got by mixing one-hot values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from glassworks.anatomy.calls import tensor_of
from glassworks.core.errors import StrangeModel
from glassworks.core.text import say

# What linearity may miss by, relative to the largest output; sums over a few hundred keys in the model's own
# precision.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 5e-2}


def takes_queries_keys_values(args: tuple[Any, ...]) -> bool:
    """Whether a module's first three arguments look like q, k and v.

    Four dimensions, one width of q and k.
    """
    if len(args) < 3 or not all(isinstance(a, Tensor) and a.ndim == 4 for a in args[:3]):
        return False
    query, key, value = args[:3]
    return query.shape[-1] == key.shape[-1] and key.shape[:3] == value.shape[:3]


def replay(mixer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], value: Tensor) -> Tensor:
    """The mixer's output for other values; hooks of the mixer itself do not fire."""
    with torch.no_grad():
        out = tensor_of(mixer.forward(*args[:2], value, *args[3:], **kwargs), dimensions=4)
    assert out is not None
    return out


def one_hot_map(mixer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The attention map (batch head query key).

    Column s is the output for values that are one at s, zero elsewhere.
    """
    value: Tensor = args[2]
    keys, width = value.shape[-2:]
    columns: list[Tensor] = []
    for first in range(0, keys, width):
        hot = torch.zeros_like(value)
        count = min(width, keys - first)
        hot[:, :, torch.arange(first, first + count), torch.arange(count)] = 1.0
        columns.append(replay(mixer, args, kwargs, hot)[..., :count])
    return torch.cat(columns, dim=-1)


def check_linearity(mixer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], layer: int) -> None:
    """Raises StrangeModel unless the mixer is linear in its values.

    M(2v + roll v) = 2 m(v) + m(roll v), m(0) = 0.
    """
    value: Tensor = args[2]
    rolled = value.roll(1, dims=-1)
    left = replay(mixer, args, kwargs, 2 * value + rolled)
    right = 2 * replay(mixer, args, kwargs, value) + replay(mixer, args, kwargs, rolled)
    error = float((left - right).abs().max() + replay(mixer, args, kwargs, torch.zeros_like(value)).abs().max())
    allowed = TOLERANCE[value.dtype] * max(1.0, float(left.abs().max()))
    if not error <= allowed:
        raise StrangeModel(
            say("the mixer of layer {layer} has no attention map: it is not linear in its values", layer=layer),
            given=f"{type(mixer).__name__}, {error:.3g} (allowed {allowed:.3g})",
            right=say("a mixer without softmax must be linear in v, so that one-hot values show its map"),
        )
