import math

import numpy as np
import pytest

from glassworks.evaluation import MetricScore, median_over, normalised


def accuracy(right):
    return MetricScore.mean(np.asarray(right, dtype=np.float64), higher_is_better=True)


def drawn(share, documents=400, seed=0):
    return (np.random.default_rng(seed).random(documents) < share).astype(float)


def test_the_whole_model_is_one_and_chance_is_zero():
    full = accuracy(drawn(0.7))
    same = normalised(full, full, 0.25)
    assert (same.value, same.interval.low, same.interval.high) == (1.0, 1.0, 1.0)
    guess = normalised(accuracy(np.full(400, 0.25)), full, 0.25)
    assert guess.value == pytest.approx(0.0, abs=1e-12)


def test_lower_is_better_is_turned_round():
    full = MetricScore.mean(np.array([2.0, 4.0]), higher_is_better=False)
    half = MetricScore.mean(np.array([6.0, 7.0]), higher_is_better=False)
    assert normalised(half, full, 10.0).value == pytest.approx((10 - 6.5) / (10 - 3))


def test_a_paired_interval_is_narrower_than_one_of_independent_documents():
    full = drawn(0.7)
    hurt = full * (drawn(0.9, seed=1) > 0)
    paired = normalised(accuracy(hurt), accuracy(full), 0.25).interval
    apart = normalised(accuracy(np.roll(hurt, 17)), accuracy(full), 0.25).interval
    assert paired.mean == pytest.approx(apart.mean)
    assert paired.low < paired.mean < paired.high
    assert paired.high - paired.low < 0.7 * (apart.high - apart.low)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    inside = 0
    for seed in range(100):
        chance = np.random.default_rng(seed)
        full = (chance.random(200) < 0.8).astype(float)
        hurt = full * (chance.random(200) < 0.75)
        found = normalised(accuracy(hurt), accuracy(full), 0.2, repeats=300).interval
        inside += found.low <= (0.6 - 0.2) / (0.8 - 0.2) <= found.high
    assert 88 <= inside <= 100


def test_documents_weigh_as_their_metric_says():
    weights = np.array([1.0, 3.0])
    full = MetricScore.mean(np.array([1.0, 2.0]), weights, higher_is_better=False)
    assert full.value == pytest.approx(1.75)
    assert normalised(full, full, 4.0).value == 1.0


def test_no_scale_without_a_whole_model_better_than_chance():
    full = accuracy(drawn(0.2))
    lost = normalised(full, full, 0.25)
    assert math.isnan(lost.value)
    assert math.isnan(lost.interval.low)
    barely = normalised(accuracy([1.0] * 26 + [0.0] * 74), accuracy([1.0] * 26 + [0.0] * 74), 0.25)
    assert barely.value == 1.0
    assert math.isnan(barely.interval.low)


def test_the_median_is_over_benchmarks_that_have_a_scale():
    full, none = accuracy(drawn(0.7)), accuracy(drawn(0.2))
    scores = [normalised(accuracy(full.per_document * keep), full, 0.25) for keep in (1.0, 0.9, 0.5)]
    middle = median_over([*scores, normalised(none, none, 0.25)])
    assert middle.value == scores[1].value
    assert middle.interval.low <= middle.value <= middle.interval.high
    assert math.isnan(median_over([]).value)


def test_numbers_that_are_not_finite_are_the_worst_of_all():
    full = accuracy(drawn(0.7))
    broken = normalised(MetricScore.mean(np.full(400, math.nan), higher_is_better=True), full, 0.25)
    assert broken.value == -math.inf
    assert median_over([broken, normalised(full, full, 0.25), broken]).value == -math.inf
