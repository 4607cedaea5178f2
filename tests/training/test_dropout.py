"""Dropout draws from the seed and the step alone: resumed, and read again, a training drops the same numbers."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from glassworks.core.events import CheckpointSaved, Event, EventLog
from glassworks.mixers import Infini
from glassworks.models import TransformerSpec, build_model
from glassworks.models.pieces import Reading, pieces_loss
from glassworks.tasks import Bigram
from glassworks.tensors.files import load_tensors
from glassworks.tensors.seeds import Seed
from glassworks.training.loop import TrainingOptions, train
from glassworks.training.spec import TrainingSpec

TASK = Bigram(length=16)


def model_of(dropout: float) -> TransformerSpec:
    return TransformerSpec(vocabulary=TASK.vocabulary, width=8, depth=1, heads=2, context=16, dropout=dropout)


class Interrupted(Exception):
    pass


@pytest.mark.slow
def test_a_resumed_training_drops_the_same_numbers(tmp_path: Path) -> None:
    spec, plain = (TrainingSpec(task=TASK, model=model_of(share), steps=6, batch=4) for share in (0.3, 0.0))

    def stop(event: Event) -> None:
        if isinstance(event, CheckpointSaved) and event.step == 4:
            raise Interrupted

    before, log = torch.get_rng_state(), EventLog()
    log.listen(stop)
    whole = train(spec, TrainingOptions(tmp_path / "whole"), EventLog())
    assert torch.equal(before, torch.get_rng_state())
    cut = TrainingOptions(tmp_path / "cut", checkpoint_every=2)
    with pytest.raises(Interrupted):
        train(spec, cut, log)
    resumed = train(spec, cut, EventLog())
    other = train(plain, TrainingOptions(tmp_path / "plain"), EventLog())
    found = [load_tensors(each.path / "model.safetensors")[0] for each in (whole, resumed, other)]
    name = "model.layers.0.mlp.up_proj.weight"
    assert all(torch.equal(tensor, found[1][key]) for key, tensor in found[0].items())
    assert not torch.equal(found[0][name], found[2][name])


def test_a_piece_that_is_read_again_drops_the_same_numbers() -> None:
    fields = {"vocabulary": 11, "width": 8, "depth": 2, "heads": 2, "positions": "rotary", "dropout": 0.4}
    model = build_model(TransformerSpec.parse(fields | {"mixers": [Infini(segment=3).to_json()]}), Seed(0))
    torch.nn.Module.to(model, torch.float64)
    ids = torch.randint(0, 11, (2, 12), generator=torch.Generator().manual_seed(0))
    found: list[dict[str, torch.Tensor]] = []
    for checkpoint in (False, True):
        model.zero_grad()
        with Seed(5).of_torch():
            total = pieces_loss(model, ids, Reading(4, checkpoint), lambda logits, _: logits.square().sum())
        found.append({"total": total} | {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    for name, tensor in found[0].items():
        assert_close(tensor, found[1][name])
