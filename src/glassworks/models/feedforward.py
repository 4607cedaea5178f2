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
        self.proj = nn.Linear(spec.width, spec.width, bias=spec.bias)

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """W_F x."""
        return self.proj(x)


class TwoLayers(nn.Module):
    """Up, a nonlinearity, down."""

    def __init__(self, spec: StackSpec, nonlinearity: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.up_proj = nn.Linear(spec.width, spec.width_of_feedforward, bias=spec.bias)
        self.down_proj = nn.Linear(spec.width_of_feedforward, spec.width, bias=spec.bias)
        self.nonlinearity = nonlinearity

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """down(nonlinearity(up(x)))."""
        return self.down_proj(self.nonlinearity(self.up_proj(x)))


class Gated(nn.Module):
    """SwiGLU: the hidden numbers are multiplied by a gate of their own."""

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(spec.width, spec.width_of_feedforward, bias=spec.bias)
        self.up_proj = nn.Linear(spec.width, spec.width_of_feedforward, bias=spec.bias)
        self.down_proj = nn.Linear(spec.width_of_feedforward, spec.width, bias=spec.bias)

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """down(silu(gate(x)) * up(x))."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


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
            return Gated(spec)


def _gelu_tanh(x: Tensor) -> Tensor:
    """GPT-2's approximation of GELU."""
    return F.gelu(x, approximate="tanh")
