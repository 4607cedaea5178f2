"""The claims about language and gates are shown numbers on which they hold, hold in part, fail, or stay undecided."""

import numpy as np
import pytest

from tests.experiments.infini.infini_numbers import (
    BITS,
    LENGTH,
    POSITIONS,
    gate_losses,
    gate_paths,
    measurement,
    positions,
    training,
)
from tests.experiments.infini.judged import FAILS, HOLDS, NAN, PART, UNDECIDED, outcome, reason, two_of_three

LEADS = {"memory-helps": "local", "beats-xl": "transformer-xl", "beats-memorizing": "memorizing", "beats-rmt": "rmt"}
TEXT = (*LEADS, "rules-agree", "near-full", "longer-training", "beyond-length")
GATES = ("gates-stuck", "gates-free", "short-range-head", "decay-pulls-back")


@pytest.mark.parametrize(("key", "baseline"), LEADS.items())
@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (2.25, HOLDS), ([2.25, 2.3, 2.28], HOLDS), ([2.21, 2.5, 2.19], PART), (2.15, FAILS),
        ([2.19, 2.21, 2.10], UNDECIDED), (2.20, UNDECIDED), ([2.3, 2.3, NAN], UNDECIDED),
    ],
)  # fmt: skip
def test_leads_over_baselines(key, baseline, level, expected):
    assert outcome(key, positions({baseline: level})) is expected


@pytest.mark.parametrize("key", TEXT)
def test_models_that_have_learned_nothing_decide_nothing(key):
    assert outcome(key, training("training_language", tuple(BITS), idle="infini")) is UNDECIDED
    assert outcome(key, training("training_language", tuple(BITS), last=two_of_three(1.6, 5.2))) is UNDECIDED
    assert outcome(key, positions({model: level + 2.5 for model, level in BITS.items()})) is UNDECIDED


def test_a_baseline_that_has_learned_nothing_is_not_beaten():
    for key, baseline in LEADS.items():
        assert outcome(key, positions({baseline: 6.0})) is UNDECIDED
        assert outcome(key, training("training_language", tuple(BITS), idle=baseline)) is UNDECIDED


def test_only_bytes_beyond_the_first_segment_and_within_the_training_length_count():
    found = positions({"local": 2.25})
    place = list(BITS).index("local")
    found.values[place, :, 0] = 9.0
    found.values[place, :, np.array(POSITIONS) > LENGTH] = 0.1
    assert outcome("memory-helps", found) is HOLDS
    assert "2.250" in reason("memory-helps", found)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (2.22, HOLDS), (2.18, HOLDS), (2.24, PART), ([2.19, 2.22, 2.245], PART), (2.26, FAILS), (2.14, FAILS),
        (two_of_three(2.22, 2.26), UNDECIDED), (NAN, UNDECIDED),
    ],
)  # fmt: skip
def test_rules_agree(level, expected):
    assert outcome("rules-agree", positions({"infini delta": level})) is expected


def test_rules_of_a_memory_that_gains_nothing_agree_about_nothing():
    assert outcome("rules-agree", positions({"local": 2.15})) is UNDECIDED
    assert outcome("beyond-length", positions({"local": 2.15})) is UNDECIDED
    assert "gains nothing" in reason("rules-agree", positions({"local": 2.15}))
    # What differs, differs without it too.
    assert outcome("rules-agree", positions({"local": 2.15, "infini delta": 2.4})) is FAILS


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"infini": 2.25}, HOLDS), ({"infini": 2.32}, PART), ({"infini": 2.35}, FAILS), ({"infini": 2.45}, FAILS),
        ({"infini": two_of_three(2.32, 2.35)}, UNDECIDED), ({"full": 2.395}, UNDECIDED),
        ({"full": two_of_three(2.1, 2.395)}, UNDECIDED), ({"full": 2.5}, UNDECIDED), ({"full": NAN}, UNDECIDED),
    ],
)  # fmt: skip
def test_near_full(changed, expected):
    assert outcome("near-full", positions(changed)) is expected


@pytest.mark.parametrize(
    ("level", "expected"),
    [(2.19, HOLDS), ([2.1, 2.2, 2.21], PART), (2.3, FAILS), ([2.19, 2.25, 2.18], UNDECIDED), (NAN, UNDECIDED)],
)
def test_longer_training(level, expected):
    assert outcome("longer-training", positions({"infini, longer": level})) is expected


