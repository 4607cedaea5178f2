import json
import math

import numpy as np
import pytest
import torch

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence, Outcome, Scale, judge
from glassworks.evidence.measurements import Measurement, load_measurements
from glassworks.experiments import EXPERIMENTS, Birth
from glassworks.experiments.birth import theory
from glassworks.experiments.birth.claims import CLAIMS
from glassworks.experiments.birth.measure import accuracies
from glassworks.experiments.birth.trainings import simplified_model
from glassworks.experiments.run import RunOptions, chosen_studies, run_experiment
from glassworks.models.planted import planted_induction_head
from glassworks.tasks import Bigram
from glassworks.tensors.seeds import Seed

SMOKE = Birth.at(Scale.SMOKE)


def check_three_steps(world: theory.TriggerWorld, samples: int) -> float:
    start, output, match, position = theory.three_steps(theory.Streams(world, restricted=True), samples, Seed(0))
    chance = 1 / world.vocabulary
    assert start.recalls == pytest.approx({"output": chance, "match": chance, "position": 1 / (world.length - 2)})
    assert output.recalls["output"] == 1.0
    assert match.recalls["match"] == 1.0
    assert position.recalls == {"output": 1.0, "match": 1.0, "position": 1.0}
    assert start.accuracy < 2 * chance < position.accuracy
    return position.accuracy


@pytest.mark.slow
def test_three_single_gradient_steps_build_the_head_in_a_small_world():
    check_three_steps(theory.TriggerWorld(vocabulary=8, length=12), 6000)


@pytest.mark.slow
def test_three_single_gradient_steps_build_the_head_on_restricted_streams():
    assert check_three_steps(theory.TriggerWorld(), 20_000) > 0.9


def test_from_zero_no_other_first_step_moves_anything():
    for name in ("match", "position"):
        streams = theory.Streams(theory.TriggerWorld(), restricted=True)
        gradient = streams.gradient(streams.start(), streams.world.sample(200, Seed(0)), name)
        assert not gradient.any()


def test_the_first_step_has_the_predicted_size():
    measured, predicted = theory.first_step_diagonal(theory.TriggerWorld(), 10_000, Seed(0))
    assert measured == pytest.approx(predicted, rel=0.15)


def test_lemma_one_is_an_identity():
    assert theory.lemma_one_difference(Seed(3)) < 1e-12


def test_lemma_two_filters_what_does_not_depend_on_the_label():
    recall, few = theory.lemma_two(Seed(0), samples=2_000)
    _, many = theory.lemma_two(Seed(0), samples=200_000)
    assert recall == 1.0
    # The remainder is a sampling error: a hundred times the samples, about a tenth of it.
    assert many < few / 4


@pytest.mark.parametrize("all_tokens", [True, False])
def test_the_hand_built_head_solves_the_task_untrained(all_tokens):
    task = Bigram(trigger_choice="fixed", length=96)
    model = planted_induction_head(simplified_model(task, 256), task, Seed(0), all_tokens=all_tokens).eval()
    found = accuracies(model, task.sample(24, Seed(1)), torch.device("cpu"))
    assert found["accuracy/in_context"] > 0.8


def test_every_claim_without_measurements_is_undecided():
    verdicts = judge(CLAIMS, Evidence({}, Scale.LAPTOP))
    assert {v.outcome for v in verdicts} == {Outcome.UNDECIDED}
    assert len({v.claim for v in verdicts}) == len(CLAIMS) >= 12


def curve(values, metric: str) -> Measurement:
    """Three seeds that follow the same curve, a little apart."""
    values = np.asarray(values, dtype=float)
    spread = np.stack([values - 0.01, values, values + 0.01])[..., None]
    steps = tuple(range(0, 10 * len(values), 10))
    return Measurement(
        "formation", say("curve"), spread, ("seed", "step", "metric"),
        {"seed": (0, 1, 2), "step": steps, "metric": (metric,)}, "fraction",
    )  # fmt: skip


def formation(output, match, position, accuracy) -> Evidence:
    metrics = {
        "recall/output": output,
        "recall/match": match,
        "recall/position_64": position,
        "accuracy/in_context": accuracy,
    }
    parts = [curve(v, m) for m, v in metrics.items()]
    whole = Measurement(
        "formation", say("curve"), np.concatenate([p.values for p in parts], -1), parts[0].dims,
        {**parts[0].coords, "metric": tuple(metrics)}, "fraction",
    )  # fmt: skip
    return Evidence({"formation": whole}, Scale.LAPTOP)


