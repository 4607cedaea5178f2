from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from glassworks.core.events import EventLog
from glassworks.evidence.claims import Scale
from glassworks.experiments.base import Bench
from glassworks.experiments.mesa import few_shot
from glassworks.experiments.mesa.spec import MesaOptimization
from glassworks.experiments.mesa.trainings import trainings
from glassworks.tensors.seeds import Seed
from glassworks.training.loop import TrainingOptions, train

SMOKE = MesaOptimization.at(Scale.SMOKE)


class BeforeMinus(nn.Module):
    """Predicts the token before, minus a fixed vector: where a separator stands there, that vector is its best value."""

    def __init__(self, vector: torch.Tensor) -> None:
        super().__init__()
        self.vector = nn.Parameter(vector)

    def forward(self, inputs_embeds: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        before = nn.functional.pad(inputs_embeds, (0, 0, 1, 0))[:, :-1]
        return SimpleNamespace(logits=before - self.vector)


class MeanOfFirst(nn.Module):
    """Predicts everywhere the mean of the first two tokens, minus a fixed vector."""

    def __init__(self, vector: torch.Tensor) -> None:
        super().__init__()
        self.vector = nn.Parameter(vector)

    def forward(self, inputs_embeds: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(
            logits=(inputs_embeds[:, :2].mean(1, keepdim=True) - self.vector).expand_as(inputs_embeds)
        )


@pytest.mark.slow
def test_the_separator_that_is_learned_is_the_one_that_was_planted() -> None:
    best = torch.tensor([0.5, -0.25, 0.0, 1.0])
    model = BeforeMinus(best.clone())
    study = SMOKE.replaced_all({"prompt_steps": 400, "batch": 256})
    learned = few_shot.learn_prompt(study, model, Seed(0))
    torch.testing.assert_close(learned.separator, best, atol=0.1, rtol=0)
    assert torch.equal(model.vector, best)
    assert model.vector.requires_grad
    assert model.vector.grad is None


@pytest.mark.slow
def test_the_prefix_that_is_learned_is_one_that_was_planted() -> None:
    best = torch.tensor([0.5, -0.25, 0.0, 1.0])
    learned = few_shot.learn_prompt(SMOKE.replaced_all({"prompt_steps": 400, "batch": 256}), MeanOfFirst(best), Seed(0))
    assert learned.prefix.shape == (4, 4)
    torch.testing.assert_close(learned.prefix[:2].mean(0), best, atol=0.1, rtol=0)


@pytest.mark.parametrize("length", [8, 9, 10, 16, 37, 224])
def test_every_prompt_asks_for_as_many_labels_as_are_shown(length: int) -> None:
    study = SMOKE.replaced_all({"prompt_length": length, "hidden": 3})
    pairs, switch = few_shot.pairs_of(study), few_shot.switch_of(study)
    short = length - few_shot.prefix_length(study)
    for room, separated in ((length, False), (length, True), (short, True)):
        for at in (None, switch):
            batch = few_shot.world_of(study, room, at, separated=separated).sample(2, Seed(0))
            assert len(few_shot.by_pairs(torch.zeros_like(batch.targets), batch)) >= pairs
            if at is not None:
                assert int(batch.scored["labels_first"][0].sum()) == switch
    tightest = few_shot.world_of(study, short, None, separated=True).sample(2, Seed(0))
    assert int(tightest.scored["labels"][0].sum()) == pairs


def test_published_sizes_give_the_published_switch_prefix_and_rate() -> None:
    paper = MesaOptimization.at(Scale.PAPER)
    assert (few_shot.switch_of(paper), few_shot.prefix_length(paper), few_shot.rate_for(paper.prompt_steps)) == (
        20,
        20,
        1e-3,
    )
    assert few_shot.rate_for(300) == pytest.approx(1 / 60)
    assert few_shot.rate_for(1) == few_shot.HIGHEST_RATE


@pytest.mark.slow
def test_ridge_on_pairs_learns_the_map_and_ridge_on_transitions_is_misled() -> None:
    """The recorded curves of the released runs (mesa.md 6), where the mean is not made by single prompts."""
    study = MesaOptimization(held_out=1024)
    transitions, steps, pairs = few_shot.control_curves(study, 0, None)
    for n, recorded in ((0, 1.65), (1, 1.51), (2, 1.61), (19, 0.845), (29, 0.684), (49, 0.561), (59, 0.527)):
        assert transitions[n] == pytest.approx(recorded, abs=0.07), n
    for n, recorded in ((5, 0.84), (9, 0.175), (10, 0.0379), (12, 0.0047), (59, 0.0006)):
        assert pairs[n] == pytest.approx(recorded, rel=0.2), n
    # Exact ridge is at its worst where transitions are as many as dimensions; six steps of the solver are not.
    assert transitions.max() > 2 * steps.max()
    assert steps.max() == pytest.approx(2.16, abs=0.2)


def test_ridge_on_pairs_is_the_regression_on_earlier_pairs_alone() -> None:
    batch = few_shot.world_of(SMOKE, 13, None, separated=False).sample(3, Seed(1))
    found = few_shot.ridge_on_pairs(batch)
    x, y = batch.examples[1, :4].double(), batch.labels[1, :4].double()
    weights = torch.linalg.solve(x.T @ x + few_shot.RIDGE * torch.eye(4).double(), x.T @ y)
    torch.testing.assert_close(found[1, 8], (batch.inputs[1, 8].double() @ weights).float())
    assert found[:, 1::2].eq(0).all()


def test_the_newest_transition_can_be_taken_too() -> None:
    batch = few_shot.world_of(SMOKE, 13, None, separated=False).sample(3, Seed(1))
    published, all_known = few_shot.ridge_on_transitions(batch), few_shot.ridge_on_transitions(batch, lag=0)
    assert published[:, 1].eq(0).all()
    assert not all_known[:, 1].eq(0).any()


@pytest.mark.slow
def test_the_study_is_measured_end_to_end(tmp_path) -> None:
    trained = {
        label: train(spec, TrainingOptions(store=tmp_path, label=label), EventLog())
        for label, spec in trainings(SMOKE, "few-shot").items()
    }
    bench = Bench(trained, tmp_path, torch.device("cpu"), EventLog(), "few-shot")
    found = {m.name: m for m in few_shot.measure(SMOKE, bench)}
    assert set(found) == {
        "training_few_shot", "few_shot", "few_shot_two_tasks", "few_shot_switch", "few_shot_separator",
    }  # fmt: skip
    for name in ("few_shot", "few_shot_two_tasks"):
        curves = found[name]
        assert curves.dims == ("model", "prompt", "seed", "pairs")
        assert curves.coords["model"] == ("Softmax-7", "Hybrid-mesa")
        assert curves.coords["prompt"] == few_shot.PROMPTS
        assert np.isfinite(curves.values).all()
        # The controls read the prompts, not the models.
        one, other = (curves.at(model=model, prompt="ridge on pairs").values for model in curves.coords["model"])
        assert (one == other).all()
    assert int(found["few_shot_switch"].values) == few_shot.switch_of(SMOKE)
    assert found["few_shot_separator"].values.shape == (2, 1)
    again = {m.name: m for m in few_shot.measure(SMOKE, bench)}
    assert all((again[name].values == found[name].values).all() for name in found if "training" not in name)
