"""Every claim of Painters is shown numbers on which it must hold, hold in part, fail, or stay undecided."""

import math
from collections.abc import Mapping

import numpy as np
import pytest

from glassworks.evidence.claims import Evidence, Outcome, Scale, judge
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.painters.claims import CLAIMS
from glassworks.experiments.painters.tables import RANKING, Strategies, Table, best_loops, medians
from tests.experiments.painters_numbers import FIXED, LAYERS, MIDDLES, PARTS, SEEDS, measurement, six, strategies, table

HOLDS, PART, FAILS, UNDECIDED = Outcome.HOLDS, Outcome.HOLDS_IN_PART, Outcome.FAILS, Outcome.UNDECIDED
WIDE = 0.6  # documents that disagree far more than strategies do


def judged(key: str, *found: Measurement, scale: Scale = Scale.LAPTOP):
    claim = next(c for c in CLAIMS if c.key == f"painters.{key}")
    return judge([claim], Evidence({m.name: m for m in found}, scale))[0]


def outcome(key: str, *found: Measurement) -> Outcome:
    return judged(key, *found).outcome


@pytest.mark.parametrize(
    ("middle", "first", "expected"),
    [(0.97, 0.3, HOLDS), (0.97, 0.8, PART), (0.92, 0.3, PART), (0.6, 0.3, FAILS), (math.nan, 0.3, UNDECIDED)],
)
def test_same_space(middle, first, expected):
    skipped = [first] + [0.2] * 5 + [middle] * 18 + [0.2] * 6
    switched = [0.1] * 6 + [middle] * 17 + [0.1] * 7
    found = table("single", [skipped, switched], strategy=("skip_one", "switch"), layer=range(LAYERS))
    assert outcome("same-space", *found) is expected


def similarity(flat: float, per_token: float) -> Measurement:
    """Alike in the states of the plateau, unlike elsewhere."""
    states = np.arange(-1, LAYERS)
    inside = (states >= 12) & (states <= 27)
    values = [np.where(np.outer(inside, inside), level, -1.0) for level in (flat, per_token)]
    return measurement("similarity", values, definition=("flat", "per_token_no_sinks"), state=states, other=states)


@pytest.mark.parametrize(("level", "expected"), [(0.95, HOLDS), (0.85, PART), (0.5, FAILS), (math.nan, UNDECIDED)])
def test_cosine_plateau(level, expected):
    assert outcome("cosine-plateau", similarity(level, 0.0)) is expected


@pytest.mark.parametrize(("level", "expected"), [(0.75, HOLDS), (0.6, PART), (0.28, FAILS), (math.nan, UNDECIDED)])
def test_cosine_per_token(level, expected):
    assert outcome("cosine-per-token", similarity(0.99, level)) is expected


@pytest.mark.parametrize(("score", "expected"), [(0.95, HOLDS), (0.85, PART), (0.5, FAILS), (math.nan, UNDECIDED)])
def test_some_can_go(score, expected):
    found = strategies(six(skip=score))
    # With one layer left out nearly all is kept, but that is not "a few".
    found[0].values[FIXED.index("skip"), 0] = 1 / PARTS
    assert outcome("some-can-go", *found) is expected


@pytest.mark.parametrize(
    ("changed", "spread", "expected"),
    [
        ({}, 0.0, HOLDS),
        ({"skip": 0.05}, 0.0, PART),
        ({"skip": 0.05, "parallel": 0.06}, 0.0, FAILS),
        ({"skip": 0.11, "parallel": 0.12}, WIDE, UNDECIDED),
    ],
)
def test_not_the_same(changed, spread, expected):
    assert outcome("not-the-same", *strategies(six(**changed), spread=spread)) is expected


@pytest.mark.parametrize(
    ("key", "better", "worse"),
    [
        ("random-beats-reverse", "random", "reverse"),
        ("parallel-works", "parallel", "skip"),
        ("parallel-below-reverse", "reverse", "parallel"),
        ("looping-helps", "looped", "parallel"),
    ],
)
def test_one_area_above_another(key, better, worse):
    def found(first: float, second: float, spread: float = 0.0) -> Outcome:
        return outcome(key, *strategies(six(**{better: first, worse: second}), spread=spread))

    assert found(0.6, 0.5) is HOLDS
    assert found(0.5, 0.6) is FAILS
    assert found(0.501, 0.5, WIDE) is PART
    assert found(0.5, 0.501, WIDE) is UNDECIDED
    assert outcome(key, *strategies(six(), layers=3)) is UNDECIDED


@pytest.mark.parametrize(
    ("changed", "spread", "expected"),
    [
        ({}, 0.0, HOLDS),
        ({"reverse": 0.4}, 0.0, PART),
        ({"reverse": 0.4, "random": 0.3}, 0.0, FAILS),
        ({"reverse": 0.5, "random": 0.5}, WIDE, UNDECIDED),
    ],
)
def test_order_beats_skip(changed, spread, expected):
    assert outcome("order-beats-skip", *strategies(six(**changed), spread=spread)) is expected


