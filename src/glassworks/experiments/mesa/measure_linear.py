"""What is measured of linear and mesa layers on constructed tokens: one layer, several, and two controls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.mesa.compression import compressed, compressed_products, interpolated_products, network
from glassworks.experiments.mesa.losses import (
    UNIT,
    Curve,
    Workbench,
    along_training,
    loss_measurement,
    losses,
    losses_of,
    predictions,
    training_curves,
)
from glassworks.experiments.mesa.products import (
    CHANNELS,
    PRODUCTS,
    TERMS,
    block_means,
    coefficients,
    off_diagonal,
    products_of,
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
from glassworks.models.planted_descent import (
    best_coefficients,
    one_step,
    preconditioned,
    preconditioned_tokens,
    with_fixed_coefficients,
)
from glassworks.models.spec import VectorSpec
from glassworks.tasks.preconditioning import PUBLISHED, Preconditioner
from glassworks.tasks.solvers import ridge_predictions

STEPS = (2, 4, 6)
NETWORKS = ("trained", "interpolated", "construction")
# Sequences and kept steps of an interpolation: its curves are read to two digits.
INTERPOLATED, KEPT_STEPS = 256, 41
# Sequences on which the fixed polynomials are chosen: they have heavy tails, so not few.
POLYNOMIAL = 1024


def one_layer(workbench: Workbench) -> list[Measurement]:
    """LSA-1 and Mesa-1: losses beside the theory's, coefficients, blocks, interpolation."""
    found = {seed: _one_layer_curves(workbench, seed) for seed in workbench.seeds}
    curves = workbench.model_curves("LSA-1", "Mesa-1") | by_model({seed: curves for seed, (_, curves) in found.items()})
    products = {seed: products_of(workbench.model("LSA-1", seed)) for seed in workbench.seeds}
    size = workbench.world("LSA-1").outputs
    terms = np.stack([coefficients(products[seed][0], size).numpy() for seed in workbench.seeds], 1)
    seeds = workbench.seeds
    return [
        training_curves("training_one_layer", say("the one-layer networks while they train"), workbench),
        loss_measurement("one_layer_loss", say("one layer, one step, ridge: loss by position"), curves),
        Measurement(
            "one_layer_coefficients", say("coefficients of the trained linear layer, summed over heads"), terms,
            ("term", "seed"), {"term": TERMS, "seed": seeds}, "rate",
        ),
        Measurement(
            "one_layer_rate", say("best rate of one gradient step"), np.array([rate for rate, _ in found.values()]),
            ("seed",), {"seed": seeds}, "rate",
        ),
        _blocks(workbench),
        _interpolation(
            "one_layer_interpolation", say("one layer: trained, averaged with its construction, construction"),
            workbench, ("LSA-1", "Mesa-1"),
        ),
    ]  # fmt: skip


def _one_layer_curves(workbench: Workbench, seed: int) -> tuple[float, dict[str, Curve]]:
    """The best rate, and everything that LSA-1 and Mesa-1 are compared with."""
    world = workbench.world("LSA-1")
    batch = workbench.held_out(world, seed)
    rate, step = step_curve(workbench, world, batch, seed)
    by_hand = one_step(rate, world.outputs, world.length)
    curves = {"one step, best rate": step, "construction": losses(by_hand, batch)}
    for label in ("LSA-1", "Mesa-1"):
        curves[f"compressed {label}"] = losses(compressed(workbench.model(label, seed)), batch)
    curves["ridge"] = losses_of(ridge_predictions(batch.observations, world.ridge), batch)
    curves["zero"] = zero_curve(batch)
    return rate, curves


def _blocks(workbench: Workbench) -> Measurement:
    """Block means of both products of every head, first seed; heads that a model does not have are zero."""
    labels, seed = ("LSA-1", "Mesa-1"), workbench.seeds[0]
    size = workbench.world("LSA-1").outputs
    layers = {label: products_of(workbench.model(label, seed))[0] for label in labels}
    heads = max(len(layer.query_key) for layer in layers.values())
    values = np.zeros((len(labels), len(PRODUCTS), len(CHANNELS), len(CHANNELS), heads))
    for m, layer in enumerate(layers.values()):
        for p, product in enumerate((layer.query_key, layer.value_output)):
            means = block_means(product, size).permute(1, 2, 0).numpy()
            values[m, p, :, :, : means.shape[-1]] = means
    return Measurement(
        "one_layer_blocks", say("mean of the diagonal of each block of the products"), values,
        ("model", "product", "row", "column", "head"),
        {"model": labels, "product": PRODUCTS, "row": CHANNELS, "column": CHANNELS, "head": tuple(range(heads))},
        "weight", columns={"seed": str(seed)},
        caveats=(say("the products of a mesa layer's queries and keys hold its lambda"),),
    )  # fmt: skip


def _interpolation(name: str, says: Text, workbench: Workbench, labels: Sequence[str]) -> Measurement:
    """Losses along training of the network, of its mean with the compressed end network, and of the latter."""
    found: dict[tuple[str, int], dict[int, tuple[float, float, float]]] = {}
    for label in labels:
        for seed in workbench.seeds:
            found[label, seed] = _along(workbench, label, seed)
    steps = sorted({step for rows in found.values() for step in rows})
    values = np.full((len(labels), len(NETWORKS), len(workbench.seeds), len(steps)), np.nan)
    for (label, seed), rows in found.items():
        for step, row in rows.items():
            values[labels.index(label), :, workbench.seeds.index(seed), steps.index(step)] = row
    return Measurement(
        name, says, values, ("model", "network", "seed", "step"),
        {"model": tuple(labels), "network": NETWORKS, "seed": workbench.seeds, "step": tuple(steps)}, UNIT,
    )  # fmt: skip


