"""The claims about linear layers are shown numbers on which they must hold, hold in part, fail, or stay undecided."""

import re
from pathlib import Path

import numpy as np
import pytest

from glassworks.evidence.claims import Evidence, Scale, judge
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.mesa.claims import CLAIMS
from tests.experiments.mesa.judged import BOTH, FAILS, HOLDS, NAN, PART, UNDECIDED, outcome, two_of_three
from tests.experiments.mesa.mesa_numbers import (
    ZERO,
    coefficients,
    control,
    deep,
    everything,
    interpolation,
    inverse,
    measurement,
    one_layer,
    probe,
    raw,
    text,
    training,
)

PAGE = Path(__file__).parents[3] / "docs" / "papers" / "mesa.md"


def test_the_claims_are_those_of_the_page_in_its_order():
    table = PAGE.read_text(encoding="utf-8").partition("| key | claim |")[2].partition("\n\n")[0]
    keys = re.findall(r"^\| ([a-z-]+) \|", table, re.MULTILINE)
    assert [claim.key for claim in CLAIMS] == [f"mesa.{key}" for key in keys]
    assert len(keys) == 31


def test_there_are_numbers_on_which_every_claim_holds():
    assert {v.claim: v.outcome for v in judge(CLAIMS, everything())} == {c.key: HOLDS for c in CLAIMS}


def test_smoke_and_two_seeds_decide_nothing():
    smoke = judge(CLAIMS, everything(scale=Scale.SMOKE))
    assert {v.outcome for v in smoke} == {UNDECIDED}
    pairs = {name: _first_two(found) for name, found in everything().measurements.items()}
    verdicts = judge(CLAIMS, Evidence(pairs, Scale.LAPTOP))
    # Kernel and ridge are compared without any training.
    assert {v.claim for v in verdicts if v.outcome is not UNDECIDED} == {"mesa.dimension"}


def _first_two(found: Measurement) -> Measurement:
    if "seed" not in found.dims:
        return found
    values = np.take(found.values, (0, 1), axis=found.dims.index("seed"))
    return measurement(found.name, values, **{d: (0, 1) if d == "seed" else found.coords[d] for d in found.dims})


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.key)
def test_a_claim_without_one_of_its_measurements_is_undecided(claim):
    assert claim.needs
    for needed in claim.needs:
        found = {name: m for name, m in everything().measurements.items() if name != needed}
        assert judge([claim], Evidence(found, Scale.LAPTOP))[0].outcome is UNDECIDED, needed


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.key)
def test_a_claim_needs_no_more_than_it_names(claim):
    found = {name: everything()[name] for name in claim.needs}
    assert judge([claim], Evidence(found, Scale.LAPTOP))[0].outcome is HOLDS


@pytest.mark.parametrize(
    ("key", "idle"),
    [
        *((key, one_layer({"LSA-1": 1.52})) for key in ("one-step", "coefficients", "compress-one", "by-hand", "interpolation")),
        *((key, one_layer({"Mesa-1": 1.52})) for key in ("mesa-is-ridge", "mesa-beats")),
        *((key, deep({"LSA-6": 1.52})) for key in ("by-hand", "mesa-beats", "compress-deep", "interpolation")),
        *((key, deep({"LSA-6": 1.52})) for key in ("steps-as-layers", "steps-all-pairs", "inverse-probe")),
        *((key, deep({"LSA-6": [0.2, 0.2, 1.52]})) for key in ("target-probe", "precondition-probe")),
        *((key, raw({"Softmax-7": 1.52})) for key in ("steps-as-layers", "steps-all-pairs", "target-probe")),
        *((key, raw({"Softmax-7": 1.52})) for key in ("precondition-probe", "binding", "binding-attention", "hybrid")),
        *((key, raw({"Hybrid-mesa": 1.52})) for key in ("binding", "binding-attention", "sensitivity", "hybrid")),
        *((key, raw({"Hybrid-mesa": 1.52}, "partial_loss")) for key in ("binding-partial", "hybrid")),
        ("hybrid", raw({"Softmax-7": 1.52}, "nonlinear_loss")),
        ("contracting", control("contracting_loss", {"LSA-1": 3.7, "one step, best rate": 3.7})),
        ("fixed-teacher", control("fixed_teacher_loss", {"LSA-1": 3.7, "one step, best rate": 40.0})),
        *(
            (key, training("training_few_shot", BOTH, last=[0.3, 0.3, 1.6]))
            for key in ("few-shot", "early-ascent", "separator-zero", "two-tasks", "not-regression")
        ),
        *(
            (key, text({"linear": [2.6, 2.6, 4.1]}))
            for key in ("language-order", "language-context", "language-softmax", "copy-heads")
        ),
    ],
)  # fmt: skip
def test_models_that_have_learned_nothing_decide_nothing(key, idle):
    assert outcome(key, idle) is UNDECIDED


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (1.01, HOLDS), (0.99, HOLDS), (1.04, PART), (0.96, PART), (1.2, FAILS), (0.9, FAILS), (NAN, UNDECIDED),
        (two_of_three(1.04, 1.06), UNDECIDED), (two_of_three(1.0, 1.04), PART),
    ],
)  # fmt: skip
def test_one_step(level, expected):
    assert outcome("one-step", one_layer({"LSA-1": level})) is expected


