"""The same promises on a CUDA device, in bfloat16 where it is meant to be used."""

import pytest
import torch

from glassworks.core.events import EventLog
from glassworks.experiments.birth.trainings import FROZEN, simplified_model
from glassworks.tasks import Bigram
from glassworks.tensors.seeds import Seed
from glassworks.training.loop import TrainingOptions, train
from glassworks.training.spec import TrainingSpec

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


def test_batches_on_the_device_keep_the_world():
    batch = Bigram().sample(512, Seed(0), "cuda")
    assert batch.inputs.device.type == "cuda"
    for k in range(5):
        at = batch.inputs == batch.triggers[:, k : k + 1]
        assert torch.equal(batch.targets[at], batch.outputs[:, k : k + 1].expand_as(batch.targets)[at])
    assert float(batch.scored["in_context"].float().mean()) == pytest.approx(0.225, abs=0.03)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_reaches_the_same_loss_as_on_the_cpu(tmp_path, precision):
    task = Bigram(length=64)
    spec = TrainingSpec(
        task=task,
        model=simplified_model(task, 64),
        steps=120,
        batch=32,
        frozen=FROZEN,
        loss_on="in_context",
        precision=precision,
    )
    runs = [
        train(spec, TrainingOptions(store=tmp_path / kind, device=torch.device(kind)), EventLog())
        for kind in ("cpu", "cuda")
    ]
    ends = [sum(run.history.metrics["loss"][-3:]) / 3 for run in runs]
    # Batches differ (each device has its own generator), so only the level is compared.
    assert ends[0] == pytest.approx(ends[1], rel=0.15)


def test_a_compiled_training_equals_the_plain_one(tmp_path):
    task = Bigram(length=64)
    spec = TrainingSpec(
        task=task, model=simplified_model(task, 64), steps=30, batch=16, frozen=FROZEN, precision="float32"
    )
    losses = [
        train(
            spec, TrainingOptions(store=tmp_path / str(c), device=torch.device("cuda"), compile=c), EventLog()
        ).history.metrics["loss"]
        for c in (False, True)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
