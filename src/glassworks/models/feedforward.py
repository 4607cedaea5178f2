"""The map that each token goes through by itself."""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from glassworks.models.stack import Feedforward, StackSpec


class LinearMap(nn.Module):
    """One linear map from the stream to itself."""

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        self.proj = outward_map(spec, spec.width)

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """W_F x."""
        return self.proj(x)


class OutwardMap(nn.Linear):
    """A map back to the stream that starts smaller, by `shrink`, so that a deep sum starts no wider than a shallow one."""

    def __init__(self, source: int, target: int, bias: bool, shrink: float) -> None:
        super().__init__(source, target, bias=bias)
        self.shrink = shrink


def outward_map(spec: StackSpec, source: int) -> nn.Linear:
    """The last map of a part of a layer, whose result is added to the stream."""
    if spec.deep_output_scale:
        # GPT-2's: as many results are added as there are parts in all layers.
        return OutwardMap(source, spec.width, spec.bias, (2 * spec.depth) ** -0.5)
    return nn.Linear(source, spec.width, bias=spec.bias)


class TwoLayers(nn.Module):
    """Up, a nonlinearity, down."""

    def __init__(self, spec: StackSpec, nonlinearity: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.up_proj = nn.Linear(spec.width, spec.width_of_feedforward, bias=spec.bias)
        self.down_proj = outward_map(spec, spec.width_of_feedforward)
        self.nonlinearity = nonlinearity

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """down(nonlinearity(up(x)))."""
        return self.down_proj(self.nonlinearity(self.up_proj(x)))


class Gated(nn.Module):
    """SwiGLU and GEGLU: the hidden numbers are multiplied by a gate of their own, which went through a nonlinearity."""

    def __init__(self, spec: StackSpec, nonlinearity: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(spec.width, spec.width_of_feedforward, bias=spec.bias)
        self.up_proj = nn.Linear(spec.width, spec.width_of_feedforward, bias=spec.bias)
        self.down_proj = outward_map(spec, spec.width_of_feedforward)
        self.nonlinearity = nonlinearity

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """down(nonlinearity(gate(x)) * up(x))."""
        return self.down_proj(self.nonlinearity(self.gate_proj(x)) * self.up_proj(x))


def build_feedforward(spec: StackSpec, kind: Feedforward) -> nn.Module | None:
    """The feed-forward of this kind, or None for "none"."""
    match kind:
        case "none":
            return None
        case "linear":
            return LinearMap(spec)
        case "relu":
            return TwoLayers(spec, F.relu)
        case "gelu":
            return TwoLayers(spec, F.gelu)
        case "gelu_tanh":
            return TwoLayers(spec, _gelu_tanh)
        case "swiglu":
            return Gated(spec, F.silu)
        case "geglu":
            return Gated(spec, F.gelu)
        case "geglu_tanh":
            return Gated(spec, _gelu_tanh)


def _gelu_tanh(x: Tensor) -> Tensor:
    """GPT-2's approximation of GELU."""
    return F.gelu(x, approximate="tanh")
