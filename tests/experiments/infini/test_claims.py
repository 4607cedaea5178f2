"""All claims of the Infini study: those of its page, on numbers on which they hold, and where nothing can be decided."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glassworks.evidence.claims import Evidence, Scale, judge
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.infini.claims import CLAIMS
from tests.experiments.infini.infini_numbers import everything, gate_paths, positions, training
from tests.experiments.infini.judged import HOLDS, UNDECIDED, outcome, reason

PAGE = Path(__file__).parents[3] / "docs" / "papers" / "infini.md"
# What involves no chance needs no repetition.
CERTAIN = {"infini.sizes", "infini.ratio", "infini.not-idempotent", "infini.latest-value", "infini.half-precision"}


def test_the_claims_are_those_of_the_page_in_its_order():
    table = PAGE.read_text(encoding="utf-8").partition("| claim | holds when |")[2]
    rows = re.findall(r"^\| ([a-z, -]+) \|", table, re.MULTILINE)
    keys = [key for row in rows for key in row.split(", ")]
    assert [claim.key for claim in CLAIMS] == [f"infini.{key}" for key in keys]
    assert len(keys) == 27


def test_there_are_numbers_on_which_every_claim_holds():
    assert {v.claim: v.outcome for v in judge(CLAIMS, everything())} == {c.key: HOLDS for c in CLAIMS}


def test_smoke_and_two_seeds_decide_nothing():
    assert {v.outcome for v in judge(CLAIMS, everything(scale=Scale.SMOKE))} == {UNDECIDED}
    pairs = {name: _first_two(found) for name, found in everything().measurements.items()}
    verdicts = judge(CLAIMS, Evidence(pairs, Scale.LAPTOP))
    assert {v.claim for v in verdicts if v.outcome is not UNDECIDED} == CERTAIN


def _first_two(found: Measurement) -> Measurement:
    if "seed" not in found.dims:
        return found
    values = np.take(found.values, (0, 1), axis=found.dims.index("seed"))
    return replace(found, values=values, coords=dict(found.coords) | {"seed": (0, 1)})


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


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.key)
def test_measurements_without_a_number_decide_nothing_and_break_nothing(claim):
    found = {
        name: replace(m, values=np.full(m.values.shape, np.nan)) if name in claim.needs else m
        for name, m in everything().measurements.items()
    }
    assert judge([claim], Evidence(found, Scale.LAPTOP))[0].outcome is UNDECIDED


@pytest.mark.parametrize("claim", [c for c in CLAIMS if c.key not in CERTAIN], ids=lambda c: c.key)
def test_a_seed_that_counts_twice_decides_nothing(claim):
    for name in claim.needs:
        found = everything()[name]
        if found.seeds:
            twice = replace(found, coords=dict(found.coords) | {"seed": (0, 1, 1)})
            assert outcome(claim.key.removeprefix("infini."), twice) is UNDECIDED, name


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("memory-helps", positions()), ("memory-helps", training("training_language", ("infini", "local"))),
        ("gates-stuck", gate_paths()), ("passkey-linear", training("training_passkey", ("first",))),
        ("facts-grow", training("training_books", ("facts",))),
    ],
)  # fmt: skip
def test_one_training_under_two_seeds_decides_nothing(key, found):
    axis = found.dims.index("seed")
    copied = replace(found, values=np.take(found.values, (0, 1, 1), axis=axis))
    assert outcome(key, copied) is UNDECIDED
    assert found.name in reason(key, copied)


def test_a_model_trained_with_one_seed_alone_is_no_copy():
    found = training("training_passkey", ("first", "window"))
    found.values[1, 1:] = np.nan
    assert outcome("passkey-linear", found) is HOLDS
