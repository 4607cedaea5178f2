import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassworks.evidence.statistics import (
    band_over_seeds,
    first_crossing,
    interval_over_seeds,
    rank_correlation,
    t95,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.706), (30, 2.042), (31, 2.0395), (60, 2.0003), (1000, 1.9623)]
)
def test_t95_is_students_quantile(degrees: int, quantile: float) -> None:
    assert t95(degrees) == pytest.approx(quantile, abs=1e-3)


def test_t95_falls_towards_the_normal_quantile() -> None:
    values = [t95(n) for n in range(1, 200)]
    assert all(a > b for a, b in itertools.pairwise(values))
    with pytest.raises(AssertionError):
        t95(0)


def test_the_interval_of_three_values_is_the_textbook_one() -> None:
    found = interval_over_seeds(np.array([1.0, 2.0, 3.0]))
    half = 4.303 / math.sqrt(3)
    assert (found.mean, found.low, found.high, found.count) == (
        2.0,
        pytest.approx(2 - half),
        pytest.approx(2 + half),
        3,
    )


def test_what_was_not_measured_is_left_out() -> None:
    assert interval_over_seeds(np.array([1.0, np.nan, 3.0])).count == 2
    one = interval_over_seeds(np.array([np.nan, 5.0]))
    assert (one.mean, one.count) == (5.0, 1)
    assert math.isnan(one.low)
    assert str(one) == "5"
    none = interval_over_seeds(np.array([np.nan]))
    assert math.isnan(none.mean)
    assert (none.count, str(none)) == (0, "-")


@given(st.lists(st.lists(st.floats(-100, 100) | st.just(math.nan), min_size=4, max_size=4), min_size=1, max_size=6))
def test_a_band_is_the_interval_of_every_column(rows: list[list[float]]) -> None:
    values = np.array(rows)
    mean, low, high = band_over_seeds(values, axis=0)
    for column in range(4):
        one = interval_over_seeds(values[:, column])
        np.testing.assert_allclose([mean[column], low[column], high[column]], [one.mean, one.low, one.high], atol=1e-9)


def test_a_band_runs_along_any_axis() -> None:
    values = np.random.default_rng(0).normal(size=(5, 7))
    for a, b in zip(band_over_seeds(values, 0), band_over_seeds(values.T, 1), strict=True):
        np.testing.assert_allclose(a, b)


def test_a_crossing_is_interpolated_between_samples() -> None:
    steps = np.array([0.0, 10.0, 20.0])
    assert first_crossing(steps, np.array([0.0, 0.4, 0.8]), 0.6) == pytest.approx(15.0)
    assert first_crossing(steps, np.array([0.7, 0.1, 0.8]), 0.6) == 0.0
    assert first_crossing(steps, np.array([np.nan, 0.9, 1.0]), 0.6) == 10.0
    assert math.isnan(first_crossing(steps, np.array([0.0, 0.1, 0.2]), 0.6))


def test_the_wilson_interval_agrees_with_a_known_case_and_stays_inside_one() -> None:
    found = wilson_interval(8, 10)
    assert (found.low, found.high) == (pytest.approx(0.4902, abs=1e-3), pytest.approx(0.9433, abs=1e-3))
    assert wilson_interval(0, 5).low == 0.0
    assert wilson_interval(5, 5).high == pytest.approx(1.0)
    assert wilson_interval(5, 5).low > 0.5
    assert math.isnan(wilson_interval(0, 0).mean)


@given(st.lists(st.integers(-50, 50), min_size=3, max_size=20))
def test_rank_correlation_sees_order_only(values: list[int]) -> None:
    x = np.array(values, dtype=np.float64)
    found = rank_correlation(x, np.exp(x / 10))
    assert math.isnan(found) if len(set(values)) == 1 else found == pytest.approx(1.0)


def test_rank_correlation_of_a_known_case_with_a_tie() -> None:
    x, y = np.array([1.0, 2.0, 2.0, 4.0]), np.array([4.0, 1.0, 3.0, 2.0])
    # Mid-ranks (1, 2.5, 2.5, 4) against (4, 1, 3, 2), Pearson by hand: -3 / sqrt(4.5 * 5).
    assert rank_correlation(x, y) == pytest.approx(-3.0 / math.sqrt(22.5))
