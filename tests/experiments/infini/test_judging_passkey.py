"""The claims about keys and facts are shown numbers on which they hold, hold in part, fail, or stay undecided."""

import numpy as np
import pytest

from tests.experiments.infini.infini_numbers import (
    LENGTHS,
    RULES,
    comparators,
    facts,
    keys,
    measurement,
    needle,
    samples,
)
from tests.experiments.infini.judged import FAILS, HOLDS, NAN, PART, UNDECIDED, outcome, reason, two_of_three


@pytest.mark.parametrize("rule", ["linear", "delta"])
@pytest.mark.parametrize(
    ("start", "middle", "expected"),
    [
        (0.98, 1.0, HOLDS), (1.0, 0.979, PART), (0.9, 0.9, PART), (0.89, 1.0, FAILS), (1.0, 0.3, FAILS),
        (two_of_three(1.0, 0.95), 1.0, PART), (two_of_three(1.0, 0.5), 1.0, UNDECIDED), (NAN, 1.0, UNDECIDED),
    ],
)  # fmt: skip
def test_a_million_bytes(rule, start, middle, expected):
    changed = keys({rule: (start, middle, 1.0)}, short={rule: 1.0})
    assert outcome(f"passkey-{rule}", changed) is expected


def test_a_rule_that_only_guesses_decides_nothing():
    guessing = keys({"linear": (0.1, 0.1, 0.1)})
    assert outcome("passkey-linear", guessing) is UNDECIDED
    assert outcome("passkey-end", guessing) is UNDECIDED
    assert outcome("needle-share", guessing) is UNDECIDED
    assert "guessing" in reason("passkey-linear", guessing)
    one = keys({"linear": (0.9, 0.9, 1.0)}, short={"linear": two_of_three(1.0, 0.1)})
    assert outcome("passkey-linear", one) is UNDECIDED


def test_few_texts_decide_nothing():
    assert outcome("passkey-linear", samples(2)) is UNDECIDED
    assert outcome("passkey-linear", samples(3)) is HOLDS
    assert "12 texts" in reason("passkey-delta", samples(2))


def test_without_a_million_bytes_nothing_is_said_about_them():
    found = keys()
    shorter = measurement(found.name, found.values[:, :, :-1], **dict(found.coords) | {"length": LENGTHS[:-1]})
    assert {outcome(key, shorter) for key in ("passkey-linear", "passkey-delta", "passkey-end")} == {UNDECIDED}


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (0.95, HOLDS), (0.9, PART), (0.5, FAILS), (two_of_three(1.0, 0.9), PART), (two_of_three(1.0, 0.5), UNDECIDED),
        (NAN, UNDECIDED),
    ],
)  # fmt: skip
def test_passkey_end(end, expected):
    found = keys()
    found.values[list(RULES).index("delta"), 2, 3] = end
    assert outcome("passkey-end", found) is expected


def test_a_length_that_was_not_read_is_no_gap_but_the_million_is():
    found = keys()
    found.values[0, :, 3] = NAN
    assert outcome("passkey-end", found) is HOLDS
    found.values[0, :, 5] = NAN
    assert outcome("passkey-end", found) is UNDECIDED


def test_one_rule_alone_can_be_judged_and_none_cannot():
    found = keys()
    found.values[[1, 3, 5]] = NAN
    judged = ("passkey-linear", "passkey-end", "passkey-memory", "passkey-control", "needle-share")
    assert {outcome(key, found) for key in judged} == {HOLDS}
    assert outcome("passkey-delta", found) is UNDECIDED


@pytest.mark.parametrize(
    ("off", "expected"),
    [
        (0.25, HOLDS), (0.3, PART), (0.41, FAILS), (0.9, FAILS), (two_of_three(0.1, 0.45), UNDECIDED),
        (two_of_three(0.1, NAN), UNDECIDED),
    ],
)  # fmt: skip
def test_passkey_memory(off, expected):
    assert outcome("passkey-memory", keys({"linear, memory off": (0.1, off, 1.0)})) is expected


