"""The claims about raw tokens, other worlds, prompts and text are shown numbers that decide them each way."""

import numpy as np
import pytest

from tests.experiments.mesa.judged import BOTH, FAILS, HOLDS, NAN, PART, UNDECIDED, outcome, two_of_three
from tests.experiments.mesa.mesa_numbers import (
    PAIRS,
    SEEDS,
    SENSITIVITY,
    attention,
    context,
    control,
    copying,
    decode,
    kernels,
    linear_twins,
    measurement,
    probe,
    prompts,
    raw,
    sensitivity,
    text,
    two_tasks,
)


@pytest.mark.parametrize(
    ("softmax", "hybrid", "expected"),
    [
        (0.006, 0.006, HOLDS), (0.006, 0.02, PART), (0.02, 0.006, PART), (0.1, 0.1, FAILS), (0.001, 0.1, FAILS),
        (two_of_three(0.006, 0.1), 0.006, UNDECIDED), (NAN, 0.006, UNDECIDED),
    ],
)  # fmt: skip
def test_binding(softmax, hybrid, expected):
    """0.33 is the variance; how well the present token is decoded does not matter."""
    found = decode("binding_decode", [0.3, softmax], [0.3, hybrid])
    assert outcome("binding", found) is expected


@pytest.mark.parametrize(
    ("heads", "expected"),
    [((0.85, 0.9, 0.9, 0.9), HOLDS), ((0.75, 0.9, 0.9, 0.9), PART), ((0.3, 0.3, 0.3, 0.3), FAILS)],
)
def test_binding_attention(heads, expected):
    assert outcome("binding-attention", attention(*heads)) is expected


def test_attention_is_averaged_over_seeds():
    found = attention(0.85, 0.9, 0.9, 0.9)
    found.values[0, 0, :, :2] = np.array([0.75, 0.85, 0.9])[:, None] / 2
    assert outcome("binding-attention", found) is HOLDS


@pytest.mark.parametrize(
    ("softmax", "hybrid", "expected"),
    [
        ([0.03] * 4, [0.03] * 4, HOLDS), ([0.03] * 3, [0.03] * 4, PART), ([0.03] * 4, [0.03] * 3, PART),
        ([0.03] * 2, [0.03] * 8, FAILS), ([0.03, 0.3, 0.03, 0.03], [0.03] * 4, FAILS),
        ([0.03, 0.03, two_of_three(0.03, 0.3), 0.03], [0.03] * 4, UNDECIDED),
        ([0.03, 0.03, 0.03, two_of_three(0.03, 0.3)], [0.03] * 4, PART),
    ],
)  # fmt: skip
def test_binding_partial(softmax, hybrid, expected):
    assert outcome("binding-partial", decode("partial_decode", softmax, hybrid)) is expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, HOLDS), ({"Full-mesa": 0.08}, PART), ({"Full-mesa": two_of_three(0.3, 0.08)}, PART),
        ({"Softmax-7": 0.06}, FAILS), ({"Hybrid-mesa": 0.06}, FAILS), ({"Softmax-7": NAN}, UNDECIDED),
        ({"Hybrid-mesa": two_of_three(0.01, 0.06)}, UNDECIDED),
    ],
)  # fmt: skip
def test_sensitivity(changed, expected):
    assert set(changed) <= set(SENSITIVITY)
    assert outcome("sensitivity", sensitivity(changed)) is expected


@pytest.mark.parametrize(
    ("later", "first", "expected"),
    [(1.08, 2.5, HOLDS), (1.08, 1.5, PART), (1.2, 2.5, PART), (1.5, 2.5, FAILS), (NAN, 2.5, UNDECIDED)],
)
def test_linearise(later, first, expected):
    assert outcome("linearise", linear_twins(later, first)) is expected


def test_worlds_of_few_dimensions_do_not_count_for_linear_layers():
    assert outcome("linearise", linear_twins(dimensions=(4, 10))) is UNDECIDED


@pytest.mark.parametrize(
    ("ridge", "kernel", "expected"),
    [
        ((0.03, 0.02, 0.01, 0.005), (0.03, 0.05, 0.07, 0.09), HOLDS),
        ((0.03, 0.02, 0.005, 0.01), (0.03, 0.05, 0.09, 0.07), HOLDS),
        ((0.03, 0.005, 0.02, 0.01), (0.03, 0.05, 0.07, 0.09), PART),
        ((0.03, 0.02, 0.01, 0.005), (0.03, 0.09, 0.01, 0.05), PART),
        ((0.005, 0.01, 0.02, 0.03), (0.03, 0.05, 0.07, 0.09), FAILS),
        ((0.03, 0.02, 0.01, 0.005), (0.03, 0.02, 0.01, 0.005), FAILS),
    ],
)
def test_dimension(ridge, kernel, expected):
    assert outcome("dimension", kernels(ridge, kernel)) is expected