@pytest.mark.parametrize(
    ("order", "expected"),
    [([1, 2, 3, 4, 5], HOLDS), ([2, 1, 4, 5, 3], PART), ([5, 4, 3, 2, 1], FAILS), ([3, 3, 3, 3, 3], UNDECIDED)],
)
def test_inversions(order, expected):
    """The worst start decides: the first is always in perfect order."""
    shares, middles = (0.1, 0.3, 0.5, 0.7, 0.9), (7, 11)
    ranks = np.array([[1, 2, 3, 4, 5], order], dtype=float)
    scores = 1 - 0.1 * np.repeat(ranks[..., None], 3, -1)
    counts = np.broadcast_to(np.arange(5)[None, :, None], scores.shape)
    coords = {"affected": middles, "share": shares, "seed": SEEDS}
    assert (
        outcome("inversions", *table("order", scores, **coords), measurement("inversions", counts, **coords))
        is expected
    )


@pytest.mark.parametrize(
    ("parallel", "looped", "spread", "expected"),
    [(0.08, 0.15, 0.0, HOLDS), (0.08, -0.1, 0.0, PART), (-0.1, -0.1, 0.0, FAILS), (0.0, 0.0, WIDE, UNDECIDED)],
)
def test_averaged_cache(parallel, looped, spread, expected):
    noise = np.random.default_rng(0).normal(size=(2, 3, 3, 24)) * spread
    noise -= noise.mean(-1, keepdims=True)
    nats = 4.0 + noise
    nats[:, :, 2] += np.array([parallel, looped])[:, None, None]
    coords = {"strategy": ("parallel", "looped"), "affected": (3, 5, 7), "mode": ("uncached", "exact", "mean")}
    assert outcome("averaged-cache", measurement("cache", nats, **coords, part=range(24))) is expected


@pytest.mark.parametrize(
    ("winogrande", "arc", "spread", "expected"),
    [(0.8, 0.6, 0.0, HOLDS), (0.6, 0.8, 0.0, FAILS), (0.61, 0.6, WIDE, PART), (0.6, 0.61, WIDE, UNDECIDED)],
)
def test_tasks_differ(winogrande, arc, spread, expected):
    found = [
        *strategies(dict.fromkeys(RANKING, winogrande), "tasks_winogrande", spread),
        *strategies(dict.fromkeys(RANKING, arc), "tasks_arc_easy", spread),
    ]
    assert outcome("tasks-differ", *found) is expected


def test_a_task_on_which_the_whole_model_guesses_decides_nothing():
    found = [
        *strategies(dict.fromkeys(RANKING, math.nan), "tasks_winogrande"),
        *strategies(dict.fromkeys(RANKING, 0.5), "tasks_arc_easy"),
    ]
    assert outcome("tasks-differ", *found) is UNDECIDED


def loop_tables(best: Mapping[int, int], gain: float) -> list[Measurement]:
    """A loop grid with a peak at the best count of each M, and scaled steps that all reach `gain`."""
    loops = (1, 2, 3, 4, 6, 8)
    scores = [[0.8 - 0.05 * abs(loops.index(best[m]) - i) for i in range(len(loops))] for m in best]
    scaled = [[gain, gain - 0.1]] * len(best)
    return [
        *table("loops", scores, affected=best, loops=loops),
        *table("scaled", scaled, affected=best, gain=(2.0, 4.0)),
    ]


@pytest.mark.parametrize(
    ("best", "expected"),
    [
        ({3: 2, 5: 3, 7: 4, 9: 6, 11: 8}, HOLDS),
        ({3: 2, 5: 6, 7: 3, 9: 4, 11: 8}, PART),
        ({3: 8, 5: 6, 7: 4, 9: 3, 11: 2}, FAILS),
        ({3: 2, 5: 2, 7: 2}, UNDECIDED),
        ({3: 2, 25: 8}, UNDECIDED),
    ],
)
def test_best_loops(best, expected):
    found = loop_tables(best, 0.5)
    assert outcome("best-loops", *found) is expected
    middles, counts = best_loops(Table.of(Evidence({m.name: m for m in found}, Scale.LAPTOP), "loops"))
    assert dict(zip(middles, counts, strict=True)) == best


@pytest.mark.parametrize(
    ("gains", "expected"),
    [((0.5, 0.5, 0.5, 0.9), HOLDS), ((0.5, 0.5, 0.9, 0.9), PART), ((0.9, 0.9, 0.9, 0.5), FAILS), ((), UNDECIDED)],
)
def test_more_than_rescaling(gains, expected):
    middles = (3, 5, 7, 9, 11)[: 1 + len(gains)]
    found = loop_tables(dict.fromkeys(middles, 3), 0.5)
    for row, gain in enumerate(gains, start=1):
        found[3].values[row, 0] = gain / PARTS
    assert outcome("more-than-rescaling", *found) is expected


