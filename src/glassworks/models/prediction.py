"""What stands between an encoder and the unembedding of a masked language model, and on its first token."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from glassworks.models.norms import build_norm
from glassworks.models.stack import Feedforward, StackSpec


class Prediction(nn.Module):
    """A map, the feed-forward's nonlinearity and a norm; `bias` is added behind the unembedding (BERT)."""

    def __init__(self, spec: StackSpec, vocabulary: int) -> None:
        super().__init__()
        self.dense = nn.Linear(spec.width, spec.width)
        self.norm = build_norm(spec)
        self.bias = nn.Parameter(torch.empty(vocabulary))
        self.kind: Feedforward = spec.feedforward_of(spec.depth - 1)

    def forward(self, stream: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """What the unembedding reads."""
        mapped = _bent(self.dense(stream), self.kind)
        return mapped if self.norm is None else self.norm(mapped)


class Pooler(nn.Module):
    """One vector per text: a learned map and tanh of its first real token's (BERT)."""

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        self.dense = nn.Linear(spec.width, spec.width)

    def forward(self, first: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        """tanh(W x + b)."""
        return torch.tanh(self.dense(first))


def _bent(x: Tensor, kind: Feedforward) -> Tensor:
    """The nonlinearity of the feed-forward, that of its gate where it has one; GELU where it has none."""
    match kind:
        case "relu":
            return F.relu(x)
        case "gelu_tanh" | "geglu_tanh":
            return F.gelu(x, approximate="tanh")
        case "swiglu":
            return F.silu(x)
        case "gelu" | "geglu" | "linear" | "none":
            return F.gelu(x)
