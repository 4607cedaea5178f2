import json
import math

import numpy as np
import pytest

from glassworks.core.text import say
from glassworks.evidence.claims import Claim, Evidence, Finding, Outcome, Scale, Verdict, judge
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import Interval


def measured(name: str, seeds: int) -> Measurement:
    values = np.full(seeds, 0.9) if seeds else np.array(0.9)
    dims, coords = (("seed",), {"seed": tuple(range(seeds))}) if seeds else ((), {})
    return Measurement(name, say("missing"), values, dims, coords, "fraction")


def evidence(scale: Scale = Scale.LAPTOP, **seeds: int) -> Evidence:
    return Evidence({name: measured(name, count) for name, count in seeds.items()}, scale)


def claim(*needs: str, outcome: Outcome = Outcome.HOLDS) -> Claim:
    def test(found: Evidence) -> Finding:
        return Finding(outcome, found["a"].interval(), "fraction", say("missing"))

    return Claim("study.key", say("missing"), say("next"), needs, test)


def verdict_of(one: Claim, found: Evidence) -> Verdict:
    (verdict,) = judge([one], found)
    return verdict


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_test_that_has_all_it_needs_decides(outcome: Outcome) -> None:
    verdict = verdict_of(claim("a", outcome=outcome), evidence(a=3))
    assert (verdict.outcome, verdict.seeds, verdict.value.mean) == (outcome, (0, 1, 2), pytest.approx(0.9))


def test_what_was_not_measured_is_undecided_and_named() -> None:
    verdict = verdict_of(claim("a", "b"), evidence(a=3))
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.because.en == "not measured in this run: b"


def test_a_measurement_that_the_claim_forgot_to_name_is_undecided_too() -> None:
    verdict = verdict_of(claim("b"), evidence(b=3))
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.because.en == "not measured in this run: a"


def test_too_few_seeds_decide_nothing_but_the_reading_stays() -> None:
    verdict = verdict_of(claim("a"), evidence(a=2))
    assert verdict.outcome is Outcome.UNDECIDED
    assert "too few seeds to decide (2; needs 3)" in verdict.because.en
    assert verdict.value.mean == pytest.approx(0.9)


def test_the_least_repeated_measurement_counts() -> None:
    assert verdict_of(claim("a", "b"), evidence(a=5, b=1)).outcome is Outcome.UNDECIDED
    assert verdict_of(claim("a", "b"), evidence(a=5, b=0)).outcome is Outcome.HOLDS


def test_a_number_without_chance_needs_no_seeds() -> None:
    assert verdict_of(claim("a"), evidence(a=0)).outcome is Outcome.HOLDS


def test_too_small_a_scale_decides_nothing() -> None:
    verdict = verdict_of(claim("a"), evidence(Scale.SMOKE, a=5))
    assert verdict.outcome is Outcome.UNDECIDED
    assert "smoke scale is too small" in verdict.because.en
    assert verdict_of(claim("a"), evidence(Scale.PAPER, a=5)).outcome is Outcome.HOLDS


def test_a_verdict_survives_json_with_its_undefined_numbers() -> None:
    because = say("{scale} scale is too small to decide (needs {needed}); it reads: {because}",
                  scale=float("nan"), needed=np.float32(0.5), because=say("missing"))  # fmt: skip
    verdict = Verdict(
        "k",
        say("missing"),
        say("next"),
        Outcome.FAILS,
        Interval(0.5, math.nan, math.inf, 1),
        "nats",
        because,
        (3,),
        Scale.PAPER,
    )
    again = Verdict.from_json(json.loads(json.dumps(verdict.to_json(), allow_nan=False)))
    assert (again.outcome, again.seeds, again.scale, again.because.zh) == (
        Outcome.FAILS,
        (3,),
        Scale.PAPER,
        because.zh,
    )
    assert again.value.mean == 0.5
    assert math.isnan(again.value.low)
