"""Every claim of the tree study: where it holds, holds in part, fails, and decides nothing."""

from dataclasses import replace

import numpy as np
import pytest

from glassworks.evidence.claims import Evidence, Scale, judge
from glassworks.experiments.tree.claims import CLAIMS
from tests.experiments.tree.tree_numbers import (
    BITS,
    FAILS,
    HOLDS,
    PART,
    UNDECIDED,
    continuing,
    everything,
    hasty,
    outcome,
    positions,
    speed,
    translating,
    understanding,
    verdict,
    without,
)

MIXED = (2.30, 2.48, 2.44)


def test_there_are_numbers_on_which_every_claim_holds():
    assert {v.claim: v.outcome for v in judge(CLAIMS, everything())} == {c.key: HOLDS for c in CLAIMS}
    assert len(CLAIMS) == 20


def test_smoke_decides_nothing():
    assert {v.outcome for v in judge(CLAIMS, everything(scale=Scale.SMOKE))} == {UNDECIDED}


CASES = (
    ("rms-as-good", positions({"layer norm": 2.44}), PART),
    ("rms-as-good", positions({"layer norm": 2.30}), FAILS),
    ("rms-as-good", positions({"layer norm": (2.40, 2.40, 2.60)}), UNDECIDED),
    ("pre-norm-stable", hasty({"rms after": 3.65}), PART),
    ("pre-norm-stable", hasty({"rms after": 3.6, "layer norm after": 3.6}), FAILS),
    ("pre-norm-stable", hasty({"rms after": (3.0, 4.4, 3.7), "layer norm after": (3.0, 4.4, 3.7)}), UNDECIDED),
    ("pre-norm-costs-nothing", positions({"rms after": 2.37}), PART),
    ("pre-norm-costs-nothing", positions({"layer norm after": 2.30}), FAILS),
    ("pre-norm-costs-nothing", positions({"layer norm after": (2.30, 2.41, 2.41)}), UNDECIDED),
    ("swiglu", positions({"relu": 2.39}), PART),
    ("swiglu", positions({"relu": 2.39, "gelu": 2.38}), FAILS),
    ("swiglu", positions({"relu": MIXED, "gelu": MIXED}), UNDECIDED),
    ("rotary", positions({"none": 2.39}), PART),
    ("rotary", positions({"none": 2.39, "learned": 2.39}), FAILS),
    ("rotary", positions({"none": MIXED, "learned": MIXED}), UNDECIDED),
    ("alibi-as-good", positions({"alibi": 2.36}), PART),
    ("alibi-as-good", positions({"alibi": 2.30}), FAILS),
    ("alibi-as-good", positions({"alibi": (2.30, 2.40, 2.40)}), UNDECIDED),
    ("alibi-reaches", positions(rises={"alibi": 0.15}), PART),
    ("alibi-reaches", positions(rises={"alibi": 0.5}), FAILS),
    ("alibi-reaches", positions(rises={"alibi": (0.1, 0.1, 0.3)}), UNDECIDED),
    ("rotary-reaches", positions(rises={"llama": 0.15}), PART),
    ("rotary-reaches", positions(rises={"llama": 2.0}), FAILS),
    ("rotary-reaches", positions(rises={"llama": (0.1, 0.1, 0.3)}), UNDECIDED),
    ("tables-stop", positions(rises={"sinusoidal": 0.1}), PART),
    ("tables-stop", positions(rises={"sinusoidal": 0.0}), FAILS),
    ("tables-stop", positions(rises={"learned": 0.1}), FAILS),
    ("tables-stop", positions(rises={"sinusoidal": (0.0, 0.1, 0.1)}), UNDECIDED),
    ("rms-faster", speed({"layer norm": (0.049, 0.052, 0.051, 0.053)}), PART),
    ("rms-faster", speed({"layer norm": (0.045, 0.045, 0.046, 0.045)}), FAILS),
    ("rms-faster", speed({"layer norm": (0.045, 0.055, 0.042, 0.057)}), UNDECIDED),
    ("beats-gpt2", positions({"gpt-2": (2.41, 2.9, 2.41)}), PART),
    ("beats-gpt2", positions({"gpt-2": 2.30}), FAILS),
    ("beats-gpt2", positions({"gpt-2": (2.1, 2.41, 2.41)}), UNDECIDED),
    ("beats-2017", positions({"2017": (2.41, 2.9, 2.41)}), PART),
    ("beats-2017", positions({"2017": 2.30}), FAILS),
    ("beats-2017", positions({"2017": (2.1, 2.41, 2.41)}), UNDECIDED),
    ("best-block", positions({"alibi": 2.36}), PART),
    ("best-block", positions({"alibi": 2.36, "relu": 2.2}), FAILS),
    ("hasty-2017", hasty({"llama": (3.6, 4.2, 3.6)}), PART),
    ("hasty-2017", hasty({"2017": (3.6, 4.4, 4.4)}), PART),
    ("hasty-2017", hasty({"2017": 3.6}), FAILS),
    ("encoder-understands", understanding({("questions", "encoder"): 0.6}), PART),
    ("encoder-understands", understanding({("questions", "encoder"): 0.5, ("sentiment", "encoder"): 0.5}), FAILS),
    ("encoder-understands", understanding({(t, "encoder"): (0.5, 0.65, 0.66) for t in ("questions", "sentiment")}), UNDECIDED),
    ("prefix-understands", understanding({("questions", "prefix decoder"): 0.6}), PART),
    ("prefix-understands", understanding({(t, "prefix decoder"): 0.5 for t in ("questions", "sentiment")}), FAILS),
    ("prefix-understands", understanding({(t, "prefix decoder"): (0.5, 0.65, 0.66) for t in ("questions", "sentiment")}), UNDECIDED),
    ("decoder-continues", continuing({"prefix decoder": 2.4}), PART),
    ("decoder-continues", continuing({"decoder": 2.9}), FAILS),
    ("decoder-continues", continuing({"decoder": (2.1, 2.9, 3.0)}), UNDECIDED),
    ("both-translate", translating({"encoder-decoder": (2.5, 3.0, 2.99)}), PART),
    ("both-translate", translating({"encoder-decoder": 3.3}), FAILS),
    ("both-translate", translating({"encoder-decoder": (2.9, 3.0, 3.2)}), UNDECIDED),
    ("prefix-translates", translating({"prefix decoder": (2.5, 3.0, 2.99)}), PART),
    ("prefix-translates", translating({"prefix decoder": 3.3}), FAILS),
    ("prefix-translates", translating({"prefix decoder": (2.9, 3.0, 3.2)}), UNDECIDED),
    ("both-bleu", translating(bleu={"encoder-decoder": (9.0, 4.0, 4.1)}), PART),
    ("both-bleu", translating(bleu={"encoder-decoder": 2.0}), FAILS),
    ("both-bleu", translating(bleu={"encoder-decoder": (5.0, 4.0, 2.0)}), UNDECIDED),
)  # fmt: skip


