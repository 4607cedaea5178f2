"""The numbers a decoder starts from: PyTorch's defaults unless the spec says how wide, embeddings N(0, embedding_scale^2)."""

import torch
from torch import nn
from transformers import initialization as init

from glassworks.mixers.infini import InfiniMixer
from glassworks.mixers.memorizing import MemorizingMixer
from glassworks.mixers.mesa import MesaMixer
from glassworks.models.attention import Attention
from glassworks.models.feedforward import OutwardMap
from glassworks.models.norms import RootMeanSquareNorm
from glassworks.models.positions import PositionTable
from glassworks.models.prediction import Prediction
from glassworks.models.spec import StackSpec


def initialise(module: nn.Module, spec: StackSpec, generator: torch.Generator | None = None) -> None:
    """Fills one module (not its children); tensors that were loaded from a checkpoint are left alone."""
    match module:
        case nn.Linear() if spec.weight_scale is not None:
            init.normal_(module.weight, std=spec.weight_scale * _shrink(module), generator=generator)
            for bias in [p for name, p in module.named_parameters(recurse=False) if name == "bias"]:
                init.zeros_(bias)
        case nn.Linear():
            bound = module.in_features**-0.5 * _shrink(module)
            for parameter in module.parameters(recurse=False):
                init.uniform_(parameter, -bound, bound, generator=generator)
        case nn.Embedding():
            init.normal_(module.weight, std=spec.embedding_scale, generator=generator)
        case PositionTable() if module.is_sinusoidal:
            init.copy_(module.weight, module.sinusoids())
        case PositionTable():
            init.normal_(module.weight, std=spec.embedding_scale, generator=generator)
        case nn.LayerNorm():
            init.ones_(module.weight)
            init.zeros_(module.bias)
        case RootMeanSquareNorm():
            init.ones_(module.weight)
        case Attention() if module.distance_proj is not None:
            init.zeros_(module.content_bias)
            init.zeros_(module.distance_bias)
        case Prediction():
            init.zeros_(module.bias)
        case MesaMixer():
            # Copied rather than filled in place: the library's own functions leave alone what came from a checkpoint.
            init.copy_(module.root, MesaMixer(module.heads, module.spec).root)
        case InfiniMixer():
            init.copy_(module.gate, InfiniMixer(module.heads, module.spec).gate)
        case MemorizingMixer():
            init.zeros_(module.gate)
            init.zeros_(module.sharpness)
        case _:
            pass


def _shrink(module: nn.Linear) -> float:
    return module.shrink if isinstance(module, OutwardMap) else 1.0
