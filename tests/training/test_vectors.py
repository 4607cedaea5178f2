"""Training decoders of vectors: schedules, clipping, copies along the way, and the errors of what does not fit."""

import math

import pytest
import torch

from glassworks.core.errors import Diverged, InvalidInput, InvalidSpec
from glassworks.core.events import EventLog
from glassworks.mixers import Linear, Mesa
from glassworks.models import TransformerSpec, VectorSpec, VectorTransformer
from glassworks.tasks import Bigram, Dynamics
from glassworks.tasks.solvers import half_squared_error
from glassworks.tensors.seeds import Seed
from glassworks.training.loop import TrainingOptions, train
from glassworks.training.objectives import SquaredError
from glassworks.training.schedules import ClipNorm, ClipValue, Constant, WarmupCosine
from glassworks.training.spec import AdamW, Sgd, TrainingSpec
from glassworks.training.store import StoreEntry, snapshots

TASK = Dynamics(hidden=3, length=6, tokens="constructed")
MODEL = VectorSpec(
    inputs=12, outputs=3, width=12, depth=1, heads=2, head_width=6, mixers=(Linear(),), norm="none", feedforward=("none",),
    positions="none", embedding="none", readout="first", score_scale="softmax_only", weight_scale=0.05, context=6,
)  # fmt: skip


def spec(**choices) -> TrainingSpec:
    fields = {"task": TASK, "model": MODEL, "optimiser": AdamW(rate=1e-3), "steps": 6, "batch": 4, "probe_every": 2}
    return TrainingSpec(**{**fields, "precision": "float32", **choices})


def trained(tmp_path, one: TrainingSpec, **options):
    return train(one, TrainingOptions(store=tmp_path, **options), EventLog(None))


def weights_of(found) -> torch.Tensor:
    return in_one(VectorTransformer.from_pretrained(found.path).state_dict())


def in_one(state) -> torch.Tensor:
    return torch.cat([state[name].detach().flatten() for name in sorted(state)])


def test_the_loss_falls_on_the_world_it_is_trained_on(tmp_path):
    found = trained(tmp_path, spec(steps=30, batch=32, optimiser=AdamW(rate=1e-2)))
    assert found.history.metrics["loss"][-1] < 0.9 * found.history.metrics["loss"][0]
    assert found.history.metrics["loss"] == pytest.approx(found.history.metrics["loss/all"])


def test_the_loss_is_half_the_squared_error_summed_over_dimensions():
    batch = TASK.sample(5, Seed(0))
    zero = torch.zeros_like(batch.targets)
    expected = 0.5 * batch.targets.square().sum(-1)
    assert torch.equal(half_squared_error(zero, batch.targets), expected)
    part = slice(1, 4)
    mask = batch.scored["all"][part]
    assert float(SquaredError().mean_loss(zero[part], batch.targets[part], mask)) == pytest.approx(
        float(expected[part].mean())
    )


def test_a_killed_training_with_schedule_and_copies_ends_as_an_uninterrupted_one(tmp_path):
    one = spec(schedule=WarmupCosine(warmup=2, until=6, final=1e-5), clip=ClipValue(limit=0.01), snapshot_every=2)
    whole = trained(tmp_path / "whole", one)

    class Killed(Exception): ...

    looks = []

    def killed_at_the_third_look(_model):
        looks.append(1)
        if len(looks) == 3:
            raise Killed
        return {}

    # Looks are at steps 0, 2, 4, 5: the third comes after the checkpoint that step 4 begins with.
    with pytest.raises(Killed):
        trained(tmp_path / "cut", one, checkpoint_every=2, probe=killed_at_the_third_look)
    again = trained(tmp_path / "cut", one, checkpoint_every=2)
    assert torch.equal(weights_of(whole), weights_of(again))
    assert again.history.metrics == whole.history.metrics
    for (step, ours), (other, theirs) in zip(snapshots(whole.path), snapshots(again.path), strict=True):
        assert step == other
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_copies_are_kept_at_the_steps_asked_for_and_the_last_is_the_model(tmp_path):
    found = trained(tmp_path, spec(snapshot_every=3))
    kept = dict(snapshots(found.path))
    assert list(kept) == [0, 3, 6]
    assert torch.equal(in_one(kept[6]), weights_of(found))
    assert not torch.equal(
        kept[0]["model.layers.0.self_attn.o_proj.weight"], kept[3]["model.layers.0.self_attn.o_proj.weight"]
    )


def test_no_copies_are_kept_unless_asked_for(tmp_path):
    assert list(snapshots(trained(tmp_path, spec()).path)) == []


