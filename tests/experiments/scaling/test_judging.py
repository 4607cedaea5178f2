import numpy as np
import pytest

from glassworks.evidence.claims import Outcome, Scale
from glassworks.experiments.scaling.laws import Law
from tests.experiments.scaling.scaling_numbers import (
    LAW,
    compression,
    families,
    grid,
    laws,
    losses,
    measured,
    published,
    sizes,
    verdict,
)

# Best size grows as C^0.75: data hardly matters.
STEEP = Law(1.0, 10.0, 5460.0, 0.25, 0.75, "bits per byte")
HOLDS, IN_PART, FAILS, UNDECIDED = Outcome.HOLDS, Outcome.HOLDS_IN_PART, Outcome.FAILS, Outcome.UNDECIDED


def by_shape(step: float) -> np.ndarray:
    """Losses that change by equal steps from size to size, whatever is read."""
    values = losses()
    known = ~np.isnan(values)
    shape = np.add.outer(np.arange(4), np.arange(5))[..., None]
    return np.where(known, 2.5 + step * shape + (values - np.nanmean(values, axis=2, keepdims=True)), np.nan)


def noisy() -> np.ndarray:
    return losses(noise=0.5)


def unlearned() -> np.ndarray:
    return losses() + 4


def one_seed() -> np.ndarray:
    values = losses()
    values[:, :, 1:] = np.nan
    return values


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (losses(), HOLDS),
        (by_shape(-0.1), IN_PART),
        (by_shape(0.1), FAILS),
        (noisy(), UNDECIDED),
        (unlearned(), UNDECIDED),
        (one_seed(), UNDECIDED),
    ],
)
def test_size_helps_where_each_step_takes_off_less_than_the_one_before(values, expected):
    assert verdict("size-helps", families(values)).outcome is expected


def tilted(budgets: tuple[int, ...], slope: float) -> np.ndarray:
    """Losses of the law, but at some budgets falling straight with the logarithm of the size, hardly bent."""
    values = losses()
    logs = np.log(sizes())
    for budget in budgets:
        line = slope * (logs[budget] - logs[budget, 0])
        values[budget] = (2.0 + line + 0.02 * line**2)[:, None] + (
            values[budget] - np.nanmean(values[budget], axis=1, keepdims=True)
        )
    values[-1, :, 1:] = np.nan
    return values


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (losses(), HOLDS),
        (tilted((0,), -0.2), IN_PART),
        (tilted((0, 1, 2), -0.2), FAILS),
        (losses(noise=0.25), UNDECIDED),
        (one_seed(), UNDECIDED),
        (unlearned(), UNDECIDED),
    ],
)
def test_an_optimum_is_interior_where_the_draws_of_every_budget_say_so(values, expected):
    assert verdict("interior-optimum", families(values)).outcome is expected


def test_a_budget_repeated_once_decides_nothing_about_the_optimum():
    values = tilted((3,), -0.2)
    assert verdict("interior-optimum", families(values)).outcome is HOLDS


@pytest.mark.parametrize(
    ("values", "parametric", "expected"),
    [
        (losses(), LAW, HOLDS),
        (losses(), STEEP, IN_PART),
        (losses(noise=0.05), LAW, IN_PART),
        (losses(STEEP), STEEP, FAILS),
        (one_seed(), LAW, UNDECIDED),
        (unlearned(), LAW, UNDECIDED),
    ],
)
def test_powers_near_each_other_need_both_fits_to_say_so(values, parametric, expected):
    found = families(values)
    law = found["scaling_law"]
    found["scaling_law"] = measured("scaling_law", laws(parametric), **dict(law.coords))
    assert verdict("exponents", found).outcome is expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (losses(), HOLDS),
        (tilted((0,), -0.2), IN_PART),
        (tilted((0, 1, 2), -0.2), FAILS),
        (noisy(), UNDECIDED),
        (one_seed(), UNDECIDED),
        (unlearned(), UNDECIDED),
    ],
)
def test_data_matters_where_the_largest_size_loses_to_a_third_of_it(values, expected):
    assert verdict("data-matters", families(values)).outcome is expected


def test_two_seeds_that_are_one_run_decide_nothing():
    values = losses()
    values[:, :, 1] = values[:, :, 0]
    for key in ("size-helps", "interior-optimum", "exponents", "data-matters"):
        assert verdict(key, families(values)).outcome is UNDECIDED


