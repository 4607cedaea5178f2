import pytest
import torch
from torch.testing import assert_close

from glassworks.core.errors import InvalidInput
from glassworks.tasks import Dynamics
from glassworks.tasks.dynamics import stacked
from glassworks.tasks.preconditioning import PUBLISHED, Fit, Preconditioner, exact_inputs, fit_accelerated
from glassworks.tasks.solvers import (
    best_rate,
    descent_predictions,
    half_squared_error,
    kernel_regression,
    pair_predictions,
    ridge_predictions,
)
from glassworks.tensors.seeds import Seed


def sequences(size, time, dimension, seed=0):
    return torch.randn(size, time, dimension, generator=Seed(seed).generator(), dtype=torch.float64)


def one_by_one(observations, inputs, ridge, lag):
    """The definition: at each position a solve of its own."""
    rows = []
    for t in range(observations.shape[1] - 1):
        known = max(0, t - lag)
        x, y = inputs[:, :known], observations[:, 1 : known + 1]
        gram = x.mT @ x + ridge * torch.eye(inputs.shape[-1], dtype=x.dtype)
        rows.append((y.mT @ x @ torch.linalg.solve(gram, inputs[:, t, :, None])).squeeze(-1))
    return torch.stack(rows, 1)


@pytest.mark.parametrize("lag", [0, 1, 3])
@pytest.mark.parametrize(("time", "dimension"), [(2, 1), (3, 4), (65, 3), (66, 7), (131, 5)])
def test_ridge_equals_a_solve_at_every_position(time, dimension, lag):
    given = sequences(3, time, dimension)
    assert_close(ridge_predictions(given, 0.1, lag), one_by_one(given, given, 0.1, lag), atol=1e-9, rtol=1e-9)


def test_ridge_on_stacked_observations_equals_a_solve_at_every_position():
    given = sequences(2, 70, 3)
    read = stacked(given, 4)
    assert_close(ridge_predictions(given, 0.01, 0, read), one_by_one(given, read, 0.01, 0), atol=1e-8, rtol=1e-8)


def test_the_second_position_knows_one_pair_unless_late():
    given = sequences(4, 3, 2)
    first, second = given[:, 0], given[:, 1]
    # One pair: the regression is rank one and known in closed form.
    expected = second * (first * second).sum(-1, keepdim=True) / (first.square().sum(-1, keepdim=True) + 0.5)
    assert_close(ridge_predictions(given, 0.5)[:, 1], expected)
    assert not ridge_predictions(given, 0.5, lag=1)[:, 1].any()
    assert not ridge_predictions(given, 0.5)[:, 0].any()


def test_predictions_do_not_see_what_they_predict():
    given = sequences(2, 80, 3)
    changed = given.clone()
    changed[:, 66:] = 7.0
    solvers = (
        lambda rows: ridge_predictions(rows, 0.1),
        lambda rows: descent_predictions(rows, 0.03),
        lambda rows: kernel_regression(rows, 1.0),
        PUBLISHED["linear"].predictions,
        PUBLISHED["linear"].inputs,
        lambda rows: exact_inputs(rows, 0.1),
    )
    for solve in solvers:
        assert torch.equal(solve(given)[:, :66], solve(changed)[:, :66])


def test_sequences_do_not_touch_each_other():
    # More than are worked on together, in another order.
    given = sequences(150, 20, 3)
    order = torch.randperm(150, generator=Seed(1).generator())
    for solve in (
        lambda rows: ridge_predictions(rows, 0.1),
        lambda rows: kernel_regression(rows, 1.0),
        PUBLISHED["linear"].predictions,
    ):
        assert_close(solve(given)[order], solve(given[order]), atol=1e-10, rtol=1e-10)


def test_a_step_of_descent_is_minus_the_gradient():
    given = sequences(1, 6, 3)
    weights = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    half_squared_error(given[:, :4] @ weights.mT, given[:, 1:5]).sum().backward()
    assert weights.grad is not None
    assert_close(descent_predictions(given, 0.2)[0, 4], -0.2 * weights.grad @ given[0, 4])


def test_the_best_rate_has_the_smallest_loss():
    batch = Dynamics().sample(300, Seed(0))
    rate = best_rate(batch.observations)
    losses = [
        float(half_squared_error(descent_predictions(batch.observations, r), batch.targets).mean())
        for r in (0.9 * rate, rate, 1.1 * rate)
    ]
    assert losses[1] == min(losses)
    assert rate == pytest.approx(0.032, abs=0.002)
    assert best_rate(torch.ones(1, 2, 1)) == 0.0


