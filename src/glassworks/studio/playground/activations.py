"""Activations and their slopes over whole layers, written in place: no graph is kept, so that a step stays a few calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

Apply = Callable[[Tensor, Tensor], object]
Slope = Callable[[Tensor, Tensor, Tensor], object]
LEAK = 0.01


@dataclass(frozen=True)
class Activation:
    """What a layer does with its sums; `slope` writes the derivative from sums and outputs."""

    apply: Apply
    """(sums, outputs): writes the outputs, which may be the same memory unless `keeps_sums`."""
    slope: Slope
    """(sums, outputs, slopes): writes the slopes."""
    keeps_sums: bool = False
    """Its slope cannot be told from its outputs."""


@cache
def _one() -> Tensor:
    return torch.ones((), dtype=torch.float64)


def _tanh(sums: Tensor, outputs: Tensor) -> None:
    torch.tanh(sums, out=outputs)


def _tanh_slope(sums: Tensor, outputs: Tensor, slopes: Tensor) -> None:
    torch.addcmul(_one(), outputs, outputs, value=-1, out=slopes)


def _sigmoid(sums: Tensor, outputs: Tensor) -> None:
    torch.sigmoid(sums, out=outputs)


def _sigmoid_slope(sums: Tensor, outputs: Tensor, slopes: Tensor) -> None:
    torch.addcmul(outputs, outputs, outputs, value=-1, out=slopes)


def _relu(sums: Tensor, outputs: Tensor) -> None:
    torch.clamp_min(sums, 0, out=outputs)


def _relu_slope(sums: Tensor, outputs: Tensor, slopes: Tensor) -> None:
    # 0 at 0, as in the original and in PyTorch.
    torch.sign(outputs, out=slopes)


def _linear(sums: Tensor, outputs: Tensor) -> None:
    if outputs.data_ptr() != sums.data_ptr():
        outputs.copy_(sums)


def _linear_slope(sums: Tensor, outputs: Tensor, slopes: Tensor) -> None:
    slopes.fill_(1)


def _gelu(sums: Tensor, outputs: Tensor) -> None:
    outputs.copy_(torch.nn.functional.gelu(sums))


def _gelu_slope(sums: Tensor, outputs: Tensor, slopes: Tensor) -> None:
    density = sums.square().mul_(-0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))
    torch.special.ndtr(sums, out=slopes)
    slopes.addcmul_(sums, density)


def _silu(sums: Tensor, outputs: Tensor) -> None:
    outputs.copy_(torch.nn.functional.silu(sums))


def _silu_slope(sums: Tensor, outputs: Tensor, slopes: Tensor) -> None:
    # s + z s (1 - s), and z s is the output.
    torch.sigmoid(sums, out=slopes)
    slopes.add_(outputs * (1 - slopes))


def _leaky(sums: Tensor, outputs: Tensor) -> None:
    outputs.copy_(torch.nn.functional.leaky_relu(sums, LEAK))


def _leaky_slope(sums: Tensor, outputs: Tensor, slopes: Tensor) -> None:
    torch.gt(outputs, 0, out=slopes)
    slopes.clamp_min_(LEAK)


def _sine(sums: Tensor, outputs: Tensor) -> None:
    torch.sin(sums, out=outputs)


def _sine_slope(sums: Tensor, outputs: Tensor, slopes: Tensor) -> None:
    torch.cos(sums, out=slopes)


def _step(sums: Tensor, outputs: Tensor) -> None:
    torch.gt(sums, 0, out=outputs)


def _step_slope(sums: Tensor, outputs: Tensor, slopes: Tensor) -> None:
    # Flat on both sides: nothing in front of a step learns, which is why the smooth ones were taken up.
    slopes.zero_()


ACTIVATIONS: Mapping[str, Activation] = {
    "relu": Activation(_relu, _relu_slope),
    "tanh": Activation(_tanh, _tanh_slope),
    "sigmoid": Activation(_sigmoid, _sigmoid_slope),
    "linear": Activation(_linear, _linear_slope),
    "gelu": Activation(_gelu, _gelu_slope, keeps_sums=True),
    "silu": Activation(_silu, _silu_slope, keeps_sums=True),
    "leaky_relu": Activation(_leaky, _leaky_slope, keeps_sums=True),
    "sine": Activation(_sine, _sine_slope, keeps_sums=True),
    "step": Activation(_step, _step_slope, keeps_sums=True),
}


def features_of(points: Float[Tensor, "points 2"], names: tuple[str, ...]) -> Float[Tensor, "inputs points"]:
    """What the network reads of each point, one row per feature and a last row of ones for the biases."""
    x, y = points[:, 0], points[:, 1]
    rows = [_FEATURES[name](x, y) for name in names]
    return torch.stack([*rows, torch.ones_like(x)])


_FEATURES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "x": lambda x, y: x,
    "y": lambda x, y: y,
    "xSquared": lambda x, y: x * x,
    "ySquared": lambda x, y: y * y,
    "xTimesY": lambda x, y: x * y,
    "sinX": lambda x, y: torch.sin(x),
    "sinY": lambda x, y: torch.sin(y),
    "cosX": lambda x, y: torch.cos(x),
    "cosY": lambda x, y: torch.cos(y),
}
