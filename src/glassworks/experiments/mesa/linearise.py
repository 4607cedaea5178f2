"""One softmax layer replaced by a linear one that was fitted to it, and what that costs (mesa.md 5)."""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassworks.evidence.claims import Scale
from glassworks.models.attention import Attention
from glassworks.models.hub import VectorTransformer
from glassworks.models.initialise import initialise
from glassworks.models.spec import VectorSpec
from glassworks.tasks.base import VectorTask
from glassworks.tasks.dynamics import Dynamics
from glassworks.tasks.solvers import half_squared_error, kernel_regression, ridge_predictions
from glassworks.tensors.seeds import Seed


@dataclass(frozen=True)
class Fitting:
    """How a linear layer is fitted to a softmax layer; the defaults are the published ones (mesa.md 5)."""

    updates: int = 15_000
    batch: int = 64
    rate: float = 1e-3
    falls: bool = False
    """Whether the rate falls to zero along a straight line: what a short fit needs to come near the answer."""


FITTINGS: Mapping[Scale, Fitting] = {
    Scale.SMOKE: Fitting(updates=4, batch=4, falls=True),
    Scale.LAPTOP: Fitting(updates=400, batch=16, rate=3e-3, falls=True),
    Scale.PAPER: Fitting(),
}
# Sequences of the comparison of solvers, and the ranges their constants are chosen from.
COMPARED = 128
RIDGES, BETAS = (1e-4, 10.0), (1e-4, 4.0)
GRID = 9  # constants on the first grid; as many again between the neighbours of the best
SOLVERS = ("ridge", "softmax kernel")


def linear_twins(
    model: VectorTransformer, world: VectorTask, layers: Sequence[int], fitting: Fitting, seed: Seed
) -> dict[int, Attention]:
    """For each layer a linear-attention layer of its sizes, fitted to its outputs from its inputs.

    AdamW on half the squared error over fresh sequences of the world; all layers learn from the same passes.
    """
    device = next(model.parameters()).device
    twins = {layer: _twin(model, layer, seed) for layer in layers}
    parameters = [p for twin in twins.values() for p in twin.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=fitting.rate)
    for update in range(fitting.updates):
        inputs = world.sample(fitting.batch, seed.child("linearise", update)).inputs.to(device)
        heard, code = _heard(model, inputs, layers), _code(model, inputs.shape[1])
        # A sum over layers: each twin's gradient is that of its own error.
        error = torch.stack(
            [
                half_squared_error(twins[layer](read, code=code)[0], answered).mean()
                for layer, (read, answered) in heard.items()
            ]
        ).sum()
        optimiser.zero_grad(set_to_none=True)
        error.backward()
        if fitting.falls:
            optimiser.param_groups[0]["lr"] = fitting.rate * (1 - update / fitting.updates)
        optimiser.step()
    return twins


def replaced(model: VectorTransformer, layer: int, twin: Attention) -> VectorTransformer:
    """A copy of the model in which a layer's attention is the twin; the rest is as it was."""
    changed = deepcopy(model)
    changed.model.block(layer).self_attn = twin
    return changed.eval()


def _twin(model: VectorTransformer, layer: int, seed: Seed) -> Attention:
    """A linear layer with the maps of the softmax layer, their scores over the half of a context: a near start.

    For small scores softmax is their mean over the tokens seen plus a constant, so its own maps are close to the answer.
    """
    attention = model.model.block(layer).self_attn
    spec = model.model.spec
    assert isinstance(spec, VectorSpec), "a decoder of vectors has the spec of one"
    linear = spec.replaced_all({"mixers": [{"kind": "linear"}]})
    twin = Attention(linear, layer)
    for name, module in twin.named_modules():
        initialise(module, linear, seed.child("twin", layer, name).generator())
    with torch.no_grad():
        twin.load_state_dict(attention.state_dict())
        for parameter in twin.q_proj.parameters():
            parameter.mul_(attention.sizes.scale * 2 / (spec.context * twin.sizes.scale))
    nn.Module.to(twin, next(model.parameters()).device)
    return twin


@torch.no_grad()
def _heard(model: VectorTransformer, inputs: Tensor, layers: Sequence[int]) -> dict[int, tuple[Tensor, Tensor]]:
    """What the attention of these layers reads and answers."""
    found: dict[int, tuple[Tensor, Tensor]] = {}

    def listen(layer: int) -> torch.utils.hooks.RemovableHandle:
        def keep(_: nn.Module, read: tuple[Any, ...], answered: tuple[Any, ...]) -> None:
            found[layer] = (read[0], answered[0])

        return model.model.block(layer).self_attn.register_forward_hook(keep)

    handles = [listen(layer) for layer in layers]
    try:
        model(inputs_embeds=inputs, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _code(model: VectorTransformer, length: int) -> Float[Tensor, "one position width"] | None:
    decoder = model.model
    return decoder.position_vectors(length)[None] if decoder.spec.positions == "concatenated" else None


def best_losses(hidden: int, seed: Seed) -> dict[str, float]:
    """Half the squared error per number of ridge and kernel regression with their best constants, in a world of a dimension.

    Constants are chosen on the sequences that they are scored on: first on a logarithmic grid, then around its best.
    """
    world = Dynamics.of_dimension(hidden)
    batch = world.sample(COMPARED, seed.child("kernels", hidden))
    seen = batch.observations

    def ridge(constant: float) -> float:
        return float(half_squared_error(ridge_predictions(seen, constant), batch.targets).mean()) / hidden

    def kernel(constant: float) -> float:
        return float(half_squared_error(kernel_regression(seen, constant), batch.targets).mean()) / hidden

    return {"ridge": _least(ridge, RIDGES), "softmax kernel": _least(kernel, BETAS)}


def _least(loss: Callable[[float], float], bounds: tuple[float, float]) -> float:
    """The smallest loss found on a grid of constants and on a second one between the neighbours of the best."""
    coarse = torch.logspace(math.log10(bounds[0]), math.log10(bounds[1]), GRID).tolist()
    found = [loss(constant) for constant in coarse]
    best = found.index(min(found))
    low, high = coarse[max(0, best - 1)], coarse[min(GRID - 1, best + 1)]
    fine = torch.logspace(math.log10(low), math.log10(high), GRID).tolist()
    return min(found[best], *(loss(constant) for constant in fine[1:-1]))