def test_kernel_regression_is_the_weighted_mean_of_what_followed():
    given = sequences(2, 6, 3)
    weights = (0.7 * given[:, :4] @ given[:, 4, :, None]).softmax(1)
    assert_close(kernel_regression(given, 0.7)[:, 4], (weights * given[:, 1:5]).sum(1))
    assert not kernel_regression(given, 0.7)[:, 0].any()
    assert_close(kernel_regression(given, 0.7)[:, 1], given[:, 1])
    assert_close(kernel_regression(given, 0.7, lag=1)[:, 2], given[:, 1])


def test_pairs_are_learned_from_the_pairs_before():
    examples, law = sequences(3, 12, 4), sequences(3, 4, 4, seed=1)
    labels = examples @ law.mT
    found = pair_predictions(examples, labels, 1e-9)
    assert not found[:, 0].any()
    assert_close(found[:, 6:], labels[:, 6:], atol=1e-5, rtol=1e-5)


def test_exact_inputs_equal_a_solve_at_every_position():
    given = sequences(2, 70, 4)
    found = exact_inputs(given, 0.05)
    for t in (0, 1, 5, 68):
        gram = given[:, :t].mT @ given[:, :t] + 0.05 * torch.eye(4, dtype=torch.float64)
        assert_close(found[:, t], torch.linalg.solve(gram, given[:, t]), atol=1e-8, rtol=1e-8)


def released_matrices(past, plan):
    """The paper's code in its own terms: polynomials of matrices, one position at a time."""
    matrix = past.mT @ past + plan.ridge * torch.eye(past.shape[-1], dtype=past.dtype)
    scale = torch.linalg.matrix_norm(matrix, keepdim=True)
    eye = torch.eye(past.shape[-1], dtype=past.dtype).expand_as(matrix)
    found, before, power = eye, eye, eye
    for alpha, beta in zip(plan.alphas, plan.betas, strict=True):
        power = power @ (eye - alpha * matrix / scale)
        found, before = found + power + beta * (found - before), found
    return found / scale


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_iteration_on_vectors_is_that_on_matrices(name):
    given, plan = sequences(3, 9, 4), PUBLISHED[name]
    found = plan.inputs(given)
    for t in range(8):
        expected = (released_matrices(given[:, :t], plan) @ given[:, t, :, None]).squeeze(-1)
        assert_close(found[:, t], expected, atol=1e-9, rtol=1e-9)
        weights = given[:, 1 : t + 1].mT @ given[:, :t]
        assert_close(plan.predictions(given)[:, t], (weights @ expected[..., None]).squeeze(-1), atol=1e-8, rtol=1e-8)


def test_both_forms_are_the_neumann_series_without_momentum():
    given = sequences(2, 9, 3)
    series = Preconditioner.neumann(5)
    residual = Preconditioner(series.alphas, series.betas, form="residual")
    assert_close(series.inputs(given), residual.inputs(given))