@pytest.mark.parametrize(
    ("far", "expected"),
    [
        (0.02, HOLDS), (-0.02, HOLDS), (0.04, PART), (0.06, FAILS), (two_of_three(0.01, 0.06), UNDECIDED),
        (-0.08, UNDECIDED), (NAN, UNDECIDED),
    ],
)  # fmt: skip
def test_beyond_length(far, expected):
    assert outcome("beyond-length", positions(far=far)) is expected


def test_beyond_length_needs_eight_lengths():
    found = positions()
    kept = [i for i, end in enumerate(POSITIONS) if end <= 4 * LENGTH]
    coords = dict(found.coords) | {"position": [POSITIONS[i] for i in kept]}
    assert outcome("beyond-length", measurement(found.name, found.values[..., kept], **coords)) is UNDECIDED


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        (np.full(12, 0.5), HOLDS), ([0.4, 0.6] * 6, HOLDS), ([0.3, *[0.5] * 11], PART), ([0.3] * 3 + [0.5] * 9, FAILS),
        (np.stack([np.full(12, 0.5)] * 2 + [np.linspace(0, 1, 12)], axis=1), UNDECIDED), (np.full(12, NAN), UNDECIDED),
        ([NAN, *[0.5] * 11], UNDECIDED),
    ],
)  # fmt: skip
def test_gates_stuck(gates, expected):
    assert outcome("gates-stuck", gate_paths(shared=gates)) is expected


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        ([0.25, 0.75] * 6, HOLDS), ([0.5, 0.5, 0.2, 0.75] * 3, HOLDS), ([0.35, 0.7] * 6, PART), ([0.39, 0.62] * 6, FAILS),
        ([0.5, 0.5, 0.5, 0.9] * 3, FAILS), ([0.5] * 12, FAILS), ([NAN, *[0.2, 0.8] * 5, 0.8], UNDECIDED),
    ],
)  # fmt: skip
def test_gates_free(gates, expected):
    assert outcome("gates-free", gate_paths(own_rate=gates)) is expected


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        ([0.49, 0.9, 0.9, 0.9] * 3, HOLDS), ([0.2, 0.9, 0.9, 0.9] * 2 + [0.5, 0.9, 0.9, 0.9], FAILS),
        (np.stack([[0.2] * 12] * 2 + [[0.8] * 12], axis=1), UNDECIDED), ([0.499, 0.501] * 6, UNDECIDED),
        ([NAN] + [0.2] * 11, UNDECIDED),
    ],
)  # fmt: skip
def test_short_range_head(gates, expected):
    assert outcome("short-range-head", gate_paths(own_rate=gates)) is expected


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ([0.3, 0.7] * 6, HOLDS), (np.stack([[0.3] * 12, [0.45] * 12, [0.08] * 12], axis=1), PART), ([0.0, 1.0] * 6, FAILS),
        ([NAN] * 12, UNDECIDED),
    ],
)  # fmt: skip
def test_decay_pulls_back(held, expected):
    free = [0.1, 0.9] * 6
    assert outcome("decay-pulls-back", gate_paths(own_rate=free, own_rate_decay=held)) is expected


def test_gates_that_never_moved_are_not_pulled_back():
    assert outcome("decay-pulls-back", gate_paths(own_rate=[0.45, 0.55] * 6, own_rate_decay=[0.5] * 12)) is UNDECIDED


@pytest.mark.parametrize("key", GATES)
def test_gates_of_models_that_have_learned_nothing_decide_nothing(key):
    losses = gate_losses({"shared": 4.5, "own rate": two_of_three(2.2, 4.5)})
    assert outcome(key, losses) is UNDECIDED


def test_each_setting_is_judged_at_its_own_last_step():
    found = gate_paths()
    longer = np.concatenate([found.values, np.full((*found.values.shape[:-1], 4), NAN)], axis=-1)
    steps = (*found.coords["step"], 300, 400, 500, 600)
    later = measurement(found.name, longer, **dict(found.coords) | {"step": steps})
    assert [outcome(key, later) for key in GATES] == [HOLDS] * 4