def test_one_loop_counts_as_a_scaled_step_and_not_as_looping():
    found = loop_tables(dict.fromkeys((3, 5, 7), 1), 0.5)
    assert outcome("more-than-rescaling", *found) is FAILS


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, HOLDS),
        ({"looped": 0.65}, PART),
        ({"middle_repeat": 1.0, "skip": 0.95}, FAILS),
        ({"skip": math.nan}, UNDECIDED),
    ],
)
def test_ranking(changed, expected):
    assert outcome("ranking", *strategies(six(**changed))) is expected


@pytest.mark.parametrize(
    ("kept", "spread", "expected"),
    [
        ({"skip": 0.7, "reverse": 0.8, "random": 0.9}, 0.0, HOLDS),
        ({"skip": 0.7, "reverse": 0.8, "random": 0.7}, 0.0, PART),
        ({"skip": 0.7, "reverse": 0.5, "random": 0.5}, 0.0, FAILS),
        ({"skip": 0.51, "reverse": 0.71, "random": 0.81}, WIDE, UNDECIDED),
    ],
)
def test_sink_carries(kept, spread, expected):
    found = [*strategies(six(), spread=spread), *strategies(six(**kept), "protected", spread)]
    if spread:
        found[6].values[:] = found[6].values[:, :, ::-1]
        found[9].values[:] = found[9].values[:, :, ::-1]
    assert outcome("sink-carries", *found) is expected


@pytest.mark.parametrize(
    ("looped", "layers", "expected"),
    [(0.81, 6, HOLDS), (0.798, 6, PART), (0.5, 6, FAILS), (math.nan, 6, UNDECIDED), (0.9, 3, UNDECIDED)],
)
def test_encoder_looped(looped, layers, expected):
    """A hit rate of 0.02 is 0.02 / 7 of the normalised score where the whole model has 3 and chance 10."""
    found = strategies(six(looped=looped), "encoder", layers=layers)
    for part in found:
        if part.name.endswith("_scale"):
            part.values[:2] = (7.0, 0.0)
    assert outcome("encoder-looped", *found) is expected


@pytest.mark.parametrize(
    ("best", "whole", "expected"),
    [(0.79, 0.8, HOLDS), (0.75, 0.8, PART), (0.6, 0.8, FAILS), (0.6, 0.5, UNDECIDED)],
)
def test_frozen_classifier(best, whole, expected):
    values = np.array([whole, best, 0.55])[None, :, None] + np.array([-0.001, 0.0, 0.001])
    found = measurement("classifier", values, task=("rte",), strategy=("full", "looped", "skip"), seed=SEEDS)
    assert outcome("frozen-classifier", found, measurement("classifier_chance", [0.5], task=("rte",))) is expected


@pytest.mark.parametrize(("healed", "expected"), [(3.9, HOLDS), (4.2, PART), (4.45, FAILS), (math.nan, UNDECIDED)])
def test_healing(healed, expected):
    nats = np.array([3.5, 4.5, healed, 3.4])[:, None] + np.array([-0.01, 0.0, 0.01])
    states = ("whole", "cut", "healed", "control")
    assert outcome("healing", measurement("healing", nats, state=states, seed=SEEDS)) is expected


def test_smoke_and_too_few_seeds_decide_nothing():
    found = strategies(six())
    assert judged("ranking", *found, scale=Scale.SMOKE).outcome is UNDECIDED
    two = [
        m
        if m.name != "strategies_random"
        else measurement(m.name, m.values[:2], seed=(0, 1), affected=MIDDLES, part=range(PARTS))
        for m in found
    ]
    assert judged("ranking", *two).outcome is UNDECIDED


def test_without_measurements_every_claim_is_undecided_and_each_is_judged_here():
    verdicts = judge(CLAIMS, Evidence({}, Scale.LAPTOP))
    assert {v.outcome for v in verdicts} == {UNDECIDED}
    assert len({v.claim for v in verdicts}) == len(CLAIMS) == 20


def test_areas_leave_out_one_layer_and_more_than_two_thirds():
    found = Strategies.of(Evidence({m.name: m for m in strategies(six())}, Scale.LAPTOP), "strategies")
    found.fixed.parts.values[FIXED.index("skip")] = (
        np.where((found.affected >= 3) & (found.affected <= 20), 0.25, 99.0)[:, None] / PARTS
    )
    assert found.areas()["skip"] == pytest.approx(0.25)


def test_the_median_over_tasks_leaves_out_one_without_a_scale():
    levels = {"a": 0.2, "b": 0.6, "c": math.nan, "d": 0.9}
    found = [m for name, level in levels.items() for m in strategies(dict.fromkeys(RANKING, level), f"tasks_{name}")]
    assert medians(Evidence({m.name: m for m in found}, Scale.LAPTOP), "skip") == pytest.approx([0.6] * len(MIDDLES))
