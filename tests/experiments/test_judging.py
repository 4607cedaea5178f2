"""Every claim of Birth is shown numbers on which it must hold, hold in part, fail, or stay undecided."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence, Outcome, Scale, judge
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.birth import theory
from glassworks.experiments.birth.claims import CLAIMS
from glassworks.experiments.birth.inside import _shares
from glassworks.tensors.seeds import Seed

HOLDS, PART, FAILS, UNDECIDED = Outcome.HOLDS, Outcome.HOLDS_IN_PART, Outcome.FAILS, Outcome.UNDECIDED
SEEDS = (0, 1, 2)
CLOSE = 0.004  # seeds that agree
FAR = 0.4  # seeds that do not
RISE, LATE, NEVER = [0.0, 0.6, 0.95, 1.0, 1.0], [0.0, 0.0, 0.1, 0.7, 0.95], [0.01, 0.02, 0.02, 0.02, 0.03]


def around(values: object, spread: float = CLOSE) -> np.ndarray:
    """Three seeds about the given values; the new last axis is the seed."""
    return np.stack([np.asarray(values, dtype=float) + d for d in (-spread, 0.0, spread)], -1)


def measurement(name: str, values: np.ndarray, **coords: Sequence[object]) -> Measurement:
    labels = {dim: tuple(c) for dim, c in coords.items()}
    return Measurement(name, say("numbers"), values, tuple(labels), labels, "fraction")


def curves(name: str, metrics: Mapping[str, object], spread: float = CLOSE, **outer: Sequence[object]) -> Measurement:
    """Curves by metric; with outer dimensions each metric holds one curve per label."""
    values = np.stack([around(v, spread) for v in metrics.values()], -1)
    # (outer..., step, seed, metric) -> (outer..., seed, step, metric)
    values = np.moveaxis(values, -2, -3)
    steps = range(0, 10 * values.shape[-2], 10)
    return measurement(name, values, **outer, seed=SEEDS, step=steps, metric=metrics)


def outcome(key: str, *found: Measurement) -> Outcome:
    claim = next(c for c in CLAIMS if c.key == f"birth.{key}")
    return judge([claim], Evidence({m.name: m for m in found}, Scale.LAPTOP))[0].outcome


def formation(output=RISE, match=LATE, position=LATE, accuracy=LATE, spread: float = CLOSE) -> Measurement:
    metrics = {
        "recall/output": output, "recall/match": match, "recall/position_64": position,
        "accuracy/in_context": accuracy, "accuracy/in_context_no_copy": accuracy,
    }  # fmt: skip
    return curves("formation", metrics, spread)


def counting(surprise: float = 0.6) -> Measurement:
    values = around([[0.3, 0.3], [surprise, surprise]])
    masks = ("in_context", "in_context_no_copy")
    return measurement("counting", values, predictor=("frequency", "surprise"), mask=masks, seed=SEEDS)


@pytest.mark.parametrize(
    ("one", "two", "spread", "expected"),
    [
        (0.55, 0.95, CLOSE, HOLDS),
        (0.55, 0.8, CLOSE, PART),
        (0.8, 0.95, CLOSE, PART),
        (0.9, 0.91, CLOSE, FAILS),
    ],
)
def test_two_layers(one, two, spread, expected):
    depth = curves("depth", {"accuracy/in_context": [[0.0, one], [0.0, two]]}, spread, layers=(1, 2))
    assert outcome("two-layers", depth, counting()) is expected


@pytest.mark.parametrize(
    ("curve", "expected"), [(RISE, HOLDS), ([0, 0.3, 0.7], PART), ([0, 0.5, 0.4], FAILS), (NEVER, FAILS)]
)
def test_memories_form(curve, expected):
    assert outcome("memories-form", formation(curve, curve, curve, curve)) is expected


@pytest.mark.parametrize(("previous", "expected"), [(0.95, HOLDS), (0.6, PART), (0.26, FAILS)])
def test_attention_as_predicted(previous, expected):
    probes = ("layer 1 looks at the previous token", "layer 2 looks at the right output")
    assert (
        outcome(
            "attention-as-predicted",
            measurement("attention_probes", around([previous, 0.95]), probe=probes, seed=SEEDS),
        )
        is expected
    )


@pytest.mark.parametrize(
    ("rule", "spread", "expected"),
    [(0.5, CLOSE, HOLDS), (0.85, CLOSE, PART), (0.99, CLOSE, FAILS), (0.9, FAR, UNDECIDED)],
)
def test_beyond_counting(rule, spread, expected):
    assert outcome("beyond-counting", formation(spread=spread), counting(rule)) is expected


@pytest.mark.parametrize(
    ("output", "match", "position", "expected"),
    [
        (RISE, LATE, LATE, HOLDS),
        (LATE, RISE, RISE, FAILS),
        (LATE, RISE, [0.0, 0.0, 0.0, 0.5, 0.95], FAILS),
        (NEVER, LATE, LATE, UNDECIDED),
        (RISE, NEVER, LATE, UNDECIDED),
    ],
)
def test_top_down(output, match, position, expected):
    assert outcome("top-down", formation(output, match, position)) is expected


def test_top_down_compares_with_the_earlier_of_the_two_keys():
    lead, trail = [0.0, 0.0, 0.6, 0.9, 0.95], [0.0, 0.0, 0.0, 0.6, 0.95]
    assert outcome("top-down", formation(output=lead, match=[0.0, 0.6, 0.9, 0.9, 0.95], position=trail)) is FAILS


def test_half_of_the_final_recall_is_a_half():
    # Reached 60 % of its end at step 10, but a twentieth of it already at step 0 by the other.
    output, keys = [0.06, 0.07, 0.6, 0.9, 0.9], [0.0, 0.6, 0.9, 0.95, 0.95]
    assert outcome("top-down", formation(output, keys, keys)) is FAILS


def freezing(frozen: float, keys: float, waits: float, final: float = 0.95) -> tuple[Measurement, Measurement]:
    sets = ("none", "output", "match+position")
    metrics = {
        "accuracy/in_context": [[0.0, 0.8, 0.95], [0.0, frozen, final], [0.0, 0.4, 0.9]],
        "recall/match": [[0.0, 0.7, 0.9], [0.0, keys, 0.8], [0.0, 0.02, 0.8]],
        "recall/position_64": [[0.0, 0.7, 0.9], [0.0, keys, 0.8], [0.0, 0.02, 0.8]],
        "recall/output": [[0.0, 1.0, 1.0], [0.0, 0.02, 1.0], [0.0, waits, 1.0]],
    }
    release = Measurement("release", say("step"), np.asarray(10.0), (), {}, "steps")
    return curves("freezing", metrics, frozen=sets), release


@pytest.mark.parametrize(
    ("frozen", "keys", "waits", "expected"),
    [
        (0.03, 0.02, 0.95, HOLDS),
        (0.03, 0.4, 0.95, PART),
        (0.03, 0.02, 0.3, PART),
        (0.6, 0.02, 0.95, PART),
        (0.78, 0.6, 0.95, FAILS),
    ],
)
def test_output_first(frozen, keys, waits, expected):
    assert outcome("output-first", *freezing(frozen, keys, waits)) is expected


@pytest.mark.parametrize(("final", "expected"), [(0.9, HOLDS), (0.6, PART)])
def test_catch_up(final, expected):
    assert outcome("catch-up", *freezing(0.03, 0.02, 0.95, final)) is expected


SLOW_LOSS, FAST_LOSS = [4.0, 3.9, 3.8, 1.0, 0.5], [4.0, 2.7, 2.6, 2.6, 2.6]


@pytest.mark.parametrize(
    ("near", "far", "expected"),
    [
        (FAST_LOSS, SLOW_LOSS, HOLDS),
        (SLOW_LOSS, FAST_LOSS, FAILS),
        (FAST_LOSS, [4.2, 4.2, 4.19, 4.19, 4.18], UNDECIDED),
    ],
)
def test_global_first(near, far, expected):
    metrics = {"loss/global": [near], "loss/in_context": [far]}
    assert outcome("global-first", curves("data", metrics, setting=("random K=5",))) is expected


@pytest.mark.parametrize(
    ("frequent", "others", "expected"), [(RISE, LATE, HOLDS), (LATE, RISE, FAILS), (NEVER, NEVER, UNDECIDED)]
)
def test_data_decides(frequent, others, expected):
    settings = ("frequent K=5", "frequent K=1", "rare K=5", "random K=5")
    found = curves("data", {"accuracy/in_context": [frequent, others, others, others]}, setting=settings)
    assert outcome("data-decides", found) is expected


def test_data_decides_holds_in_part_when_only_some_choices_slow_down():
    settings = ("frequent K=5", "frequent K=1", "rare K=5", "random K=5")
    found = curves("data", {"accuracy/in_context": [RISE, RISE, LATE, LATE]}, setting=settings)
    assert outcome("data-decides", found) is PART


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([[0.9, 0.9], [0.4, 0.9]], HOLDS),
        ([[0.9, 0.9], [0.8, 0.9]], PART),
        ([[0.9, 0.4], [0.9, 0.9]], FAILS),
        ([[0.02, 0.02], [0.4, 0.9]], UNDECIDED),
    ],
)
def test_diverse_outputs(table, expected):
    laws = ("uniform", "bigram")
    assert (
        outcome("diverse-outputs", measurement("shift", around(table), trained=laws, tested=laws, seed=SEEDS))
        is expected
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.2, 0.6, 0.97], HOLDS), ([0.2, 0.4, 0.6], PART), ([0.2, 0.99, 0.95], PART), ([0.9, 0.5, 0.3], FAILS)],
)
def test_width(values, expected):
    built = measurement(
        "construction", around([values]), variant=("random, all tokens",), width=(64, 128, 256), seed=SEEDS
    )
    assert outcome("width", built) is expected


@pytest.mark.parametrize(("early", "late", "expected"), [(0.9, 0.1, HOLDS), (0.3, 0.2, PART), (0.2, 0.9, FAILS)])
def test_early_positions(early, late, expected):
    values = np.moveaxis(around([early, early, late, late]), -1, 0)
    assert (
        outcome("early-positions", measurement("position_recall", values, seed=SEEDS, position=(6, 60, 70, 200)))
        is expected
    )


def three_steps(restricted: float, unrestricted: float, recall: float = 1.0, keys: float = 0.0) -> Measurement:
    metrics = (
        "recall/output",
        "recall/match",
        "recall/position",
        "accuracy",
        "gradient/output",
        "gradient/match",
        "gradient/position",
    )
    values = np.zeros((2, 2, len(metrics), 3))
    for i, accuracy in enumerate((restricted, unrestricted)):
        values[i, :, :3] = recall
        values[i, :, 3] = accuracy
        values[i, :, 4] = 0.01
        values[i, :, 5:] = keys
    return measurement(
        "three_steps",
        values,
        version=("restricted", "unrestricted"),
        after=("start", "position"),
        metric=metrics,
        seed=SEEDS,
    )


@pytest.mark.parametrize(
    ("found", "expected"), [((0.96, 0.95), HOLDS), ((0.96, 0.1), PART), ((0.96, 0.95, 0.9), FAILS), ((0.4, 0.4), FAILS)]
)
def test_three_steps(found, expected):
    assert outcome("three-steps", three_steps(*found)) is expected


@pytest.mark.parametrize(("keys", "expected"), [(0.0, HOLDS), (1e-9, FAILS)])
def test_order_is_forced(keys, expected):
    assert outcome("order-is-forced", three_steps(0.9, 0.9, keys=keys)) is expected


@pytest.mark.parametrize(
    ("difference", "recall", "leak", "first", "second"),
    [
        (1e-15, 1.0, 0.02, HOLDS, HOLDS),
        (1e-3, 0.8, 0.02, FAILS, PART),
        (1e-15, 1.0, 0.5, HOLDS, PART),
        (1e-15, 0.1, 0.02, HOLDS, FAILS),
    ],
)
def test_lemmas(difference, recall, leak, first, second):
    names = ("lemma 1: largest difference", "lemma 2: recall after one step", "lemma 2: share on positions")
    lemmas = measurement("lemmas", around([difference, recall, leak], 0.0), quantity=names, seed=SEEDS)
    assert outcome("gradients-are-memories", lemmas) is first
    assert outcome("noise-is-filtered", lemmas) is second


@pytest.mark.parametrize(("measured", "expected"), [([4, 3, 2, 1], HOLDS), ([4, 1, 3, 1], PART), ([1, 2, 3, 4], FAILS)])
def test_early_by_theory(measured, expected):
    values = np.stack(
        [np.stack([np.asarray(measured, float) + d for d in (0, 0.01, 0.02)]), np.tile([4.0, 3, 2, 1], (3, 1))]
    )
    assert (
        outcome(
            "early-by-theory",
            measurement("position_profile", values, source=("measured", "predicted"), seed=SEEDS, position=range(4)),
        )
        is expected
    )


def test_the_attention_probes_count_what_they_say():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, (6, 19), generator=generator)
    targets = torch.randint(5, (6, 19), generator=generator)
    occurrence = torch.randint(4, (6, 19), generator=generator)
    first, second = ((torch.rand(6, 19, generator=generator) * (torch.arange(19) + 1)).long() for _ in range(2))
    predicted = torch.randint(5, (6, 19), generator=generator)
    hits, among = np.zeros(5), np.zeros(5)
    for b in range(6):
        for t in range(19):
            if t and occurrence[b, t - 1] >= 1:
                among[0] += 1
                hits[0] += int(first[b, t]) == t - 1
            if occurrence[b, t] >= 2:
                s = int(second[b, t])
                among[1:] += 1
                hits[1] += int(first[b, s]) == s - 1
                hits[2] += s > 0 and int(ids[b, s - 1]) == int(ids[b, t])
                hits[3] += int(ids[b, s]) == int(targets[b, t])
                hits[4] += int(predicted[b, t]) == int(ids[b, s])
    found = _shares(ids, targets, occurrence, (first, second, predicted))
    assert [int((h & a).sum()) for h, a in found] == hits.tolist()
    assert [int(a.sum()) for _, a in found] == among.tolist()
    assert hits.min() > 0


def test_a_label_that_was_not_measured_leaves_a_claim_undecided():
    found = curves("data", {"loss/global": [FAST_LOSS]}, setting=("random K=5",))
    assert outcome("global-first", found) is UNDECIDED


def test_the_predicted_profile_is_one_over_t_from_position_two_on():
    world = theory.TriggerWorld(vocabulary=8, length=12)
    measured, predicted = theory.position_profile(world, 2000, Seed(0))
    expected = 1 / np.arange(2, 12)
    assert predicted.numpy() == pytest.approx(expected / expected.sum(), rel=1e-5)
    assert measured.shape == predicted.shape
    assert float(measured.sum()) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.slow
@pytest.mark.nightly
def test_the_step_on_positions_follows_the_predicted_profile():
    measured, predicted = theory.position_profile(theory.TriggerWorld(), 120_000, Seed(0))
    assert np.corrcoef(measured.numpy(), predicted.numpy())[0, 1] > 0.85