def test_what_is_not_found_with_the_memory_is_not_lost_without_it():
    found = keys(short={"delta": 0.85})
    assert outcome("passkey-memory", found) is UNDECIDED
    assert "delta" in reason("passkey-memory", found)


def test_the_memory_need_not_be_switched_off_at_every_length():
    found = keys()
    found.values[[2, 3], :, 2:] = NAN
    assert outcome("passkey-memory", found) is HOLDS


@pytest.mark.parametrize(
    ("far", "near", "expected"),
    [
        (0.5, 0.9, HOLDS), (0.51, 0.95, FAILS), (0.98, 1.0, FAILS), (two_of_three(0.3, 0.6), 0.95, UNDECIDED),
        (0.3, 0.89, UNDECIDED), (0.1, two_of_three(1.0, 0.1), UNDECIDED), (NAN, 1.0, UNDECIDED),
    ],
)  # fmt: skip
def test_passkey_control(far, near, expected):
    changed = {rule: (far, 0.2, 1.0) for rule in ("linear, real lengths", "delta, real lengths")}
    found = keys(changed, short={"linear, real lengths": near})
    assert outcome("passkey-control", found) is expected


@pytest.mark.parametrize(
    ("best", "expected"),
    [
        (0.9, HOLDS), (0.7, PART), (0.49, FAILS), (two_of_three(0.95, 0.8), PART), (two_of_three(0.95, 0.4), UNDECIDED),
        (NAN, UNDECIDED),
    ],
)  # fmt: skip
def test_needle_share(best, expected):
    assert outcome("needle-share", needle(best)) is expected


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0.25, 1.0, HOLDS), (0.4, 1.0, PART), (0.41, 1.0, FAILS), (two_of_three(0.1, 0.6), 1.0, UNDECIDED),
        (0.1, 0.49, UNDECIDED), (0.1, two_of_three(1.0, 0.1), UNDECIDED), (NAN, 1.0, UNDECIDED), (0.1, NAN, UNDECIDED),
    ],
)  # fmt: skip
def test_window_forgets(start, end, expected):
    assert outcome("window-forgets", comparators(start, end)) is expected


def test_a_window_with_one_seed_decides_nothing():
    found = comparators()
    one = measurement(found.name, found.values[..., :1], **dict(found.coords) | {"seed": (0,)})
    assert outcome("window-forgets", one) is UNDECIDED
    assert "too few seeds" in reason("window-forgets", one)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((0.2, 0.3, 0.25, 0.4), HOLDS), ((0.2, 0.3, 0.3, 0.3), PART), ((0.2, 0.2, 0.25, 0.29), FAILS),
        ((0.2, 0.6, 0.5, 0.9), FAILS), ((0.5, 0.5, 0.5, 0.5), FAILS), ((0.0, 0.02, 0.05, 0.09), UNDECIDED),
        ((0.1, 0.2, 0.3, two_of_three(0.4, 0.12)), UNDECIDED), ((0.1, 0.2, NAN, 0.4), UNDECIDED),
    ],
)  # fmt: skip
def test_facts_grow(scores, expected):
    assert outcome("facts-grow", facts(*scores)) is expected


def test_facts_are_judged_in_the_order_of_what_was_read():
    found = facts()
    order = [3, 0, 2, 1]
    coords = dict(found.coords) | {"read": [found.coords["read"][i] for i in order]}
    assert outcome("facts-grow", measurement(found.name, found.values[:, order], **coords)) is HOLDS
    assert (
        outcome("facts-grow", measurement(found.name, found.values[:, :1], **dict(found.coords) | {"read": (512,)}))
        is UNDECIDED
    )


def test_the_sentence_does_not_round_a_miss_up_to_the_threshold():
    found = keys({"linear": (0.9796, 1.0, 1.0)})
    assert outcome("passkey-linear", found) is PART
    assert "97.9" in reason("passkey-linear", found)
    assert np.isclose(found.at(rule="linear", depth="start", length=1_048_576).values, 0.9796).all()
