"""Every claim of the life study is shown numbers on which it holds, holds in part, fails, or stays undecided."""

import numpy as np
import pytest

from glassworks.evidence.claims import Outcome, Scale
from glassworks.experiments.life.claims import CLAIMS
from tests.experiments.life import life_numbers as made
from tests.experiments.life.life_numbers import measurement, outcome

HOLDS, PART, FAILS, UNDECIDED = Outcome.HOLDS, Outcome.HOLDS_IN_PART, Outcome.FAILS, Outcome.UNDECIDED
NAN = float("nan")
KEYS = [claim.key.removeprefix("life.") for claim in CLAIMS]


@pytest.mark.parametrize("key", KEYS)
def test_every_claim_holds_on_numbers_made_for_it_and_only_at_its_scale(key):
    assert outcome(key) is HOLDS
    assert outcome(key, scale=Scale.SMOKE) is UNDECIDED


CASES = [
    ("compresses", made.compression(after=1.2), PART),
    ("compresses", made.compression(model=3.5), FAILS),
    ("compresses", made.compression(model=NAN), UNDECIDED),
    ("answers-learned", made.stage_bits(gain=(0.02, 0.1, 0.06)), PART),
    ("answers-learned", made.stage_bits(gain=(-0.1, -0.1, -0.11)), FAILS),
    ("answers-learned", made.stage_bits(gain=(-0.1, 0.2, -0.2)), UNDECIDED),
    ("little-forgotten", made.stage_bits(cost=(0.05, 0.2, 0.05)), PART),
    ("little-forgotten", made.stage_bits(cost=(0.4, 0.5, 0.4)), FAILS),
    ("little-forgotten", made.stage_bits(cost=(0.1, NAN, 0.1)), UNDECIDED),
    ("reward-learns", made.reward_accuracy(model=(0.52, 0.53, 0.52)), PART),
    ("reward-learns", made.reward_accuracy(model=(0.4, 0.4, 0.4)), FAILS),
    ("reward-learns", made.reward_accuracy(model=(0.49, 0.49, 0.49)), UNDECIDED),
    ("reward-learns", made.reward_accuracy(model=(NAN, NAN, NAN)), UNDECIDED),
    ("reward-beyond-length", made.reward_accuracy(length=0.64), PART),
    ("reward-beyond-length", made.reward_accuracy(length=0.7), FAILS),
    ("ppo-raises", made.stage_rewards(ppo__reward=(0.5, 0.9, 0.4)), PART),
    ("ppo-raises", made.stage_rewards(ppo__reward=(0.1, 0.1, 0.12)), FAILS),
    ("ppo-raises", made.stage_rewards(sft__spread=(0.0, 1.0, 1.0)), UNDECIDED),
    ("grpo-raises", made.stage_rewards(grpo__reward=(-1.0, -1.0, -0.9)), FAILS),
    ("kl-holds", made.stage_rewards(ppo__kl=(1.0, 4.0, 3.0)), PART),
    ("kl-holds", made.stage_rewards(ppo__kl=(1.0, 1.1, 1.0)), FAILS),
    ("dpo-prefers", made.preferences(gain=(0.0, 0.1, 0.01)), PART),
    ("dpo-prefers", made.preferences(gain=(-0.1, -0.1, -0.11)), FAILS),
    ("over-optimised", made.overoptimisation(gold=(0, 0.1, 0.2, 0.3, 0.4)), UNDECIDED),
    ("over-optimised", made.overoptimisation(proxy=(0, 1.2, 1.2, 0.6, 0.0)), FAILS),
    ("over-optimised", made.overoptimisation(gold=(0, NAN, 0.2, 0.3, 0.4)), UNDECIDED),
    ("best-of-n-gap", made.overoptimisation(gap=-0.5), FAILS),
    ("tuning-shallow", made.stream_likeness(tuned=0.8), PART),
    ("tuning-shallow", made.stream_likeness(tuned=0.5), FAILS),
    ("reinforcement-shallower", made.stream_likeness(reinforced=0.8), FAILS),
    ("heads-stay", made.head_scores(moved=0.15), PART),
    ("heads-stay", made.head_scores(moved=-0.4), FAILS),
    ("heads-stay", made.head_scores(working=0.2), UNDECIDED),
    ("layers-stay", made.skip_costs((2.0, 0.3, 0.4, 0.5, 1.0)), PART),
    ("layers-stay", made.skip_costs((0.3, 0.4, 2.0, 1.0, 0.5)), FAILS),
    ("layers-stay", made.skip_costs((NAN, 0.4, 2.0, 1.0, 0.5)), UNDECIDED),
    ("dpo-cheapest", made.stage_seconds(direct=300.0), FAILS),
]


@pytest.mark.parametrize(("key", "changed", "expected"), CASES, ids=[f"{k}-{i}" for i, (k, _, _) in enumerate(CASES)])
def test_other_numbers_end_otherwise(key, changed, expected):
    assert outcome(key, changed) is expected


def test_too_few_seeds_decide_nothing():
    one = measurement("preferences", [[0.5], [0.6]], stage=("sft", "dpo"), seed=(0,))
    assert outcome("dpo-prefers", one) is UNDECIDED


def test_the_place_of_the_best_true_reward_is_read_from_other_seeds():
    # Noise alone: each seed's own best lies above its end, the best of the others does not.
    found = made.overoptimisation(gold=(0.0, 0.0, 0.0, 0.0, 0.0))
    gold = found.values[0, :, :, 2]
    gold[:] = np.array([[0, 1, 0, 0, 0.5], [0, 0, 1, 0, 0.5], [0, 0, 0, 1, 0.5]])
    assert outcome("over-optimised", found) is FAILS