def verdict(key: str, evidence: Evidence) -> Outcome:
    return next(v for v in judge(CLAIMS, evidence) if v.claim == key).outcome


def test_top_down_holds_when_the_output_memory_leads_and_fails_when_it_trails():
    early, late = [0.0, 0.9, 1.0, 1.0, 1.0], [0.0, 0.0, 0.1, 0.6, 0.95]
    assert verdict("birth.top-down", formation(early, late, late, late)) is Outcome.HOLDS
    assert verdict("birth.top-down", formation(late, early, late, late)) is Outcome.FAILS


def test_memories_hold_only_in_part_when_one_is_half_formed():
    full, half, none = [0.0, 0.5, 0.97], [0.0, 0.2, 0.6], [0.0, 0.02, 0.05]
    assert verdict("birth.memories-form", formation(full, full, full, full)) is Outcome.HOLDS
    assert verdict("birth.memories-form", formation(full, half, full, full)) is Outcome.HOLDS_IN_PART
    assert verdict("birth.memories-form", formation(full, none, full, full)) is Outcome.FAILS


def test_two_seeds_decide_nothing():
    evidence = formation([0, 1, 1], [0, 1, 1], [0, 1, 1], [0, 1, 1])
    whole = evidence["formation"]
    two = Measurement(
        whole.name, whole.says, whole.values[:2], whole.dims, {**whole.coords, "seed": (0, 1)}, whole.unit
    )
    assert verdict("birth.memories-form", Evidence({"formation": two}, Scale.LAPTOP)) is Outcome.UNDECIDED


def test_every_scale_can_be_changed_by_path():
    assert Birth.at(Scale.LAPTOP).replaced_from_text("width=64").width == 64
    assert Birth.at(Scale.PAPER).batch == 512
    assert EXPERIMENTS["birth"] is Birth


def test_only_keeps_the_order_of_the_studies():
    assert chosen_studies(SMOKE, ("width", "main")) == ["main", "width"]


@pytest.mark.slow
class TestSmokeRun:
    def test_it_leaves_a_whole_folder(self, smoke_run):
        run = smoke_run.run
        assert run.verify() == []
        assert {p.name for p in run.path.iterdir()} >= {
            "spec.json", "environment.json", "events.jsonl", "measurements.json", "measurements.npz", "verdicts.json", "report.html",
        }  # fmt: skip
        assert len(list((run.path / "figures").glob("*.png"))) >= 15

    def test_its_report_is_one_offline_page(self, smoke_run):
        page = smoke_run.run.report.read_text(encoding="utf-8")
        assert "http://" not in page.replace("http://www.w3.org", "")
        assert "https://" not in page
        assert len(page) < 5_000_000
        assert page.count("<svg") >= 15

    def test_every_claim_is_undecided_at_smoke_scale(self, smoke_run):
        assert {v.outcome for v in smoke_run.verdicts} == {Outcome.UNDECIDED}
        assert all(v.because.en for v in smoke_run.verdicts)

    def test_measurements_survive_the_disk(self, smoke_run):
        loaded = load_measurements(smoke_run.run.path)
        for name, measurement in smoke_run.measurements.items():
            assert np.array_equal(loaded[name].values, measurement.values, equal_nan=True)

    def test_running_again_trains_nothing_and_says_the_same(self, smoke_run):
        heard = []
        again = run_experiment(SMOKE, RunOptions(out=smoke_run.run.path.parents[2], listeners=(heard.append,)))
        assert not [e for e in heard if e.kind == "training_started"]
        assert [json.dumps(v.to_json()) for v in again.verdicts] == [
            json.dumps(v.to_json()) for v in smoke_run.verdicts
        ]

    def test_the_model_did_what_was_shown(self, smoke_run):
        checks = smoke_run.measurements["fidelity"]
        assert checks.at(check="hooked").values == 0.0
        assert checks.at(check="attention").values <= 1e-5
        assert checks.at(check="generation").values == 0.0
        assert not math.isnan(float(smoke_run.measurements["construction"].values.sum()))