@pytest.mark.parametrize(
    ("rate", "other", "expected"),
    [
        (0.0321, 0.007, HOLDS), (0.0349, 0.007, HOLDS), (0.0315, 0.007, PART), (0.0385, 0.007, PART),
        (0.0335, 0.01, PART), (0.0275, 0.001, FAILS), (0.04, 0.001, FAILS), (0.0335, 0.02, FAILS),
        (-0.0335, 0.001, FAILS), (two_of_three(0.0335, 0.04), 0.001, UNDECIDED), (NAN, 0.001, UNDECIDED),
        (0.0335, NAN, UNDECIDED),
    ],
)  # fmt: skip
def test_coefficients(rate, other, expected):
    assert outcome("coefficients", coefficients(rate, other)) is expected


@pytest.mark.parametrize(
    ("level", "expected"),
    [(1.005, HOLDS), (1.03, PART), (1.1, FAILS), (0.9, FAILS), (NAN, UNDECIDED), (two_of_three(1.0, 1.1), UNDECIDED)],
)
def test_compress_one(level, expected):
    assert outcome("compress-one", one_layer({"compressed LSA-1": level})) is expected


@pytest.mark.parametrize(
    ("one", "six", "expected"),
    [
        (1.015, 0.22, HOLDS), (1.0, 0.1, HOLDS), (1.04, 0.22, PART), (0.96, 0.22, PART), (1.0, 0.245, PART),
        (1.06, 0.22, FAILS), (1.0, 0.26, FAILS), (1.0, NAN, UNDECIDED), (NAN, 0.22, UNDECIDED),
        (1.0, two_of_three(0.22, 0.26), UNDECIDED),
    ],
)  # fmt: skip
def test_by_hand(one, six, expected):
    changed = one_layer({"construction": one}), deep({"constructed network, 6 steps": six})
    assert outcome("by-hand", *changed) is expected


@pytest.mark.parametrize(
    ("level", "expected"),
    [(0.156, HOLDS), (0.163, PART), (0.2, FAILS), (NAN, UNDECIDED), (two_of_three(0.15, 0.2), UNDECIDED)],
)
def test_mesa_is_ridge(level, expected):
    assert outcome("mesa-is-ridge", one_layer({"Mesa-1": level})) is expected


@pytest.mark.parametrize(
    ("mesa", "expected"),
    [
        (0.19, HOLDS), (two_of_three(0.19, 0.21), PART), (0.3, FAILS), (two_of_three(0.19, 0.3), UNDECIDED), (NAN, UNDECIDED),
    ],
)  # fmt: skip
def test_mesa_beats(mesa, expected):
    assert outcome("mesa-beats", one_layer({"Mesa-1": mesa})) is expected


def test_mesa_must_beat_the_best_of_the_linear_networks():
    assert outcome("mesa-beats", deep({"LSA-2": 0.14})) is FAILS


@pytest.mark.parametrize(
    ("level", "expected"),
    [(0.235, HOLDS), (0.1, HOLDS), (0.26, PART), (0.3, FAILS), (NAN, UNDECIDED), (two_of_three(0.22, 0.3), UNDECIDED)],
)
def test_compress_deep(level, expected):
    assert outcome("compress-deep", deep({"compressed LSA-6": level})) is expected


@pytest.mark.parametrize(("name", "model"), [("one_layer_interpolation", "LSA-1"), ("deep_interpolation", "LSA-6")])
@pytest.mark.parametrize(
    ("late", "expected"),
    [(1.01, HOLDS), (0.5, HOLDS), (1.04, PART), (1.2, FAILS), (NAN, UNDECIDED), (two_of_three(1.0, 1.2), UNDECIDED)],
)
def test_interpolation(name, model, late, expected):
    """Early in training the mean may cost anything: the numbers have 3 there."""
    assert outcome("interpolation", interpolation(name, model, late)) is expected


