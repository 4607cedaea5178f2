"""Loss curves of the theory's solvers on a study's held-out sequences, and the probes of its models as measurements."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Scale
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.mesa.losses import UNIT, Curve, Workbench, losses_of
from glassworks.experiments.mesa.probing import TARGETS, Readout, probe_all
from glassworks.tasks.dynamics import Dynamics, DynamicsBatch
from glassworks.tasks.preconditioning import Fit, Preconditioner, fit_accelerated
from glassworks.tasks.solvers import best_rate, descent_predictions, ridge_predictions
from glassworks.tensors.seeds import Seed

# The published curves train one pair late, which their networks do not (mesa.md 11).
LAGS = {"all pairs": 0, "one late": 1}
# A short fit takes larger steps than the published 20 000 updates and ends with small ones.
SHORT_PEAK, SHORT_BATCH = 0.05, 64
IN_SAMPLE = ("next", "polynomial")
FITTED_SEED = "rates of the solver"


def fitted_solvers(workbench: Workbench, world: Dynamics, steps: tuple[int, ...]) -> dict[int, Preconditioner]:
    """Step sizes and momenta learned for each number of steps, one pair late as published; once for all seeds."""
    study = workbench.study
    fit = Fit(updates=study.solver_steps)
    if study.scale is not Scale.PAPER:
        fit = Fit(
            updates=study.solver_steps, peak=SHORT_PEAK, warm_up=max(1, study.solver_steps // 12),
            horizon=study.solver_steps, weight_decay=0.0, batch=min(SHORT_BATCH, study.batch),
        )  # fmt: skip
    seed = Seed(study.seeds[0]).child(FITTED_SEED)
    return {count: fit_accelerated(world, count, seed.child(count), fit) for count in steps}


def solver_curves(
    solvers: Mapping[str, Preconditioner], batch: DynamicsBatch, features: Float[Tensor, "batch time key"] | None = None
) -> dict[str, Curve]:
    """The losses of solvers on all pairs and one pair late: "name, all pairs" and "name, one late"."""
    seen = batch.observations
    return {
        f"{name}, {lag}": losses_of(solver.predictions(seen, late, features), batch)
        for name, solver in solvers.items()
        for lag, late in LAGS.items()
    }


def ridge_curves(
    ridge: float, batch: DynamicsBatch, features: Float[Tensor, "batch time key"] | None = None, suffix: str = ""
) -> dict[str, Curve]:
    """The losses of exact ridge regression, on all pairs and one pair late."""
    seen = batch.observations
    return {
        f"ridge{suffix}, {lag}": losses_of(ridge_predictions(seen, ridge, late, features), batch)
        for lag, late in LAGS.items()
    }


def zero_curve(batch: DynamicsBatch) -> Curve:
    """The loss of predicting zero."""
    return losses_of(torch.zeros_like(batch.targets), batch)


def step_curve(workbench: Workbench, world: Dynamics, batch: DynamicsBatch, seed: int) -> tuple[float, Curve]:
    """The best rate of one gradient step, found on other sequences, and its loss."""
    rate = best_rate(workbench.for_fitting(world, seed).observations)
    return rate, losses_of(descent_predictions(batch.observations, rate), batch)


def by_model(curves: Mapping[int, Mapping[str, Curve]]) -> dict[str, dict[int, Curve]]:
    """Curves by seed and name, turned to name and seed."""
    names = next(iter(curves.values()))
    return {name: {seed: curves[seed][name] for seed in curves} for name in names}


def probe_measurements(workbench: Workbench, name: str, label: str) -> list[Measurement]:
    """The probes of one model as NAME (errors), NAME_r2 and NAME_in_sample."""
    world = workbench.world(label)
    found = {
        seed: probe_all(workbench.model(label, seed), world, workbench.held_out(world, seed, workbench.study.probed))
        for seed in workbench.seeds
    }
    half = workbench.study.probed // 2
    said = say("probes of {model}, fitted on {count} sequences and scored on as many others", model=label, count=half)
    return [
        _probe(name, said, found, "error", TARGETS),
        _probe(f"{name}_r2", say("share of the target that the probes of {model} explain", model=label), found, "r2", TARGETS),
        _probe(
            f"{name}_in_sample", say("the same probes of {model} on the sequences they were fitted to", model=label),
            found, "in_sample", IN_SAMPLE,
        ),
    ]  # fmt: skip


def _probe(
    name: str, says: Text, found: Mapping[int, Mapping[str, Readout]], quantity: str, targets: tuple[str, ...]
) -> Measurement:
    seeds = tuple(found)
    first = found[seeds[0]]["next"].error
    layers, positions = first.shape
    values = np.full((len(targets), layers, len(seeds), positions), np.nan)
    for t, target in enumerate(targets):
        for s, seed in enumerate(seeds):
            rows = _rows(found[seed][target], quantity)
            values[t, : len(rows), s] = rows
    return Measurement(
        name, says, values, ("target", "layer", "seed", "position"),
        {"target": targets, "layer": tuple(range(layers)), "seed": seeds, "position": tuple(range(1, positions + 1))},
        "R²" if quantity == "r2" else UNIT,
        caveats=(say("the polynomial and the exact input leave out sequences whose target is 2 standard deviations longer than the mean"),),
    )  # fmt: skip


def _rows(readout: Readout, quantity: str) -> NDArray[np.float64]:
    match quantity:
        case "r2":
            return readout.r2.numpy()
        case "in_sample":
            return readout.in_sample.numpy()
        case _:
            return readout.error.numpy()