@pytest.mark.parametrize(
    ("linear", "nonlinear", "partial", "expected"),
    [
        (0.2, 0.2, 0.21, HOLDS), (0.2, 0.3, 0.21, PART), (0.2, 0.2, 0.3, PART), (0.3, 0.2, 0.2, FAILS),
        (0.3, 0.3, 0.3, FAILS), (two_of_three(0.2, 0.3), 0.2, 0.2, UNDECIDED), (NAN, 0.2, 0.2, UNDECIDED),
    ],
)  # fmt: skip
def test_hybrid(linear, nonlinear, partial, expected):
    changed = [
        raw({"Hybrid-mesa": level}, name)
        for name, level in (("softmax_loss", linear), ("nonlinear_loss", nonlinear), ("partial_loss", partial))
    ]
    assert outcome("hybrid", *changed) is expected


def test_in_the_partial_world_the_last_position_counts():
    found = raw({"Hybrid-mesa": 0.23}, "partial_loss")
    found.values[1:3, :, -1] = np.array([0.2, 0.1])[:, None]
    assert outcome("hybrid", found) is HOLDS
    found.values[1:3, :, -1] = np.array([0.1, 0.2])[:, None]
    assert outcome("hybrid", found) is PART


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"plain": (1.7, 2.0, 1.18)}, HOLDS),
        ({"plain": (1.7, 2.0, 1.3)}, PART),
        ({"separator": (1.7, 1.0, 1.1)}, PART),
        ({"prefix": (1.7, 1.1, 0.5)}, PART),
        ({"plain": (1.7, 2.0, 1.3), "prefix": (1.7, 1.1, 0.5)}, FAILS),
        ({"plain": (1.7, 2.0, 1.7), "separator": (1.7, 1.0, 1.8), "prefix": (1.7, 1.1, 1.8)}, FAILS),
    ],
)
def test_few_shot(changed, expected):
    assert outcome("few-shot", prompts(**changed)) is expected


def test_both_models_must_learn_from_prompts():
    found = prompts()
    found.values[1, 0, :, 6:] = 1.6
    assert outcome("few-shot", found) is PART


@pytest.mark.parametrize(
    ("softmax", "hybrid", "expected"),
    [
        (2.0, 2.0, HOLDS), (2.0, 1.0, PART), (1.0, 1.0, FAILS), (two_of_three(2.0, 1.0), 1.0, UNDECIDED),
        (two_of_three(2.0, 1.0), 2.0, PART), (NAN, NAN, UNDECIDED),
    ],
)  # fmt: skip
def test_early_ascent(softmax, hybrid, expected):
    """1.7 is the loss after no pair; what comes after one pair or two does not count."""
    found = prompts()
    found.values[0, 0, :, 3:6], found.values[1, 0, :, 3:6] = (np.reshape(v, (-1, 1)) for v in (softmax, hybrid))
    found.values[:, 0, :, 1:3] = 9.0
    assert outcome("early-ascent", found) is expected


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([[0.01] * 3, [0.04] * 3], HOLDS), ([[0.01] * 3, [0.1] * 3], PART), ([[0.01] * 3, [0.3] * 3], FAILS),
        ([[0.01] * 3, [0.01, 0.01, 0.3]], UNDECIDED), ([[0.01] * 3, [NAN] * 3], UNDECIDED),
    ],
)  # fmt: skip
def test_separator_zero(entries, expected):
    assert outcome("separator-zero", measurement("few_shot_separator", entries, model=BOTH, seed=SEEDS)) is expected


@pytest.mark.parametrize(
    ("levels", "expected"),
    [((0.5, 2.0, 0.6), HOLDS), ((0.5, 2.0, 2.1), FAILS), ((2.1, 2.0, 0.6), FAILS), ((0.5, 0.5, 0.5), FAILS)],
)
def test_two_tasks(levels, expected):
    assert outcome("two-tasks", *two_tasks(*levels)) is expected


def test_one_model_that_learns_the_second_task_is_a_part():
    found, switch = two_tasks()
    found.values[1, 1] = 0.5
    assert outcome("two-tasks", found, switch) is PART


