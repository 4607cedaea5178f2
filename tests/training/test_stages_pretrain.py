"""Pretraining itself: exact resume after whatever stopped it, every kind of model, streams, adapters."""

import errno
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from glassworks.core.errors import Diverged, NoSpace
from glassworks.core.events import EventLog, StepDone
from glassworks.core.files import read_json
from glassworks.models.load import load
from glassworks.models.spec import EncoderDecoderSpec, EncoderSpec
from glassworks.training.stages.base import StageOptions, run_stage
from glassworks.training.stages.pretrain import FITTED, PretrainSpec, small_decoder
from tests.assets import asset

pytestmark = pytest.mark.slow

SENTENCE = "the cat sat on a mat, and the dog lay on a log. "
SIZES = {"width": 16, "depth": 1, "heads": 2, "feedforward_width": 32, "context": 32}
KILLED = """
import os, signal, sys, json
from pathlib import Path
from glassworks.core.events import EventLog, StepDone
from glassworks.training.stages.base import StageOptions, run_stage
from glassworks.training.stages.pretrain import PretrainSpec
events = EventLog()
events.listen(lambda e: isinstance(e, StepDone) and e.step >= 9 and os.kill(os.getpid(), signal.SIGKILL))
run_stage(PretrainSpec.parse(json.loads(sys.argv[1])), StageOptions(store=Path(sys.argv[2]), checkpoint_every=4), events)
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(f"{n}: {SENTENCE}" for n in range(60)), encoding="utf-8")
    return path


def spec_of(text, **fields) -> PretrainSpec:
    model = small_decoder().replaced_all(SIZES | {"dropout": 0.1})
    usual = {"steps": 12, "batch": 2, "length": 24, "log_every": 2, "look_every": 4, "samples": 1, "model": model}
    return PretrainSpec(data=(str(text),), **(usual | fields))


def run(spec, store, *listeners):
    events = EventLog()
    for listener in listeners:
        events.listen(listener)
    return run_stage(spec, StageOptions(store=store, checkpoint_every=4), events)


def interrupting(event) -> None:
    if isinstance(event, StepDone) and event.step >= 7:
        raise KeyboardInterrupt


def same(one, other) -> bool:
    weights = [(done.path / "model.safetensors").read_bytes() for done in (one, other)]
    return weights[0] == weights[1] and one.history.to_json() == other.history.to_json()


@pytest.fixture(scope="module")
def whole(text, tmp_path_factory):
    return run(spec_of(text), tmp_path_factory.mktemp("whole"))


def test_a_pretrained_model_is_a_folder_that_loads_and_says_what_it_learned(whole) -> None:
    subject = load(whole.path)
    assert subject.to_string([104, 105]) == "hi"
    assert whole.facts["held_out_loss"] < whole.history.metrics["held_out_loss"][0]
    assert whole.facts["bits_per_byte"] == pytest.approx(whole.facts["held_out_loss"] / 0.6931, rel=1e-3)
    assert set(read_json(whole.path / "samples.json")) == {"before", "after"}
    assert not (whole.path / "checkpoints").exists()


@pytest.mark.nightly
def test_a_killed_training_goes_on_exactly(whole, text, tmp_path) -> None:
    asked = [sys.executable, "-c", KILLED, json.dumps(spec_of(text).to_json()), str(tmp_path)]
    assert subprocess.run(asked, capture_output=True).returncode == -9
    assert same(run(spec_of(text), tmp_path), whole)


def test_an_interrupted_training_goes_on_exactly(whole, text, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(text), tmp_path, interrupting)
    assert same(run(spec_of(text), tmp_path), whole)


def test_a_full_disk_keeps_the_last_whole_checkpoint(whole, text, tmp_path, monkeypatch) -> None:
    from transformers import Trainer

    written = Trainer._save_optimizer_and_scheduler

    def full(self, folder):
        if self.state.global_step > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(self, folder)

    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", full)
    with pytest.raises(NoSpace, match="the state after step 4 is kept"):
        run(spec_of(text), tmp_path)
    monkeypatch.undo()
    assert same(run(spec_of(text), tmp_path), whole)


def test_numbers_that_overflow_stop_the_training_politely(text, tmp_path) -> None:
    with pytest.raises(Diverged, match="NaN or infinity"):
        run(spec_of(text, rate=1e30, warmup=0.0, clip=0.0), tmp_path)


@pytest.mark.parametrize("kind", ["encoder", "encoder_decoder", "prefix", "apart"])
def test_every_kind_of_model_learns_from_text(kind, text, tmp_path) -> None:
    shape = dict(vocabulary=FITTED, width=16, depth=1, heads=2, context=32, embedding_scale=0.02, weight_scale=0.02)
    model = {
        "encoder": EncoderSpec(**shape),
        "encoder_decoder": EncoderDecoderSpec(**shape),
        "prefix": small_decoder().replaced_all(SIZES | {"reads": "prefix"}),
        "apart": small_decoder().replaced_all(SIZES),
    }[kind]
    spec = spec_of(text, model=model, steps=30, rate=1e-2, apart=kind == "apart", separator=". ")
    done = run(spec, tmp_path)
    losses = done.history.metrics["loss"]
    assert losses[-1] < losses[0] - 0.5
    assert load(done.path).model.config.eos_token_id == load(done.path).tokenizer.eos_token_id


def test_a_stream_goes_on_where_it_was(tmp_path) -> None:
    path = tmp_path / "stream.jsonl"
    path.write_text("".join(json.dumps({"text": f"{n}: {SENTENCE * (n % 4)}"}) + "\n" for n in range(240)))
    spec = spec_of(path, stream=True)
    straight = run(spec, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run(spec, tmp_path / "stopped", interrupting)
    assert same(run(spec, tmp_path / "stopped"), straight)


def test_adapters_are_learned_merged_and_kept_and_the_rest_stays(whole, text, tmp_path) -> None:
    done = run(spec_of(text, start=str(whole.path), lora=2, steps=4, rate=1e-2), tmp_path)
    before, after = (dict(load(path).model.named_parameters()) for path in (whole.path, done.path))
    assert before.keys() == after.keys()
    moved = {name for name in before if not before[name].equal(after[name])}
    assert moved
    assert all("_proj" in name for name in moved)
    assert (done.path / "adapter" / "adapter_model.safetensors").is_file()
    assert done.facts["parameters"] == whole.facts["parameters"]
    assert [one["kind"] for one in read_json(done.path / "stage.json")["before"]] == ["pretrain"]


def test_a_model_from_a_file_goes_on_learning(text, tmp_path) -> None:
    start = asset("lm/stories260K/stories260K.bin")
    done = run(spec_of(text, start=str(start), steps=4), tmp_path)
    assert load(done.path).model.config.model_type == "llama"


def test_rows_go_to_a_tracker_too(text, tmp_path, monkeypatch) -> None:
    rows, config = [], {}

    class Tracker:
        def __init__(self, run, logging_dir):
            assert str(tmp_path) in logging_dir

        def start(self):
            pass

        def store_init_configuration(self, values):
            config.update(values)

        def log(self, values, step):
            rows.append((step, values))

        def finish(self):
            rows.append("finished")

    from accelerate import tracking

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", Tracker)
    monkeypatch.setattr("glassworks.training.stages.tracking.find_spec", lambda name: SimpleNamespace())
    options = StageOptions(store=tmp_path, track="tensorboard")
    done = run_stage(spec_of(text, steps=4), options, EventLog())
    assert [step for step, _ in rows[:-1]] == done.history.steps
    assert rows[0][1]["loss"] == done.history.metrics["loss"][0]
    assert rows[-1] == "finished"
    assert config["model.width"] == 16
