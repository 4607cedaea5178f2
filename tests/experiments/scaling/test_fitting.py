import math

import numpy as np
import pytest

from glassworks.experiments.scaling.fitting import Points, fit_law, fit_parabola, fit_power, minimise, resampled_laws
from glassworks.experiments.scaling.laws import BESIROGLU, CHINCHILLA, GOPHER, HOFFMANN, Law, break_even
from glassworks.experiments.scaling.measure_families import lowest_size, seed_spread
from glassworks.experiments.scaling.trainings import bytes_of, cells, parameters_of
from tests.experiments.scaling.scaling_numbers import LAW, STUDY


def drawn(law: Law, noise: float = 0.0) -> Points:
    """Points around the best sizes of four budgets."""
    flop = np.repeat([6e18, 5e19, 4e20, 3e21], 4)
    size = np.array([law.best_parameters(c) for c in flop]) * np.tile([0.25, 0.7, 1.6, 4.0], 4)
    tokens = flop / (6 * size)
    loss = np.array([law.loss(n, d) for n, d in zip(size, tokens, strict=True)])
    return Points(size, tokens, loss * np.exp(noise * np.random.default_rng(0).standard_normal(len(loss))))


@pytest.mark.parametrize("law", [HOFFMANN, BESIROGLU])
def test_published_constants_come_back_from_points_drawn_from_them(law):
    found = fit_law(drawn(law), law.unit)
    np.testing.assert_allclose(found.numbers(), law.numbers(), rtol=1e-6)


def test_one_odd_training_does_not_bend_the_law():
    points = drawn(HOFFMANN)
    points.loss[5] *= 1.3
    found = fit_law(points, HOFFMANN.unit)
    assert found.size_power == pytest.approx(HOFFMANN.size_power, abs=0.01)


def test_draws_of_trainings_spread_with_the_noise_and_not_without_it():
    generator = np.random.default_rng(0)
    exact = [law.size_power for law in resampled_laws(drawn(HOFFMANN), HOFFMANN, 6, generator)]
    np.testing.assert_allclose(exact, HOFFMANN.size_power, atol=1e-3)
    points = drawn(HOFFMANN, 0.01)
    noisy = [law.size_power for law in resampled_laws(points, HOFFMANN, 6, generator)]
    assert np.std(noisy) > 10 * np.std(exact)


def test_many_descents_side_by_side_reach_their_own_lowest_points():
    centres = np.arange(14, dtype=float).reshape(7, 2)

    def bowl(x, which):
        apart = x - centres[which]
        return 1.0 + (apart**2 * [1.0, 30.0]).sum(1), 2 * apart * [1.0, 30.0]

    found, values = minimise(bowl, np.zeros((7, 2)), 100)
    np.testing.assert_allclose(found, centres, atol=1e-4)
    np.testing.assert_allclose(values, 1.0, atol=1e-8)


def test_a_parabola_through_three_sizes_is_exact_and_finds_its_lowest_point():
    sizes = np.array([1e4, 3e4, 9e4])
    loss = 2.0 + 0.1 * (np.log(sizes) - math.log(2.5e4)) ** 2
    found = fit_parabola(sizes, loss)
    assert lowest_size(found, sizes) == pytest.approx(2.5e4)
    np.testing.assert_allclose(found.at(sizes), loss)


@pytest.mark.parametrize("curve", [(0.0, 1.0), (-0.1, 0.0), (1e-9, 1.0)])
def test_a_curve_without_a_lowest_point_near_the_sizes_gives_none(curve):
    sizes = np.array([1e4, 3e4, 9e4])
    bend, slope = curve
    logs = np.log(sizes)
    assert math.isnan(lowest_size(fit_parabola(sizes, 2 + slope * logs + bend * logs**2), sizes))


def test_a_power_comes_back():
    x = np.array([1.0, 3.0, 9.0])
    assert fit_power(x, 5 * x**0.47) == pytest.approx((0.47, 5.0))


def test_powers_of_size_and_data_add_up_to_one_and_split_the_budget():
    for law in (HOFFMANN, BESIROGLU, LAW):
        assert law.size_power + law.data_power == pytest.approx(1)
        assert 6 * law.best_parameters(1e21) * law.best_tokens(1e21) == pytest.approx(1e21)
        best = law.loss(law.best_parameters(1e21), law.best_tokens(1e21))
        for factor in (0.8, 1.25):
            size = factor * law.best_parameters(1e21)
            assert law.loss(size, 1e21 / (6 * size)) > best


def test_tokens_for_a_loss_undo_the_law_and_end_where_no_data_are_enough():
    tokens = HOFFMANN.tokens_for(2.2, 1e10)
    assert HOFFMANN.loss(1e10, tokens) == pytest.approx(2.2)
    assert HOFFMANN.tokens_for(HOFFMANN.irreducible, 1e10) == math.inf


def test_gopher_and_chinchilla_cost_about_the_same_and_chinchilla_is_better():
    assert GOPHER.flop == pytest.approx(5.04e23)
    assert CHINCHILLA.flop == pytest.approx(5.88e23)
    for law in (HOFFMANN, BESIROGLU):
        assert law.loss(CHINCHILLA.parameters, CHINCHILLA.tokens) < law.loss(GOPHER.parameters, GOPHER.tokens)


def test_sizes_of_the_grid_grow_by_the_root_of_three_so_that_diagonals_read_alike():
    sizes = np.array([parameters_of(shape) for shape in STUDY.shapes])
    np.testing.assert_allclose(sizes[1:] / sizes[:-1], math.sqrt(3), rtol=0.02)
    read = {cell: bytes_of(STUDY, cell) for cell in cells(STUDY)}
    for budget in range(3):
        here, next_ = (
            next(c for c in read if c.budget == b and c.shape == s)
            for b, s in ((budget, 2 * budget), (budget + 1, 2 * budget + 2))
        )
        assert read[here] == pytest.approx(read[next_], rel=0.01)


def test_parameters_are_those_of_the_model_without_its_table_of_embeddings():
    from glassworks.experiments.scaling.trainings import model_of
    from glassworks.models.transformer import build_model
    from glassworks.tensors.seeds import Seed

    for shape in (STUDY.shapes[0], STUDY.shapes[-1]):
        model = build_model(model_of(STUDY, shape), Seed(0))
        counted = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name)
        assert parameters_of(shape) == counted


def test_spread_between_seeds_pools_all_cells_that_were_repeated():
    losses = np.array([[[1.0, 1.2, np.nan], [2.0, np.nan, np.nan]], [[3.0, 3.2, 3.4], [1.0, 1.0, 1.0]]])
    assert seed_spread(losses) == pytest.approx(math.sqrt((0.02 + 0.04 + 0.0) / 3))
    assert math.isnan(seed_spread(losses[:, :, :1]))


def test_weights_pay_once_the_bits_saved_outweigh_them():
    assert break_even(1.5, 2.0, 1000) == pytest.approx(16_000)
    assert break_even(2.0, 2.0, 1000) == math.inf