def test_smoke_scale_decides_nothing():
    found = families(losses()) | published() | compression()
    for key in ("size-helps", "gopher-chinchilla", "recovery", "below-compressors", "coding"):
        assert verdict(key, found, Scale.SMOKE).outcome is UNDECIDED
        assert verdict(key, found).outcome is HOLDS


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, HOLDS),
        ({("besiroglu", "Chinchilla"): 2.5}, IN_PART),
        ({("besiroglu", "Chinchilla"): 2.5, ("hoffmann", "Chinchilla"): 2.5}, FAILS),
        ({("hoffmann", "Gopher"): np.nan}, UNDECIDED),
    ],
)
def test_chinchilla_must_win_under_both_laws(changes, expected):
    found = published()
    models = found["published_models"]
    values = models.values.copy()
    loss = models.coords["number"].index("loss")
    for (law, model), value in changes.items():
        values[models.coords["law"].index(law), models.coords["model"].index(model), loss] = value
    found["published_models"] = measured("published_models", values, **dict(models.coords))
    assert verdict("gopher-chinchilla", found).outcome is expected


def test_models_of_unequal_cost_are_not_compared():
    found = published()
    models = found["published_models"]
    values = models.values.copy()
    values[:, models.coords["model"].index("Gopher"), models.coords["number"].index("operations")] *= 2
    found["published_models"] = measured("published_models", values, **dict(models.coords))
    assert verdict("gopher-chinchilla", found).outcome is UNDECIDED


@pytest.mark.parametrize(
    ("clean", "noise", "expected"),
    [(1.005, 0.03, HOLDS), (1.005, 0.1, IN_PART), (1.05, 0.0, FAILS), (np.nan, 0.0, UNDECIDED)],
)
def test_recovery_needs_constants_without_noise_and_the_power_with_it(clean, noise, expected):
    found = published()
    recovered = found["recovered_laws"]
    values = recovered.values.copy()
    values[0, 0, 1] *= clean
    values[1, 1, -1] += noise
    found["recovered_laws"] = measured("recovered_laws", values, **dict(recovered.coords))
    assert verdict("recovery", found).outcome is expected


@pytest.mark.parametrize(
    ("factor", "expected"), [(1.0, HOLDS), (1.03, IN_PART), (1.09, FAILS), (np.nan, UNDECIDED), (1.05, UNDECIDED)]
)
def test_losses_are_foretold_where_the_whole_interval_of_errors_is_small(factor, expected):
    found = families(losses())
    foretold = found["scaling_foretold"]
    found["scaling_foretold"] = measured("scaling_foretold", foretold.values * factor, **dict(foretold.coords))
    assert verdict("foretells", found).outcome is expected


@pytest.mark.parametrize(
    ("model", "spread", "alone", "primed"),
    [
        (1.6, 0.01, HOLDS, HOLDS),
        (1.75, 0.005, HOLDS, IN_PART),
        (2.1, 0.005, IN_PART, IN_PART),
        (2.6, 0.01, FAILS, FAILS),
        (2.3, 0.3, UNDECIDED, UNDECIDED),
        (5.0, 0.01, UNDECIDED, UNDECIDED),
    ],
)
def test_a_model_must_be_surely_below_every_compressor(model, spread, alone, primed):
    found = compression(model, spread)
    assert verdict("below-compressors", found).outcome is alone
    assert verdict("below-primed", found).outcome is primed


def test_a_compressor_that_is_absent_leaves_the_claim_open():
    assert verdict("below-compressors", compression(zstd=np.nan)).outcome is UNDECIDED


@pytest.mark.parametrize(
    ("number", "value", "expected"),
    [
        ("code_bits", 13_300, HOLDS),
        ("code_bits", 13_700, IN_PART),
        ("code_bits", 15_000, FAILS),
        ("code_bits", 10_000, UNDECIDED),
        ("wrong_bytes", 1, FAILS),
        ("ideal_bits", np.nan, UNDECIDED),
    ],
)
def test_a_code_must_be_tight_and_give_back_every_byte(number, value, expected):
    found = compression()
    coding = found["coding"]
    values = coding.values.copy()
    values[coding.coords["number"].index(number)] = value
    found["coding"] = measured("coding", values, **dict(coding.coords))
    assert verdict("coding", found).outcome is expected


def test_missing_measurements_leave_every_claim_open():
    for key in ("size-helps", "exponents", "foretells", "below-primed", "coding", "recovery"):
        assert verdict(key, {"scaling_grid": grid()}).outcome is UNDECIDED
