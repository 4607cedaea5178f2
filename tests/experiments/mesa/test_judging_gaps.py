"""Numbers that are missing, seeds that disagree, and models that have learned nothing, where they once decided."""

import numpy as np
import pytest

from tests.experiments.mesa.judged import FAILS, HOLDS, NAN, PART, UNDECIDED, outcome, two_of_three
from tests.experiments.mesa.mesa_numbers import (
    attention,
    control,
    decode,
    deep,
    interpolation,
    kernels,
    linear_twins,
    measurement,
    one_layer,
    probe,
    prompts,
    raw,
    sensitivity,
    training,
    two_tasks,
)


@pytest.mark.parametrize("name", ["deep_probe", "softmax_probe"])
def test_a_probe_without_numbers_decides_nothing(name):
    found = probe(name)
    found.values[:] = NAN
    assert outcome("target-probe", found) is UNDECIDED
    found = probe(name)
    found.values[0, 3, 0] = NAN
    assert outcome("target-probe", found) is UNDECIDED


def test_missing_numbers_decide_nothing():
    assert outcome("binding-attention", attention(NAN, 0.9, 0.9, 0.9)) is UNDECIDED
    assert outcome("binding-partial", decode("partial_decode", [NAN] * 8, [0.01] * 8)) is UNDECIDED
    assert outcome("dimension", kernels(kernel=(NAN,) * 4)) is UNDECIDED
    assert outcome("few-shot", prompts(plain=(NAN,) * 3, separator=(NAN,) * 3)) is UNDECIDED
    assert outcome("two-tasks", *two_tasks(NAN)) is UNDECIDED


@pytest.mark.parametrize("changed", [one_layer({"compressed LSA-1": 1.6}), deep({"compressed LSA-6": 1.6})])
def test_a_path_to_a_network_that_predicts_zero_is_none(changed):
    assert outcome("interpolation", changed) is UNDECIDED


def test_steps_of_another_model_do_not_count_for_a_path():
    found = interpolation("one_layer_interpolation", "LSA-1")
    values = np.concatenate([found.values, np.full((*found.values.shape[:-1], 9), NAN)], axis=-1)
    longer = dict(found.coords) | {"step": tuple(range(0, 1800, 100))}
    assert outcome("interpolation", measurement(found.name, values, **longer)) is HOLDS


def test_each_model_is_felt_at_its_own_last_step():
    """Models with a mesa layer are trained for half as many steps as softmax ones."""
    found = sensitivity()
    steps = np.full((*found.values.shape[:2], 3, found.values.shape[-1]), NAN)
    steps[:, :, 0], steps[1:, :, 1], steps[0, :, 2] = (
        found.values[:, :, 0],
        found.values[1:, :, 1],
        found.values[0, :, 1],
    )
    assert (
        outcome("sensitivity", measurement(found.name, steps, **dict(found.coords) | {"step": (0, 1500, 3000)}))
        is HOLDS
    )


def test_layers_of_models_that_have_learned_nothing_cost_nothing_to_replace():
    idle = training("training_linearise", ("4", "20"), last=two_of_three(0.3, 1.6))
    assert outcome("linearise", idle, linear_twins(1.0, 1.0)) is UNDECIDED


def test_the_costliest_layer_decides():
    found = linear_twins()
    found.values[1, 5] = 5.0
    assert outcome("linearise", found) is FAILS


def test_probes_of_a_teacher_are_of_the_network_that_is_probed():
    assert outcome("fixed-teacher", control("fixed_teacher_loss", {"LSA-1": 0.1, "LSA-4": 4.0})) is UNDECIDED


def test_only_the_linear_world_can_fail_the_weaker_claim_of_hybrids():
    changed = raw({"Hybrid-mesa": two_of_three(0.2, 0.3)}), raw({"Hybrid-mesa": 0.3}, "nonlinear_loss")
    assert outcome("hybrid", *changed) is UNDECIDED


def test_seeds_that_disagree_about_prompts_decide_nothing():
    found = prompts(prefix=(1.7, 1.1, 0.5))
    found.values[1, 1, 0, 6:] = 1.1
    assert outcome("few-shot", found) is UNDECIDED
    found, switch = two_tasks()
    found.values[:, 1, 0] = 0.5
    assert outcome("two-tasks", found, switch) is UNDECIDED
    found.values[1, 1] = two_tasks()[0].values[1, 1]
    assert outcome("two-tasks", found, switch) is PART