def test_the_mean_network_is_measured_against_the_worse_of_the_two():
    found = interpolation("deep_interpolation", "LSA-6", 1.3, ends=(1.3, 1.0))
    assert outcome("interpolation", found) is HOLDS
    assert outcome("interpolation", interpolation("deep_interpolation", "LSA-6", 1.3, ends=(1.1, 1.2))) is FAILS


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ((1.07, 0.93, 1.0, 1.0, 1.0), HOLDS), ((1.2, 1.0, 1.0, 1.0, 1.0), PART), ((1.2, 0.8, 1.0, 1.0, 1.0), PART),
        ((1.2, 1.2, 1.2, 1.0, 1.0), FAILS), ((1.2,) * 5, FAILS), ((NAN,) * 5, UNDECIDED),
        ((1.2, 1.2, two_of_three(1.0, 1.2), 1.0, 1.0), UNDECIDED), ((1.2, NAN, 1.0, 1.0, 1.0), UNDECIDED),
    ],
)  # fmt: skip
def test_steps_as_layers(factors, expected):
    two, four, six, three, seven = (np.asarray(factor) for factor in factors)
    changed = deep({"LSA-2": 0.6 * two, "LSA-4": 0.35 * four, "LSA-6": 0.22 * six})
    solvers = {"Prop. 2, 2 steps, one late": 0.6 / three, "Prop. 2, 6 steps, one late": 0.22 / seven}
    assert outcome("steps-as-layers", changed, raw(solvers)) is expected


@pytest.mark.parametrize(
    ("linear", "softmax", "expected"),
    [
        (0.17, 0.17, HOLDS), (0.17, 0.3, PART), (0.3, 0.17, PART), (0.3, 0.3, FAILS), (NAN, NAN, UNDECIDED),
        (two_of_three(0.17, 0.3), 0.3, UNDECIDED), (two_of_three(0.17, 0.3), 0.17, PART),
    ],
)  # fmt: skip
def test_steps_all_pairs(linear, softmax, expected):
    name = "Prop. 2, 6 steps, all pairs"
    assert outcome("steps-all-pairs", deep({name: linear}), raw({name: softmax})) is expected


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ((1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2), HOLDS), ((1.0, 1.01, 1.02, 0.5, 0.4, 0.3, 0.2), HOLDS),
        ((1.0, 1.1, 0.6, 0.5, 0.4, 0.3, 0.2), PART), ((1.0, 1.1, 1.2, 0.5, 0.4, 0.3, 0.2), FAILS),
    ],
)  # fmt: skip
def test_target_probe(layers, expected):
    """Six steps in each of two models: one that gets worse is a twelfth, two are a sixth."""
    assert outcome("target-probe", probe("deep_probe", layers)) is expected


def test_the_layers_are_compared_at_five_positions_of_the_mean_over_seeds():
    found = probe("deep_probe")
    found.values[0, 3, 0] *= 1.05
    assert outcome("target-probe", found) is HOLDS
    found.values[0, 3, :, 9] = 5.0
    assert outcome("target-probe", found) is PART
    found.values[0, 3, :, 10] = 5.0
    assert outcome("target-probe", found) is PART


@pytest.mark.parametrize(
    ("linear", "softmax", "expected"),
    [
        (0.19, 0.39, HOLDS), (0.3, 0.3, PART), (0.1, 0.5, PART), (0.5, 0.3, FAILS), (0.1, 0.7, FAILS),
        (two_of_three(0.1, 0.5), 0.3, UNDECIDED), (NAN, 0.3, UNDECIDED), (0.1, NAN, UNDECIDED),
    ],
)  # fmt: skip
def test_precondition_probe(linear, softmax, expected):
    changed = probe("deep_probe", best=linear), probe("softmax_probe", best=softmax)
    assert outcome("precondition-probe", *changed) is expected


def test_the_preconditioned_input_is_asked_for_between_20_and_50():
    found = probe("deep_probe", best=0.5)
    found.values[1, 2, :, 19:50] = 0.1
    assert outcome("precondition-probe", found) is HOLDS
    found.values[1, 0, :, 19:50] = 0.1
    assert outcome("precondition-probe", found) is FAILS


@pytest.mark.parametrize(
    ("best", "expected"),
    [(0.85, HOLDS), (0.6, PART), (0.3, FAILS), (NAN, UNDECIDED), (two_of_three(0.85, 0.3), UNDECIDED)],
)
def test_inverse_probe(best, expected):
    assert outcome("inverse-probe", inverse(best)) is expected


def test_what_is_readable_in_the_input_is_no_work_of_a_layer():
    found = inverse(0.3)
    found.values[1, 0] = 0.95
    assert outcome("inverse-probe", found) is FAILS


def test_the_bound_of_having_learned_is_a_tenth_below_zero():
    near = {"one step, best rate": 0.905 * ZERO, "LSA-1": 0.905 * ZERO}
    assert outcome("one-step", one_layer(near)) is UNDECIDED
    assert outcome("one-step", one_layer({name: 0.99 * level for name, level in near.items()})) is HOLDS
