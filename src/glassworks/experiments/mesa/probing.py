"""Linear probes of every layer at every position: what can be read where (mesa.md 5).

The paper fits and scores its probes on the same 256 sequences, which flatters them by about features/sequences. Here one
half is fitted and the other scored; the in-sample errors are kept beside them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from glassworks.experiments.mesa.losses import PIECE
from glassworks.tasks.dynamics import Dynamics, DynamicsBatch, stacked
from glassworks.tasks.preconditioning import PUBLISHED, Preconditioner, exact_inputs

# Added to the Gram matrix of the features, as a share of its mean diagonal: channels that repeat each other stay
# solvable, and differences at float32's rounding (1e-14 of the variance) are no feature.
RIDGE = 1e-8
# mesa.md 5: sequences whose target is longer than the mean by this many standard deviations are left out.
OUTLIER = 2.0
# mesa.md 5, 11: the probe of the partial world stacks 5 observations, its baselines 16.
STACKED = 5
TARGETS = ("next", "input", "polynomial", "exact", "control")


@dataclass(frozen=True, eq=False)
class Readout:
    """Errors of probes: half squared error summed over the numbers of the target, per layer and position."""

    error: Float[Tensor, "layer position"]
    """On the held-out half."""
    r2: Float[Tensor, "layer position"]
    """1 - squared error / squared length of the target, on the held-out half; 0 for a probe that says nothing."""
    in_sample: Float[Tensor, "layer position"]
    """On the half the probe was fitted to."""


def read_out(
    states: Float[Tensor, "layer batch position feature"],
    target: Float[Tensor, "batch position number"],
    kept: Bool[Tensor, "batch position"] | None = None,
) -> Readout:
    """Least squares from each layer to the target at each position, in float64; the first half of the batch is fitted.

    No constant is fitted, as in the paper. Sequences that are not `kept` at a position are neither fitted nor scored there.
    """
    weight = torch.ones(target.shape[:2]) if kept is None else kept
    weight = weight.double().T[..., None]
    goal, half = target.double().transpose(0, 1), target.shape[0] // 2
    rows = [_of_layer(layer.double().transpose(0, 1), goal, weight, half) for layer in states]
    error, r2, in_sample = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return Readout(error, r2, in_sample)


def _of_layer(
    features: Float[Tensor, "position batch feature"],
    goal: Float[Tensor, "position batch number"],
    weight: Float[Tensor, "position batch 1"],
    half: int,
) -> tuple[Tensor, Tensor, Tensor]:
    fitted, scored = slice(0, half), slice(half, None)
    weighed = (features[:, fitted] * weight[:, fitted]).mT
    gram = weighed @ features[:, fitted]
    size = gram.diagonal(dim1=-2, dim2=-1).mean(-1)
    # A position whose features are all zero (the first, in a layer that reads the token before) gives a probe of zeros.
    ridge = torch.where(size > 0, RIDGE * size, 1.0)
    gram.diagonal(dim1=-2, dim2=-1).add_(ridge[:, None])
    probe = torch.linalg.solve(gram, weighed @ goal[:, fitted])
    squared = (goal - features @ probe).square() * weight
    length = (goal.square() * weight)[:, scored].sum((1, 2))
    missed = squared[:, scored].sum((1, 2))
    counts = weight[:, scored].sum((1, 2)).clamp_min(1), weight[:, fitted].sum((1, 2)).clamp_min(1)
    r2 = torch.where(length > 0, 1 - missed / torch.where(length > 0, length, 1.0), 0.0)
    return 0.5 * missed / counts[0], r2, 0.5 * squared[:, fitted].sum((1, 2)) / counts[1]


def ordinary(target: Float[Tensor, "batch position number"]) -> Bool[Tensor, "batch position"]:
    """True where a target's length is less than two standard deviations above the mean of its position."""
    length = target.double().norm(dim=-1)
    spread = length.std(0, unbiased=False)
    return (length - length.mean(0)) < OUTLIER * spread.clamp_min(torch.finfo(spread.dtype).tiny)


@torch.no_grad()
def layer_states(
    model: nn.Module, inputs: Float[Tensor, "batch position channel"]
) -> Float[Tensor, "layer batch position feature"]:
    """The stream before the first layer and after each one, on the CPU."""
    device = next(model.parameters()).device
    pieces: list[Tensor] = []
    for piece in inputs.split(PIECE):
        found = model(inputs_embeds=piece.to(device), use_cache=False, output_hidden_states=True).hidden_states
        pieces.append(torch.stack([state.cpu() for state in found]))
    return torch.cat(pieces, 1)


def preconditioned_inputs(
    world: Dynamics, batch: DynamicsBatch
) -> tuple[Float[Tensor, "batch position key"], Float[Tensor, "batch position key"]]:
    """The inputs after six published steps, and after the exact inverse, from the inputs s_1 .. s_{t-1} before t.

    Of features in the nonlinear world, of five stacked observations in the partial one.
    """
    seen = batch.observations
    features = None
    if world.nonlinear:
        features = world.features(seen)
    elif world.observed is not None:
        features = stacked(seen, STACKED)
    solver = published_solver(world)
    return solver.inputs(seen, features=features), exact_inputs(seen, solver.ridge, features=features)


def published_solver(world: Dynamics) -> Preconditioner:
    """The six published steps that belong to the probes of a world and its tokens (mesa.md 4)."""
    if world.nonlinear:
        return PUBLISHED["nonlinear"]
    if world.observed is not None:
        return PUBLISHED["partial/probe"]
    match world.law:
        case "contracting":
            return PUBLISHED["contracting"]
        case "fixed_orthogonal":
            return PUBLISHED["fixed_teacher"]
        case "orthogonal":
            return PUBLISHED["linear" if world.tokens == "raw" else "constructed"]


def probe_all(model: nn.Module, world: Dynamics, batch: DynamicsBatch) -> Mapping[str, Readout]:
    """The probes of TARGETS on all layers of a model.

    next: s_{t+1}. input: s_t. polynomial: s_t after six published steps. exact: s_t after the inverse itself. control:
    s_{t+1} from the polynomial alone, which should tell next to nothing (one row instead of one per layer).
    """
    states = layer_states(model, batch.inputs)
    polynomial, exact = preconditioned_inputs(world, batch)
    seen = batch.observations[:, :-1]
    # mesa.md 1: where states are cut off, targets at the bound are no linear function of anything.
    inside = batch.targets.abs().amax(-1) < world.limit if world.law == "contracting" and world.limit else None
    return {
        "next": read_out(states, batch.targets, inside),
        "input": read_out(states, seen),
        "polynomial": read_out(states, polynomial, ordinary(polynomial)),
        "exact": read_out(states, exact, ordinary(exact)),
        "control": read_out(polynomial[None], batch.targets, ordinary(polynomial)),
    }
