import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from glassworks.core.errors import BrokenFile, Diverged, InvalidInput, RunBusy
from glassworks.core.events import EventLog, StepDone
from glassworks.experiments.birth.trainings import FROZEN, MEMORIES, simplified_model
from glassworks.tasks import Bigram
from glassworks.tensors.files import load_tensors
from glassworks.training.loop import TrainingOptions, train
from glassworks.training.spec import AdamW, FrozenUntil, Sgd, TrainingSpec
from glassworks.training.store import StoreEntry

TASK = Bigram(length=16)


def small(**fields) -> TrainingSpec:
    base = {
        "task": TASK,
        "model": simplified_model(TASK, 16),
        "steps": 12,
        "batch": 4,
        "frozen": FROZEN,
        "probe_every": 4,
    }
    return TrainingSpec(**(base | fields))


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_tensors(path / "model.safetensors")[0]


def options(store: Path, **fields) -> TrainingOptions:
    return TrainingOptions(store=store, **fields)


class Interrupted(Exception):
    pass


def interrupt_at(step: int, log: EventLog) -> EventLog:
    def listener(event):
        if event.kind == "checkpoint_saved" and event.step == step:
            raise Interrupted

    log.listen(listener)
    return log


@pytest.mark.parametrize("optimiser", [Sgd(), AdamW()], ids=["sgd", "adamw"])
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(tmp_path, optimiser):
    held = (FrozenUntil(pattern=MEMORIES["output"], step=7),)
    spec = small(optimiser=optimiser, frozen_until=held)
    whole = train(spec, options(tmp_path / "whole"), EventLog())
    cut = options(tmp_path / "cut", checkpoint_every=3)
    with pytest.raises(Interrupted):
        train(spec, cut, interrupt_at(6, EventLog()))
    resumed = train(spec, cut, EventLog())
    for name, tensor in weights(whole.path).items():
        assert torch.equal(tensor, weights(resumed.path)[name]), name
    assert resumed.history.to_json() == whole.history.to_json()


def test_an_equal_training_is_found_in_the_store(tmp_path):
    first = train(small(), options(tmp_path), EventLog())
    again = train(small(), options(tmp_path), EventLog())
    assert not first.reused
    assert again.reused
    assert again.path == first.path


def test_frozen_parameters_stay_bit_equal_and_released_ones_move_only_then(tmp_path):
    name = MEMORIES["output"]
    short = small(steps=5, frozen_until=(FrozenUntil(pattern=name, step=5),))
    released = small(steps=6, frozen_until=(FrozenUntil(pattern=name, step=5),))
    start = small(steps=1, frozen=("*",), optimiser=Sgd())
    before = TrainingSpec(**(start.__dict__ | {"frozen": (*FROZEN, name)}))
    held, moved, origin = (weights(train(s, options(tmp_path), EventLog()).path) for s in (short, released, before))
    assert torch.equal(held[name], origin[name])
    assert not torch.equal(moved[name], origin[name])
    for frozen in ("model.embed_tokens.weight", "lm_head.weight", "model.layers.0.self_attn.v_proj.weight"):
        assert torch.equal(moved[frozen], origin[frozen])


def test_nan_stops_politely_and_keeps_the_last_good_state(tmp_path):
    spec = small(steps=60, optimiser=Sgd(rate=1e18), loss_on="all")
    with pytest.raises(Diverged, match="step") as found:
        train(spec, options(tmp_path, checkpoint_every=1), EventLog())
    assert "smaller learning rate" in str(found.value)
    checkpoint = StoreEntry(tmp_path, spec).load_checkpoint()
    assert checkpoint is not None
    assert all(bool(torch.isfinite(t).all()) for t in checkpoint.tensors.values())
    assert not StoreEntry(tmp_path, spec).is_done


def test_a_second_process_is_refused(tmp_path):
    spec = small()
    with StoreEntry(tmp_path, spec).lock(), pytest.raises(RunBusy, match=str(os.getpid())):
        train(spec, options(tmp_path), EventLog())


def test_a_truncated_checkpoint_is_named(tmp_path):
    spec = small()
    with pytest.raises(Interrupted):
        train(spec, options(tmp_path, checkpoint_every=3), interrupt_at(3, EventLog()))
    path = tmp_path / spec.digest() / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BrokenFile, match=r"checkpoint\.safetensors"):
        train(spec, options(tmp_path), EventLog())


