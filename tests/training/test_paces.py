"""Rates of their own, further losses, pieces, and a training that goes on from another."""

import pytest
import torch
from torch.testing import assert_close

from glassworks.core.errors import InvalidInput, InvalidSpec
from glassworks.core.events import EventLog
from glassworks.mixers import Linear, Softmax
from glassworks.models.spec import TransformerSpec
from glassworks.models.transformer import build_model
from glassworks.tasks import Bigram
from glassworks.tensors.files import load_tensors
from glassworks.tensors.seeds import Seed
from glassworks.training.loop import TrainingOptions, train
from glassworks.training.optimisers import build_optimiser
from glassworks.training.spec import AdamW, ExtraLoss, Pace, TrainingSpec

TASK = Bigram(length=24)
MODEL = TransformerSpec(
    vocabulary=TASK.vocabulary, width=16, depth=1, heads=2, mixers=(Linear(),), positions="none", context=32
)
SPEC = TrainingSpec(
    task=TASK, model=MODEL, optimiser=AdamW(rate=0.01), steps=3, batch=4, probe_every=1, precision="float32"
)


def weights(spec, folder):
    return load_tensors(train(spec, TrainingOptions(store=folder), EventLog()).path / "model.safetensors")[0]


def test_paces_choose_rate_and_decay_of_the_first_pattern_that_matches():
    spec = SPEC.replaced(
        "paces", [Pace(pattern="*.q_proj.*", factor=10, weight_decay=0).to_json(), {"pattern": "*.layers.*"}]
    )
    parameters = dict(build_model(spec.model, Seed(0)).named_parameters())
    groups = build_optimiser(spec, parameters).param_groups
    assert [(g["factor"], g["weight_decay"], len(g["params"])) for g in groups[:1]] == [(10, 0, 1)]
    assert sum(len(g["params"]) for g in groups) == len(parameters)
    assert groups[0]["params"][0] is parameters["model.layers.0.self_attn.q_proj.weight"]


def test_a_pace_for_nobody_is_refused():
    spec = SPEC.replaced("paces", [{"pattern": "*.gates"}])
    with pytest.raises(InvalidInput, match=r"\*\.gates"):
        build_optimiser(spec, dict(build_model(spec.model, Seed(0)).named_parameters()))


def test_a_pace_moves_its_parameters_faster(tmp_path):
    slow = weights(SPEC.replaced("steps", 1), tmp_path)
    fast = weights(SPEC.replaced_all({"steps": 1, "paces": [{"pattern": "*.q_proj.*", "factor": 5}]}), tmp_path)
    start = build_model(MODEL, Seed(SPEC.seed).child("model")).state_dict()
    name, other = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight"
    ratio = (fast[name] - start[name]).abs().mean() / (slow[name] - start[name]).abs().mean()
    assert ratio == pytest.approx(5, rel=0.02)
    assert_close(fast[other], slow[other])


def test_reading_in_pieces_learns_the_same(tmp_path):
    whole = weights(SPEC, tmp_path)
    for choice in ({"piece": 7}, {"piece": 24}, {"piece": 5, "recompute": False}):
        for name, tensor in weights(SPEC.replaced_all(choice), tmp_path).items():
            assert_close(tensor, whole[name], rtol=1e-4, atol=1e-5)


def test_truncated_gradients_differ_and_need_pieces(tmp_path):
    cut = weights(SPEC.replaced_all({"piece": 6, "truncate_after": 1, "steps": 1}), tmp_path)
    whole = weights(SPEC.replaced("steps", 1), tmp_path)
    assert any(not torch.allclose(cut[name], whole[name], atol=1e-6) for name in whole)
    with pytest.raises(InvalidSpec, match="whole"):
        SPEC.replaced("truncate_after", 2)


def test_softmax_is_not_read_in_pieces():
    with pytest.raises(InvalidSpec, match="bounded memory"):
        SPEC.replaced_all({"piece": 8, "model.mixers": [Softmax().to_json()]})


def test_an_extra_loss_adds_to_the_gradient(tmp_path):
    doubled = SPEC.replaced("extra_losses", [ExtraLoss(mask="all", weight=1.0).to_json()])
    history = train(doubled, TrainingOptions(store=tmp_path), EventLog()).history
    plain = train(SPEC, TrainingOptions(store=tmp_path), EventLog()).history
    assert history.curve("loss")[0] == pytest.approx(2 * plain.curve("loss")[0], rel=1e-5)


def test_a_training_goes_on_from_another_which_is_made_first(tmp_path):
    then = SPEC.replaced_all({"steps": 1, "start_from": SPEC.to_json(), "optimiser.rate": 1e-9})
    assert then.digest() != SPEC.replaced("steps", 1).digest()
    after = weights(then, tmp_path)
    for name, tensor in weights(SPEC, tmp_path).items():
        assert_close(after[name], tensor, rtol=1e-5, atol=1e-6)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    other = SPEC.replaced("model.width", 8)
    with pytest.raises(InvalidInput, match="start from"):
        train(SPEC.replaced("start_from", other.to_json()), TrainingOptions(store=tmp_path), EventLog())