def test_many_steps_reach_the_exact_inverse():
    given = sequences(2, 30, 3)
    exact = exact_inputs(given, 0.5)
    errors = [
        float((Preconditioner.neumann(steps, 0.5).inputs(given) - exact).abs().max() / exact.abs().max())
        for steps in (5, 50, 500)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-3
    fast = Preconditioner((1.5,) * 60, (0.4,) * 60, 0.5, "residual").inputs(given)
    assert float((fast - exact).abs().max() / exact.abs().max()) < 0.5 * errors[1]


# mesa.md 9, means over positions.
RECORDED = [
    ("ridge, one late", Dynamics(), lambda o: ridge_predictions(o, 0.001, 1), 0.2108),
    ("ridge, all pairs", Dynamics(), lambda o: ridge_predictions(o, 0.001), 0.1860),
    ("one step", Dynamics(), lambda o: descent_predictions(o, 0.032), 0.9004),
    ("6 steps, one late", Dynamics(), lambda o: PUBLISHED["linear"].predictions(o, 1), 0.2317),
    ("6 steps, all pairs", Dynamics(), PUBLISHED["linear"].predictions, 0.2087),
    ("2 steps, one late", Dynamics(), lambda o: PUBLISHED["linear/2"].predictions(o, 1), 0.3047),
    ("6 steps, constructed", Dynamics(), lambda o: PUBLISHED["constructed"].predictions(o, 1), 0.2339),
    ("partial, s", Dynamics.partial(), lambda o: PUBLISHED["partial"].predictions(o, 1), 2.349),
    ("partial, z", Dynamics.partial(), lambda o: PUBLISHED["partial"].predictions(o, 1, stacked(o, 16)), 1.034),
]


@pytest.mark.parametrize(("task", "solve", "recorded"), [row[1:] for row in RECORDED], ids=[row[0] for row in RECORDED])
@pytest.mark.slow
def test_the_recorded_losses_come_out(task, solve, recorded):
    size = 2560 if task.observed is None else 1000
    batch = task.sample(size, Seed(0))
    losses = half_squared_error(solve(batch.observations), batch.targets).mean(1)
    # Four standard errors of the difference: the recorded means are of 2560 sequences and scatter too.
    scatter = float(losses.std()) * (1 / size + 1 / 2560) ** 0.5
    assert float(losses.mean()) == pytest.approx(recorded, abs=4 * scatter)
    assert 4 * scatter < 0.06 * recorded


def test_ridge_escapes_the_curse_of_dimension_and_kernels_do_not():
    # mesa.md 5, losses per number at d = 4 and 20 with constants near the best.
    found = {}
    for dimension in (4, 20):
        batch = Dynamics.of_dimension(dimension).sample(128, Seed(0))
        ridge = ridge_predictions(batch.observations, 0.01)
        kernel = min(
            float(half_squared_error(kernel_regression(batch.observations, beta), batch.targets).mean()) / dimension
            for beta in (0.5, 1.0, 2.0, 4.0)
        )
        found[dimension] = float(half_squared_error(ridge, batch.targets).mean()) / dimension, kernel
    assert found[20][0] < found[4][0] < found[4][1] < found[20][1]


def test_fitted_steps_beat_the_series_they_start_from():
    task = Dynamics(hidden=4, length=16)
    fit = Fit(updates=40, peak=0.1, warm_up=5, horizon=80, batch=64, lag=0)
    found, again = (fit_accelerated(task, 3, Seed(0), fit) for _ in range(2))
    assert found == again
    batch = task.sample(400, Seed(9))
    losses = [
        float(half_squared_error(plan.predictions(batch.observations), batch.targets).mean())
        for plan in (found, Preconditioner.neumann(3))
    ]
    assert losses[0] < 0.9 * losses[1]
    # The first momentum multiplies a difference of zero.
    assert found.betas[0] == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("form", ["released", pytest.param("residual", marks=pytest.mark.nightly)])
def test_a_quick_fit_reaches_the_published_steps(form):
    task = Dynamics()
    found = fit_accelerated(task, 6, Seed(0), Fit.quick(), form)
    batch = task.sample(800, Seed(77))
    fitted, published = (
        float(half_squared_error(plan.predictions(batch.observations), batch.targets).mean())
        for plan in (found, PUBLISHED["linear"])
    )
    assert fitted < 1.01 * published


def test_the_published_rates_rise_and_follow_a_cosine():
    fit = Fit()
    assert [fit.rate(0), fit.rate(499), fit.rate(500)] == pytest.approx([6e-7, 3e-4, 3e-4])
    assert fit.rate(40_000) == pytest.approx(0.0)


def test_answers_keep_the_precision_given():
    given = sequences(2, 5, 3).float()
    assert ridge_predictions(given, 0.1).dtype == torch.float32
    assert PUBLISHED["linear"].inputs(given).dtype == torch.float32
    assert_close(ridge_predictions(given, 0.1), ridge_predictions(given.double(), 0.1).float())


@pytest.mark.parametrize("dimension", [1, 60])
def test_zero_and_repeated_observations_stay_finite(dimension):
    for given in (torch.zeros(2, 5, dimension), torch.ones(2, 5, dimension)):
        for found in (
            ridge_predictions(given, 1e-9),
            kernel_regression(given, 4.0),
            PUBLISHED["linear"].inputs(given),
            Preconditioner((1.0,), (0.0,), 0.0).predictions(given),
        ):
            assert bool(found.isfinite().all())


def test_impossible_problems_are_refused():
    given = torch.zeros(1, 4, 2)
    with pytest.raises(InvalidInput, match="positive ridge"):
        ridge_predictions(given, 0.0)
    with pytest.raises(InvalidInput, match="two observations"):
        ridge_predictions(given[:, :1], 0.1)
    with pytest.raises(InvalidInput, match="lag"):
        ridge_predictions(given, 0.1, lag=-1)
    with pytest.raises(InvalidInput, match="momenta"):
        Preconditioner((1.0,), (0.0, 0.0))
    with pytest.raises(InvalidInput, match="at least one"):
        fit_accelerated(Dynamics(), 0, Seed(0))
