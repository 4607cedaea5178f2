"""The claims about sizes, capacity and arithmetic are shown numbers on which they hold, fail, or stay undecided."""

import numpy as np
import pytest

from glassworks.experiments.infini.judging_memory import IN_PROGRESS, PRINTED
from tests.experiments.infini.infini_numbers import (
    TIMES,
    capacity,
    kernels,
    live,
    measurement,
    repeats,
    sizes,
    sums,
    update,
)
from tests.experiments.infini.judged import FAILS, HOLDS, NAN, UNDECIDED, outcome, reason, two_of_three


def test_the_printed_sizes_follow_from_the_papers_settings():
    layers, heads, wide, segment, stream = 12, 8, 128, 2048, 1024
    cache = 2 * wide * heads * segment * layers
    assert PRINTED["Infini-Transformer"] == wide * (wide + 1) * heads * layers
    assert PRINTED["Transformer-XL"] == cache == IN_PROGRESS
    assert PRINTED["Memorizing Transformers"] == 2 * wide * heads * 65_000 + cache
    assert PRINTED["RMT"] == 2 * stream * 100 * layers
    assert PRINTED["full cache, 1M tokens"] == 2 * wide * heads * layers * 1_000_000


@pytest.mark.parametrize("model", PRINTED)
def test_one_number_off_is_another_size(model):
    assert outcome("sizes", sizes({model: PRINTED[model] + 1})) is FAILS
    assert model in reason("sizes", sizes({model: PRINTED[model] + 1}))
    assert outcome("sizes", sizes({model: NAN})) is UNDECIDED


def test_live_models_keep_what_their_formula_says():
    assert outcome("sizes", live({"rmt": 2049})) is FAILS
    assert "rmt" in reason("sizes", live({"rmt": 2049}))
    assert outcome("sizes", live({"memorizing": NAN})) is UNDECIDED
    assert outcome("sizes", sizes(segment=1)) is FAILS


def test_models_that_kept_nothing_or_are_missing_confirm_no_formula():
    found = live()
    found.values[0] = 0
    assert outcome("sizes", found) is UNDECIDED
    few = measurement(found.name, found.values[1:], **dict(found.coords) | {"model": tuple(found.coords["model"])[1:]})
    assert outcome("sizes", few) is UNDECIDED


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, HOLDS), ({"Memorizing Transformers": 170_000_000}, FAILS), ({"Infini-Transformer": 1_700_000}, FAILS),
        ({"Infini-Transformer": 1_649_999}, HOLDS), ({"Infini-Transformer": 0}, UNDECIDED), ({"Infini-Transformer": NAN}, UNDECIDED),
    ],
)  # fmt: skip
def test_ratio(changed, expected):
    assert outcome("ratio", sizes(changed)) is expected


def test_the_ratio_is_told_with_its_caveat():
    told = reason("ratio", sizes())
    assert all(number in told for number in ("114.4", "115.7", "3.5"))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ((0.1, 0.0, 0.05), HOLDS), ((0.1, 0.1, -0.05), FAILS), ((0.1, two_of_three(0.05, -0.02), 0.1), UNDECIDED),
        ((0.0, 0.0, 0.0), UNDECIDED), ((0.1, NAN, 0.1), UNDECIDED), ((-0.1, NAN, 0.1), UNDECIDED),
    ],
)  # fmt: skip
def test_keeps_more(more, expected):
    assert outcome("keeps-more", capacity(more)) is expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (repeats(1 - 5e-7, 0.5 + 5e-7), HOLDS), (repeats(delta=0.50001), FAILS), (repeats(delta=1.0), FAILS),
        (repeats(linear=0.99), FAILS), (repeats(first=0.5), FAILS), (repeats(delta=NAN), UNDECIDED),
        (repeats(times=(1,)), UNDECIDED), (repeats(times=TIMES[:2]), HOLDS),
    ],
)  # fmt: skip
def test_not_idempotent(found, expected):
    assert outcome("not-idempotent", found) is expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (update(0.99, 0.99), HOLDS), (update(new=0.98), FAILS), (update(mean=0.98), FAILS), (update(new=-1.0), FAILS),
        (update(crossed=0.995), UNDECIDED), (update(new=NAN), UNDECIDED), (update(crossed=NAN), UNDECIDED),
    ],
)  # fmt: skip
def test_latest_value(found, expected):
    assert outcome("latest-value", found) is expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (sums(151), HOLDS), (sums(260), HOLDS), (sums(140), FAILS), (sums(250, late=30), FAILS), (sums(20_000), FAILS),
        (sums(overflow={2048: 30, 512: 108}), HOLDS), (sums(overflow={2048: 31}), FAILS), (sums(overflow={512: 90}), FAILS),
        (sums(overflow={2048: 20_000}), FAILS), (sums(ours=1e-4), FAILS), (sums(ours=np.inf), FAILS), (sums(ours=NAN), UNDECIDED),
    ],
)  # fmt: skip
def test_half_precision(found, expected):
    assert outcome("half-precision", found) is expected


def test_sums_looked_at_too_rarely_decide_nothing():
    found = sums()
    at = [i for i, count in enumerate(found.coords["segments"]) if count in (1, 20, 100, 200, 1000, 10_000)]
    coords = dict(found.coords) | {"segments": [found.coords["segments"][i] for i in at]}
    assert outcome("half-precision", measurement(found.name, found.values[..., at], **coords)) is UNDECIDED
    coords = dict(found.coords) | {"segments": found.coords["segments"][:-1]}
    assert outcome("half-precision", measurement(found.name, found.values[..., :-1], **coords)) is UNDECIDED


def test_sums_without_the_predicted_lengths_decide_nothing():
    found = sums()
    coords = dict(found.coords) | {"length": (64,)}
    assert outcome("half-precision", measurement(found.name, found.values[:, :1], **coords)) is UNDECIDED


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ((1.2, 1.3, 1.5), HOLDS), ((1.4, 1.4, 1.6), FAILS), ((1.1, 1.1, 1.1), FAILS),
        ((1.4, 1.4, two_of_three(1.4, 1.6)), UNDECIDED), ((NAN, 1.4, 1.4), UNDECIDED),
    ],
)  # fmt: skip
def test_uniform_reading(ratios, expected):
    assert outcome("uniform-reading", kernels(*ratios)) is expected