def test_the_second_task_begins_where_the_switch_is():
    found, _ = two_tasks(switch=20)
    assert outcome("two-tasks", found, measurement("few_shot_switch", 30)) is FAILS
    assert outcome("two-tasks", *two_tasks(switch=30)) is HOLDS
    assert PAIRS == 40


@pytest.mark.parametrize(("late", "expected"), [(0.02, HOLDS), (0.1, PART), (0.5, FAILS), (NAN, UNDECIDED)])
def test_not_regression(late, expected):
    """The closest prompt ends at 0.5: ten times the ridge of 0.05, three times that of 0.17."""
    assert outcome("not-regression", prompts(**{"ridge on pairs": (1.7, 1.0, late)})) is expected


def test_the_closest_prompt_of_a_seed_decides_about_regression():
    found = prompts()
    found.values[1, 2, 0, -4:] = 0.04
    assert outcome("not-regression", found) is UNDECIDED
    found.values[1, 2, :, -4:] = 0.04
    assert outcome("not-regression", found) is FAILS


@pytest.mark.parametrize(
    ("level", "expected"),
    [(1.02, HOLDS), (0.98, HOLDS), (1.08, PART), (1.2, FAILS), (0.8, FAILS), (NAN, UNDECIDED), (two_of_three(1.0, 1.2), UNDECIDED)],
)  # fmt: skip
def test_contracting(level, expected):
    assert outcome("contracting", control("contracting_loss", {"LSA-1": level})) is expected


@pytest.mark.parametrize(
    ("level", "probed", "expected"),
    [
        (0.2, 0.6, HOLDS), (0.2, 0.4, PART), (0.2, two_of_three(0.6, 0.4), PART), (0.5, 0.6, FAILS),
        (two_of_three(0.2, 0.3), 0.6, UNDECIDED), (NAN, 0.6, UNDECIDED),
    ],
)  # fmt: skip
def test_fixed_teacher(level, probed, expected):
    changed = control("fixed_teacher_loss", {"LSA-1": level}), probe("fixed_teacher_probe", best=probed)
    assert outcome("fixed-teacher", *changed) is expected


@pytest.mark.parametrize(
    ("mesa", "expected"),
    [
        ([2.5, 2.51, 2.49], HOLDS), ([2.3, 2.5, 2.68], PART), ([2.7, 2.71, 2.69], FAILS), ([2.52, 2.62, 2.72], UNDECIDED),
        (NAN, UNDECIDED),
    ],
)  # fmt: skip
def test_language_order(mesa, expected):
    assert outcome("language-order", text({"mesa": mesa})) is expected


def test_models_of_text_are_paired_by_seed():
    """Seeds differ far more than mixers do."""
    assert outcome("language-order", text({"linear": [2.0, 2.6, 3.2], "mesa": [1.9, 2.5, 3.1]})) is HOLDS
    assert outcome("language-order", text({"linear": [2.0, 2.6, 3.2], "mesa": [3.1, 2.5, 1.9]})) is PART


@pytest.mark.parametrize(
    ("mesa", "expected"),
    [
        ([-0.4, -0.41, -0.39], HOLDS), ([-0.9, -0.3, 0.4], PART), ([-0.1, -0.11, -0.09], FAILS),
        ([-0.5, -0.1, 0.3], UNDECIDED), (NAN, UNDECIDED),
    ],
)  # fmt: skip
def test_language_context(mesa, expected):
    assert outcome("language-context", context({"mesa": mesa})) is expected


def test_where_neither_model_uses_its_context_nothing_is_compared():
    assert (
        outcome("language-context", context({"linear": [0.021, 0.02, 0.019], "mesa": [0.011, 0.01, 0.009]}))
        is UNDECIDED
    )


@pytest.mark.parametrize(
    ("mesa", "expected"),
    [(2.53, HOLDS), (2.2, HOLDS), (2.6, PART), (2.7, FAILS), (two_of_three(2.5, 2.7), UNDECIDED), (NAN, UNDECIDED)],
)
def test_language_softmax(mesa, expected):
    assert outcome("language-softmax", text({"mesa": mesa})) is expected


@pytest.mark.parametrize(
    ("least", "expected"),
    [(0.85, HOLDS), (0.6, PART), (0.3, FAILS), (two_of_three(0.85, 0.3), UNDECIDED), (NAN, UNDECIDED)],
)
def test_copy_heads(least, expected):
    assert outcome("copy-heads", copying(least)) is expected