def _along(workbench: Workbench, label: str, seed: int) -> dict[int, tuple[float, float, float]]:
    trained, device = workbench.trained(label, seed), workbench.bench.device
    spec = trained.spec.model
    assert isinstance(spec, VectorSpec), "the networks of constructed tokens read vectors"
    batch = workbench.held_out(workbench.world(label), seed, min(INTERPOLATED, workbench.study.held_out))
    end = compressed_products(products_of(workbench.model(label, seed)), spec.outputs)
    constructed = float(losses(network(spec, end), batch).mean())
    rows: dict[int, tuple[float, float, float]] = {}
    for step, model in along_training(trained, device, KEPT_STEPS):
        between = network(spec, interpolated_products(products_of(model), end))
        rows[step] = (float(losses(model, batch).mean()), float(losses(between, batch).mean()), constructed)
    return rows


def deep(workbench: Workbench) -> list[Measurement]:
    """LSA-2, -4, -6: losses beside solvers and networks set by hand, compression, interpolation, probes of LSA-6."""
    world = workbench.world("LSA-6")
    fitted = fitted_solvers(workbench, world, STEPS)
    curves = workbench.model_curves("LSA-2", "LSA-4", "LSA-6")
    curves |= by_model({seed: _deep_curves(workbench, fitted, seed) for seed in workbench.seeds})
    return [
        training_curves("training_deep", say("deep linear networks while they train"), workbench),
        loss_measurement(
            "deep_loss", say("deep linear networks, solvers and networks set by hand: loss by position"), curves,
            caveats=(say("the network set by hand reads the norm that it divides by from its tokens; those named 'no norm' divide by nothing"),),
        ),
        _off_diagonal(workbench),
        _interpolation(
            "deep_interpolation", say("six layers: trained, averaged with the compressed end network, the latter"),
            workbench, ("LSA-6",),
        ),
        *probe_measurements(workbench, "deep_probe", "LSA-6"),
    ]  # fmt: skip


def _deep_curves(workbench: Workbench, fitted: dict[int, Preconditioner], seed: int) -> dict[str, Curve]:
    world = workbench.world("LSA-6")
    batch, published = workbench.held_out(world, seed), PUBLISHED["linear"]
    curves = {
        f"compressed LSA-{depth}": losses(compressed(workbench.model(f"LSA-{depth}", seed)), batch) for depth in STEPS
    }
    curves |= solver_curves({f"Prop. 2, {count} steps": solver for count, solver in fitted.items()}, batch)
    late = published.predictions(batch.observations, lag=1)
    curves["published rates, 6 steps, one late"] = losses_of(late, batch)
    by_hand = preconditioned(published.steps, world.outputs, world.length)
    tokens = preconditioned_tokens(batch.observations, published)
    curves["constructed network, 6 steps"] = losses_of(predictions(by_hand, tokens), batch)
    some = workbench.for_fitting(world, seed).observations[:POLYNOMIAL]
    for count in STEPS:
        fixed = with_fixed_coefficients(best_coefficients(some, count), world.outputs, world.length)
        curves[f"constructed network, {count} steps, no norm"] = losses(fixed, batch)
    return curves | ridge_curves(world.ridge, batch) | {"zero": zero_curve(batch)}


def _off_diagonal(workbench: Workbench) -> Measurement:
    """Mean absolute entry outside the blocks' diagonals over the mean absolute block mean, both products together."""
    size = workbench.world("LSA-6").outputs
    rows: list[list[float]] = []
    for seed in workbench.seeds:
        layers = products_of(workbench.model("LSA-6", seed))
        rows.append([(off_diagonal(p.query_key, size) + off_diagonal(p.value_output, size)) / 2 for p in layers])
    values: NDArray[np.float64] = np.array(rows).T
    return Measurement(
        "deep_offdiagonal", say("what compression leaves out of LSA-6, relative to what it keeps"), values,
        ("layer", "seed"), {"layer": tuple(range(1, len(values) + 1)), "seed": workbench.seeds}, "ratio",
    )  # fmt: skip


def contracting(workbench: Workbench) -> list[Measurement]:
    """Laws whose states die away: losses and probes."""
    return _control(workbench, "contracting", say("contracting laws"))


def fixed_teacher(workbench: Workbench) -> list[Measurement]:
    """One law for all sequences: losses and probes."""
    return _control(workbench, "fixed_teacher", say("one law for all sequences"))


def _control(workbench: Workbench, name: str, where: Text) -> list[Measurement]:
    labels = workbench.labels()
    curves = workbench.model_curves(*labels)
    curves |= by_model({seed: _control_curves(workbench, name, seed) for seed in workbench.seeds})
    return [
        training_curves(
            f"training_{name}", say("the networks of a control while they train: {where}", where=where), workbench
        ),
        loss_measurement(f"{name}_loss", say("loss by position: {where}", where=where), curves),
        *probe_measurements(workbench, f"{name}_probe", "LSA-4"),
    ]


def _control_curves(workbench: Workbench, name: str, seed: int) -> dict[str, Curve]:
    world = workbench.world("LSA-4")
    batch = workbench.held_out(world, seed)
    _, step = step_curve(workbench, world, batch, seed)
    curves = {"one step, best rate": step} | solver_curves({"Prop. 2, 6 steps": PUBLISHED[name]}, batch)
    curves |= ridge_curves(world.ridge, batch) | {"zero": zero_curve(batch)}
    if world.teacher is not None:
        curves["the law itself"] = world.ideal(batch).double().mean(0)
    return curves