def test_the_cosine_goes_up_straight_and_down_as_half_a_cosine():
    schedule = WarmupCosine(warmup=10, until=110, start=0.0, final=0.1)
    assert [schedule.rate(step, 1.0) for step in (0, 5, 10)] == [0.0, 0.5, 1.0]
    assert schedule.rate(60, 1.0) == pytest.approx(0.55)
    assert schedule.rate(110, 1.0) == pytest.approx(0.1)
    assert schedule.rate(10_000, 1.0) == pytest.approx(0.1)
    assert Constant().rate(7, 0.3) == 0.3


def test_a_rate_of_zero_at_the_first_step_changes_nothing(tmp_path):
    one = spec(schedule=WarmupCosine(warmup=10, until=20), optimiser=AdamW(rate=1.0, weight_decay=0.0), steps=1)
    still = spec(schedule=WarmupCosine(warmup=10, until=20), optimiser=AdamW(rate=2.0, weight_decay=0.0), steps=1)
    assert torch.equal(weights_of(trained(tmp_path, one)), weights_of(trained(tmp_path, still)))


def test_clipping_by_value_bounds_elements_and_by_norm_the_whole():
    big = [torch.zeros(3), torch.zeros(2)]
    for tensor, gradient in zip(big, ([3.0, -4.0, 0.5], [0.0, 12.0]), strict=True):
        tensor.grad = torch.tensor(gradient)
    ClipValue(limit=1.0).apply(big)
    assert big[0].grad.tolist() == [1.0, -1.0, 0.5]
    ClipNorm(limit=0.5).apply(big)
    assert math.isclose(math.hypot(*(float(t.grad.norm()) for t in big)), 0.5, rel_tol=1e-5)


def test_clipping_reaches_the_update(tmp_path):
    sgd = Sgd(rate=1.0, momentum=0.0, weight_decay=0.0)
    before = spec(optimiser=sgd, steps=1, clip=ClipValue(limit=1e-30))
    free = spec(optimiser=sgd, steps=1)
    start = dict(snapshots(trained(tmp_path, spec(optimiser=sgd, steps=1, snapshot_every=5)).path))[0]
    begun = in_one(start)
    assert torch.equal(weights_of(trained(tmp_path, before)), begun)
    assert not torch.equal(weights_of(trained(tmp_path, free)), begun)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"task": Bigram(length=6)}, "made of tokens"),
        ({"model": TransformerSpec(vocabulary=9, width=8, depth=1)}, "made of vectors"),
        ({"task": Dynamics(hidden=3, length=6)}, "reads 12 numbers and predicts 3"),
        ({"model": MODEL.replaced("context", 4).replaced("positions", "learned")}, "shorter than the sequences"),
    ],
)
def test_a_world_and_a_model_that_do_not_fit_are_refused(changes, reason):
    with pytest.raises(InvalidSpec, match=reason):
        spec(**changes)


def test_a_model_without_a_table_may_read_longer_sequences_than_its_context():
    assert spec(model=MODEL.replaced("context", 2)).model.context == 2


def test_settings_younger_than_stored_trainings_leave_their_digests_alone():
    names = {"schedule", "clip", "snapshot_every"}
    assert not names & set(spec().identity())
    assert names <= set(spec(schedule=WarmupCosine(), clip=ClipNorm(), snapshot_every=1).identity())


def test_a_layer_that_training_makes_singular_ends_it_as_nan_does(tmp_path):
    task = Dynamics(hidden=3, length=24, tokens="constructed")
    model = MODEL.replaced("context", 24).replaced("mixers", (Mesa(keep="with_regulariser"),))
    # So large a rate lets the gates forget all at once, the fading regulariser with it.
    one = spec(task=task, model=model, steps=60, optimiser=AdamW(rate=3.0))
    log, stops = EventLog(None), []
    log.listen(lambda event: stops.append(event.step) if event.kind == "stopped" else None)
    with pytest.raises(Diverged, match=r"the model refuses at step \d+: .* singular") as caught:
        train(one, TrainingOptions(store=tmp_path, checkpoint_every=1), log)
    assert isinstance(caught.value.__cause__, InvalidInput)
    (step,) = stops
    assert step > 0
    assert f"at step {step}:" in str(caught.value)
    assert "keep=data_only" in str(caught.value)
    assert "a stronger regulariser" in str(caught.value)
    entry = StoreEntry(tmp_path, one)
    checkpoint = entry.load_checkpoint()
    assert checkpoint is not None
    assert f"(step {checkpoint.step})" in str(caught.value)
    assert 0 < checkpoint.step <= step
    assert all(bool(tensor.isfinite().all()) for tensor in checkpoint.tensors.values())
    assert not entry.is_done