def test_history_has_a_row_at_every_probed_step_and_the_last(tmp_path):
    seen = []

    def probe(model):
        seen.append(model.training)
        return {"depth": 2.0}

    trained = train(small(steps=10), options(tmp_path, probe=probe), EventLog())
    assert trained.history.steps == [0, 4, 8, 9]
    assert trained.history.metrics["depth"] == [2.0] * 4
    assert seen == [False] * 4
    assert set(trained.history.metrics) >= {"loss", "accuracy/in_context", "loss/global"}


def test_bfloat16_and_float32_learn_the_same_within_rounding(tmp_path):
    exact, fast = (train(small(steps=8, precision=p), options(tmp_path), EventLog()) for p in ("float32", "bfloat16"))
    assert exact.history.metrics["loss"] == pytest.approx(fast.history.metrics["loss"], rel=0.02)


def test_a_batch_taken_in_pieces_learns_the_same(tmp_path, monkeypatch):
    spec = small(steps=6, batch=7, precision="float32", probe_every=1, loss_on="in_context")
    whole = train(spec, options(tmp_path / "whole"), EventLog())
    monkeypatch.setattr("glassworks.training.gradients.CPU_TOKENS", 2 * TASK.length)
    pieces = train(spec, options(tmp_path / "pieces"), EventLog())
    assert pieces.history.metrics["loss"] == pytest.approx(whole.history.metrics["loss"], rel=1e-5)
    for name, tensor in weights(whole.path).items():
        assert torch.allclose(tensor, weights(pieces.path)[name], atol=1e-6), name


def test_a_batch_without_anything_to_learn_from_is_named(tmp_path):
    task = Bigram(length=4, triggers=0)
    spec = small(task=task, model=simplified_model(task, 16), loss_on="in_context")
    with pytest.raises(InvalidInput, match="batch 0 holds no token to learn from"):
        train(spec, options(tmp_path), EventLog())


KILLED = """
import sys
from pathlib import Path
from glassworks.core.events import EventLog, StepDone
from glassworks.training.loop import TrainingOptions, train
from glassworks.training.spec import TrainingSpec
spec = TrainingSpec.parse(__import__("json").loads(Path(sys.argv[1]).read_text()))
train(spec, TrainingOptions(store=Path(sys.argv[2]), checkpoint_every=5), EventLog(Path(sys.argv[3])))
"""


@pytest.mark.slow
@pytest.mark.nightly
def test_a_training_killed_with_minus_nine_resumes_to_the_same_parameters(tmp_path):
    spec = small(steps=400, batch=16)
    (tmp_path / "spec.json").write_text(json.dumps(spec.to_json()))
    events = tmp_path / "events.jsonl"
    command = [sys.executable, "-c", KILLED, tmp_path / "spec.json", tmp_path / "cut", events]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and b"checkpoint_saved" not in (events.read_bytes() if events.exists() else b""):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not StoreEntry(tmp_path / "cut", spec).is_done
    subprocess.run(command, check=True)
    whole = train(spec, options(tmp_path / "whole"), EventLog())
    resumed = weights(tmp_path / "cut" / spec.digest())
    for name, tensor in weights(whole.path).items():
        assert torch.equal(tensor, resumed[name]), name


@pytest.mark.parametrize("step", [4, 11])
def test_a_request_to_end_is_never_lost_also_in_the_last_step(tmp_path, step) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    events = EventLog()
    events.listen(
        lambda event: (
            os.kill(os.getpid(), signal.SIGINT) if isinstance(event, StepDone) and event.step == step else None
        )
    )
    spec = small()
    try:
        with pytest.raises(KeyboardInterrupt):
            train(spec, options(tmp_path / "asked"), events)
    finally:
        signal.signal(signal.SIGINT, before)
    entry = StoreEntry(tmp_path / "asked", spec)
    assert entry.is_done == (step == 11)
    again = train(spec, options(tmp_path / "asked"), EventLog())
    assert again.reused == (step == 11)
    undisturbed = train(spec, options(tmp_path / "undisturbed"), EventLog())
    for name, tensor in weights(undisturbed.path).items():
        assert torch.equal(tensor, weights(again.path)[name]), name