@pytest.mark.parametrize(("key", "changed", "wanted"), CASES, ids=[f"{key}-{w.value}" for key, _, w in CASES])
def test_a_claim_follows_its_numbers(key, changed, wanted):
    assert outcome(key, changed) is wanted


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.key)
def test_a_claim_needs_what_it_names_and_no_more(claim):
    named = {name: everything()[name] for name in claim.needs}
    assert judge([claim], Evidence(named, Scale.LAPTOP))[0].outcome is HOLDS
    for missing in claim.needs:
        rest = {name: found for name, found in everything().measurements.items() if name != missing}
        assert judge([claim], Evidence(rest, Scale.LAPTOP))[0].outcome is UNDECIDED


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.key)
def test_measurements_without_a_number_decide_nothing(claim):
    empty = [replace(everything()[n], values=np.full(everything()[n].values.shape, np.nan)) for n in claim.needs]
    assert judge([claim], everything(*empty))[0].outcome is UNDECIDED


@pytest.mark.parametrize("claim", [c for c in CLAIMS if "speed" not in c.needs[0]], ids=lambda c: c.key)
def test_two_seeds_and_a_seed_that_counts_twice_decide_nothing(claim):
    for change in ((0, 1), (0, 1, 1)):
        for name in claim.needs:
            found = everything()[name]
            values = np.take(found.values, change, axis=found.dims.index("seed"))
            fewer = replace(found, values=values, coords=dict(found.coords) | {"seed": change})
            assert judge([claim], everything(fewer))[0].outcome is UNDECIDED, name


@pytest.mark.parametrize(
    ("key", "name"),
    [("rotary", "blocks_training"), ("hasty-2017", "blocks_hasty_training"), ("both-bleu", "branches_training")],
)
def test_one_training_under_two_seeds_decides_nothing(key, name):
    found = everything()[name]
    copied = replace(found, values=np.take(found.values, (0, 1, 1), axis=found.dims.index("seed")))
    found = verdict(key, copied)
    assert found.outcome is UNDECIDED
    assert name in found.because.en


def test_a_missing_seed_of_one_block_decides_nothing():
    assert outcome("rotary", without(positions(), block="sinusoidal", seed=1)) is UNDECIDED
    # It is no part of claims that are about other blocks.
    assert outcome("swiglu", without(positions(), block="sinusoidal", seed=1)) is HOLDS


def test_the_reasons_tell_the_numbers():
    assert "ALiBi leads it by +0.100" in verdict("best-block", positions({"alibi": 2.3})).because.en
    assert "+1.500" in verdict("rotary-reaches", positions(rises={"llama": 1.5})).because.en
    assert "70.0" in verdict("encoder-understands").because.en
    assert "LLaMA's block gets below 4 bits in 3 of 3 seeds, that of 2017 in 0" in verdict("hasty-2017").because.en
    assert all(block in BITS for block in ("llama", "2017"))
