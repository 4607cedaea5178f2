"""What is measured of models of raw tokens: losses, binding, linearisation, the partial and the nonlinear world."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import say
from glassworks.evidence.claims import Scale
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.mesa.binding import (
    ATTENDED,
    DECODED,
    FELT,
    SHOWN,
    attention_mass,
    decode_earlier,
    felt,
    first_attention,
    sensitivity,
)
from glassworks.experiments.mesa.linearise import (
    COMPARED,
    FITTINGS,
    SOLVERS,
    Fitting,
    best_losses,
    linear_twins,
    replaced,
)
from glassworks.experiments.mesa.losses import (
    Curve,
    Workbench,
    along_training,
    loss_measurement,
    losses,
    losses_of,
    training_curves,
)
from glassworks.experiments.mesa.solving import (
    by_model,
    fitted_solvers,
    probe_measurements,
    ridge_curves,
    solver_curves,
    step_curve,
    zero_curve,
)
from glassworks.mixers import Softmax
from glassworks.tasks.preconditioning import PUBLISHED
from glassworks.tasks.solvers import ridge_predictions
from glassworks.tensors.seeds import Seed

# Sequences of attention maps, which hardly differ, and of gradients (mesa.md 5: 64; half of them below paper scale);
# steps at which gradients are taken.
MAPPED, FELT_SEQUENCES, FELT_STEPS = 256, 64, 16
# Sequences on which a replaced layer is scored: the ratio of two losses of the same sequences is sharp.
SWAPPED = 512


def softmax(workbench: Workbench) -> list[Measurement]:
    """Softmax-3, Softmax-7 and the hybrid: losses beside solvers, probes of Softmax-7."""
    world = workbench.world("Softmax-7")
    fitted = fitted_solvers(workbench, world, (2, 6))
    named = {f"Prop. 2, {count} steps": solver for count, solver in fitted.items()}

    def solved(seed: int) -> dict[str, Curve]:
        batch = workbench.held_out(world, seed)
        return solver_curves(named, batch) | ridge_curves(world.ridge, batch) | {"zero": zero_curve(batch)}

    curves = workbench.model_curves(*workbench.labels())
    curves |= by_model({seed: solved(seed) for seed in workbench.seeds})
    return [
        training_curves("training_softmax", say("models of raw tokens while they train"), workbench),
        loss_measurement("softmax_loss", say("models of raw tokens and solvers: loss by position"), curves),
        *probe_measurements(workbench, "softmax_probe", "Softmax-7"),
    ]


def binding_of_tokens(workbench: Workbench) -> list[Measurement]:
    """What the first layer holds of earlier tokens, where it looks, and what moves it while it trains."""
    return [
        training_curves("training_binding", say("models of raw tokens while they train"), workbench),
        *_decoding(workbench, "binding"),
        *_attention(workbench),
        _sensitivity(workbench),
    ]


def _decoding(workbench: Workbench, name: str) -> list[Measurement]:
    labels, seeds = workbench.labels(), workbench.seeds
    values = np.zeros((len(labels), len(seeds), DECODED))
    variances: list[float] = []
    for s, seed in enumerate(seeds):
        for m, label in enumerate(labels):
            batch = workbench.held_out(workbench.world(label), seed)
            values[m, s] = decode_earlier(workbench.model(label, seed), batch.inputs).numpy()
            variances.append(float(batch.inputs[:, -DECODED:].double().var()))
    return [
        Measurement(
            f"{name}_decode", say("error of reading an earlier token from the first layer at the last position"), values,
            ("model", "seed", "back"), {"model": labels, "seed": seeds, "back": tuple(range(DECODED))},
            "mean squared error per number",
        ),
        Measurement(
            f"{name}_variance", say("variance of the numbers of a token"), np.asarray(sum(variances) / len(variances)), (), {},
            "mean squared error per number",
        ),
    ]  # fmt: skip


def _attention(workbench: Workbench) -> list[Measurement]:
    """Mass and maps of softmax first layers; other first layers give no shares, so they have no entry."""
    seeds = workbench.seeds
    labels = tuple(
        label
        for label in workbench.labels()
        if isinstance(workbench.trained(label, seeds[0]).spec.model.mixer(0), Softmax)
    )
    backs = (*(str(back) for back in range(ATTENDED)), "others")
    maps = {
        (label, seed): first_attention(
            workbench.model(label, seed),
            workbench.held_out(workbench.world(label), seed, min(MAPPED, workbench.study.held_out)).inputs,
        )
        for label in labels
        for seed in seeds
    }
    mass = np.stack([np.stack([attention_mass(maps[label, seed]).numpy() for seed in seeds], 1) for label in labels])
    shown = np.stack([maps[label, seeds[0]][:, :SHOWN, :SHOWN].numpy() for label in labels])
    heads, places = tuple(range(mass.shape[1])), tuple(range(1, shown.shape[-1] + 1))
    return [
        Measurement(
            "binding_attention", say("where the heads of the first layer look, from the sixth token on"), mass,
            ("model", "head", "seed", "back"), {"model": labels, "head": heads, "seed": seeds, "back": backs}, "mass",
        ),
        Measurement(
            "binding_maps", say("attention of the first layer, averaged over sequences"), shown,
            ("model", "head", "query", "key"), {"model": labels, "head": heads, "query": places, "key": places},
            "probability", columns={"seed": str(seeds[0])},
        ),
    ]  # fmt: skip


def _sensitivity(workbench: Workbench) -> Measurement:
    labels, seeds = workbench.labels(), workbench.seeds
    most = FELT_SEQUENCES if workbench.study.scale is Scale.PAPER else FELT_SEQUENCES // 2
    count = min(most, workbench.study.held_out)
    found: dict[tuple[str, int], dict[int, NDArray[np.float64]]] = {}
    for label in labels:
        for seed in seeds:
            inputs = workbench.held_out(workbench.world(label), seed, count).inputs
            kept = along_training(workbench.trained(label, seed), workbench.bench.device, FELT_STEPS)
            found[label, seed] = {step: felt(sensitivity(model, inputs)).numpy() for step, model in kept}
    steps = sorted({step for rows in found.values() for step in rows})
    backs = (*(str(back) for back in range(FELT)), "older")
    values = np.full((len(labels), len(seeds), len(steps), len(backs)), np.nan)
    for (label, seed), rows in found.items():
        for step, row in rows.items():
            values[labels.index(label), seeds.index(seed), steps.index(step)] = row
    return Measurement(
        "binding_sensitivity", say("how much a token moves the first layer's output at the last position"), values,
        ("model", "seed", "step", "back"), {"model": labels, "seed": seeds, "step": tuple(steps), "back": backs},
        "length of the gradient",
    )  # fmt: skip


def linearised(workbench: Workbench) -> list[Measurement]:
    """The cost of replacing one softmax layer by a fitted linear one; ridge and kernel regression by dimension."""
    study, seeds = workbench.study, workbench.seeds
    fitting = FITTINGS[study.scale]
    costs: list[list[list[float]]] = []
    for dimension in study.dimensions:
        columns = [_costs(workbench, str(dimension), seed, fitting) for seed in seeds]
        costs.append(np.array(columns).T.tolist())
    layers = tuple(range(1, len(costs[0]) + 1))
    chosen = [best_losses(dimension, Seed(seeds[0])) for dimension in study.kernel_dimensions]
    kernels = np.array([[row[solver] for row in chosen] for solver in SOLVERS])
    return [
        training_curves("training_linearise", say("models of worlds of several dimensions while they train"), workbench),
        Measurement(
            "linearise", say("loss with one layer made linear over the loss without"), np.array(costs),
            ("dimension", "layer", "seed"), {"dimension": study.dimensions, "layer": layers, "seed": seeds}, "ratio of losses",
            caveats=(say("the linear layers were fitted in {count} updates of {batch} sequences; the paper takes 15000 of 64", count=fitting.updates, batch=fitting.batch),),
        ),
        Measurement(
            "kernels", say("ridge and kernel regression with their best constants"), kernels, ("solver", "dimension"),
            {"solver": SOLVERS, "dimension": study.kernel_dimensions}, "half squared error per number",
            caveats=(say("constants are chosen on the {count} sequences that are scored", count=COMPARED),),
        ),
    ]  # fmt: skip


def _costs(workbench: Workbench, label: str, seed: int, fitting: Fitting) -> list[float]:
    """For each layer the loss with its linear twin over the loss of the model as it is."""
    model, world = workbench.model(label, seed), workbench.world(label)
    layers = range(model.model.spec.depth)
    twins = linear_twins(model, world, layers, fitting, Seed(seed).child("twins"))
    batch = workbench.held_out(world, seed, min(SWAPPED, workbench.study.held_out))
    whole = losses(model, batch).mean()
    return [float(losses(replaced(model, layer, twins[layer]), batch).mean() / whole) for layer in layers]


def partial(workbench: Workbench) -> list[Measurement]:
    """States seen in part: losses beside solvers on one and on sixteen observations, probes, decoding."""
    world = workbench.world("Softmax-7")
    solver = PUBLISHED["partial"]

    def solved(seed: int) -> dict[str, Curve]:
        batch = workbench.held_out(world, seed)
        features = world.regressors(batch.observations)
        curves = solver_curves({"Prop. 2 on s, 6 steps": solver}, batch)
        curves |= solver_curves({"Prop. 2 on z, 6 steps": solver}, batch, features)
        curves |= ridge_curves(world.ridge, batch, features, " on z")
        return curves | {"zero": zero_curve(batch)}

    curves = workbench.model_curves(*workbench.labels())
    curves |= by_model({seed: solved(seed) for seed in workbench.seeds})
    return [
        training_curves("training_partial", say("models of the partially observed world while they train"), workbench),
        loss_measurement("partial_loss", say("the partially observed world: loss by position"), curves),
        *probe_measurements(workbench, "partial_probe", "Softmax-7"),
        *_decoding(workbench, "partial"),
    ]


def nonlinear(workbench: Workbench) -> list[Measurement]:
    """The nonlinear world: losses beside solvers on states and on the features of the law, probes."""
    world = workbench.world("Softmax-7")
    solver = PUBLISHED["nonlinear"]

    def solved(seed: int) -> dict[str, Curve]:
        batch = workbench.held_out(world, seed)
        features = world.features(batch.observations)
        _, step = step_curve(workbench, world, batch, seed)
        curves = {"one step, best rate": step} | solver_curves({"Prop. 2 on s, 6 steps": solver}, batch)
        curves |= solver_curves({"Prop. 2 on f, 6 steps": solver}, batch, features)
        curves |= ridge_curves(world.ridge, batch, features, " on f")
        states = ridge_predictions(batch.observations, world.ridge)
        return curves | {"ridge on s, all pairs": losses_of(states, batch), "zero": zero_curve(batch)}

    curves = workbench.model_curves(*workbench.labels())
    curves |= by_model({seed: solved(seed) for seed in workbench.seeds})
    return [
        training_curves("training_nonlinear", say("models of the nonlinear world while they train"), workbench),
        loss_measurement("nonlinear_loss", say("the nonlinear world: loss by position"), curves),
        *probe_measurements(workbench, "nonlinear_probe", "Softmax-7"),
    ]
