"""Networks set by hand do what the theory's solvers do, and reach the published losses without training."""

import pytest
import torch

from glassworks.core.errors import InvalidInput
from glassworks.models.planted_descent import (
    best_coefficients,
    one_step,
    polynomial,
    preconditioned,
    preconditioned_tokens,
    with_fixed_coefficients,
)
from glassworks.tasks.dynamics import Dynamics
from glassworks.tasks.preconditioning import PUBLISHED, Preconditioner
from glassworks.tasks.solvers import best_rate, descent_predictions, half_squared_error
from glassworks.tensors.seeds import Seed

WORLD = Dynamics(tokens="constructed")
BATCH = WORLD.sample(1280, Seed(9))


@torch.no_grad()
def test_one_head_takes_one_gradient_step():
    rate = best_rate(BATCH.observations)
    model = one_step(rate, 10, 50)
    found = model(inputs_embeds=BATCH.inputs).logits
    torch.testing.assert_close(found, descent_predictions(BATCH.observations, rate), atol=1e-5, rtol=1e-5)
    # mesa.md 9: 0.9004 with rate 0.032.
    assert rate == pytest.approx(0.032, abs=0.002)
    assert half_squared_error(found, BATCH.targets).mean().item() == pytest.approx(0.90, abs=0.02)


@torch.no_grad()
def test_one_head_steps_from_other_weights_than_zero():
    start = 0.1 * torch.randn(10, 10, generator=Seed(1).generator())
    small = BATCH.observations[:4]
    model = one_step(0.02, 10, 50, start)
    found = model(inputs_embeds=BATCH.inputs[:4]).logits
    # The gradient of the summed squared error of the pairs seen up to t = 7 (0-based), by hand.
    x, y = small[:, :7], small[:, 1:8]
    surprise = y - x @ start.T
    weights = start + 0.02 * surprise.mT @ x
    torch.testing.assert_close(found[:, 7], (weights @ small[:, 7, :, None])[..., 0], atol=1e-5, rtol=1e-5)


RESIDUAL = Preconditioner((0.9, 1.2, 0.8), (0.0, 0.4, 0.6), form="residual")
SOLVERS = {
    "accelerated": PUBLISHED["linear"],
    "constructed": PUBLISHED["constructed"],
    "two steps": PUBLISHED["linear/2"],
    "neumann": Preconditioner.neumann(4),
    "residual": RESIDUAL,
    "large ridge": PUBLISHED["contracting"],
}


@torch.no_grad()
@pytest.mark.parametrize("name", SOLVERS)
def test_layers_are_the_steps_of_the_solver(name: str):
    solver, seen = SOLVERS[name], BATCH.observations[:16].double()
    model = preconditioned(solver.steps, 10, 50)
    found = torch.nn.Module.double(model)(inputs_embeds=preconditioned_tokens(seen, solver)).logits
    torch.testing.assert_close(found, solver.predictions(seen), atol=1e-8, rtol=1e-8)


@pytest.mark.slow
@torch.no_grad()
def test_six_steps_set_by_hand_reach_the_published_loss():
    solver = PUBLISHED["linear"]
    tokens = preconditioned_tokens(BATCH.observations, solver)
    found = preconditioned(6, 10, 50)(inputs_embeds=tokens).logits
    loss = half_squared_error(found, BATCH.targets).mean().item()
    planned = half_squared_error(solver.predictions(BATCH.observations), BATCH.targets).mean().item()
    # float32 in the network, float64 in the solver: powers of one matrix cancel each other by a factor of a hundred.
    assert loss == pytest.approx(planned, abs=1e-5)
    # mesa.md 9: 0.2087 with all pairs.
    assert loss == pytest.approx(0.2087, abs=0.012)


def test_the_neumann_series_has_the_binomial_coefficients_of_its_powers():
    # 1 + (1 - x) + (1 - x)^2 = 3 - 3 x + x^2
    assert polynomial(Preconditioner.neumann(2)) == pytest.approx((3.0, -3.0, 1.0))


@torch.no_grad()
def test_no_fixed_polynomial_of_six_steps_reaches_the_iteration_with_its_norm():
    coefficients = best_coefficients(WORLD.sample(1024, Seed(4)).observations, 6)
    found = with_fixed_coefficients(coefficients, 10, 50)(inputs_embeds=BATCH.inputs).logits
    loss = half_squared_error(found, BATCH.targets).mean().item()
    assert 0.27 < loss < 0.36


@torch.no_grad()
def test_fixed_coefficients_of_degree_zero_are_one_gradient_step():
    (rate,) = best_coefficients(BATCH.observations, 0)
    assert rate == pytest.approx(best_rate(BATCH.observations), rel=1e-6)
    model = with_fixed_coefficients((rate,), 10, 50)
    torch.testing.assert_close(
        model(inputs_embeds=BATCH.inputs).logits, one_step(rate, 10, 50)(inputs_embeds=BATCH.inputs).logits
    )


def test_impossible_sizes_are_refused():
    with pytest.raises(InvalidInput):
        one_step(0.1, 0, 5)
    with pytest.raises(InvalidInput):
        preconditioned(-1, 3, 5)
