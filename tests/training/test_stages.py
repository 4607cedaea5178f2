"""What all stages have in common: identity, the folder that is left, what has to come before."""

import json
import shutil

import pytest

from glassworks.core.errors import InvalidInput, InvalidSpec, NotFound, Unavailable, UnknownName
from glassworks.core.events import EventLog, TrainingDone
from glassworks.models.byte_tokenizer import save_byte_tokenizer
from glassworks.training.stages import base
from glassworks.training.stages.base import StageOptions, check_start, run_stage, stage_file
from glassworks.training.stages.folder import identity_of, read_stage, stages_behind
from glassworks.training.stages.pretrain import PretrainSpec
from glassworks.training.stages.tokenizer import TokenizerSpec
from glassworks.training.stages.tracking import check_tracker
from glassworks.training.stages.trainer import WHOLE, history_of, last_checkpoint


class _AfterTuning(PretrainSpec):
    follows = ("sft",)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on a mat. " * 40, encoding="utf-8")
    return path


@pytest.fixture
def tokenizer(tmp_path, text):
    spec = TokenizerSpec(data=(str(text),), vocabulary=280)
    return run_stage(spec, StageOptions(store=tmp_path / "store"), EventLog())


def test_a_tokenizer_is_made_checked_kept_and_found_again(tokenizer, tmp_path, text) -> None:
    heard = []
    events = EventLog()
    events.listen(heard.append)
    again = run_stage(tokenizer.spec, StageOptions(store=tmp_path / "store"), events)
    assert (again.path, again.reused, again.facts) == (tokenizer.path, True, tokenizer.facts)
    assert [(type(event), event.reused) for event in heard] == [(TrainingDone, True)]
    assert tokenizer.facts["differing"] == 0
    assert tokenizer.facts["bytes"] == text.stat().st_size
    assert read_stage(tokenizer.path).kind == "tokenizer"
    assert not (tokenizer.path / "checkpoints").exists()


def test_a_stage_is_known_by_what_it_reads_and_not_by_where(tokenizer, tmp_path, text) -> None:
    spec = PretrainSpec(data=(str(text),), start=str(tokenizer.path))
    there = shutil.copytree(tokenizer.path, tmp_path / "moved")
    copy = shutil.copy(text, tmp_path / "copy.txt")
    moved = PretrainSpec(data=(str(copy),), start=str(there))
    assert stage_file(spec).digest == stage_file(moved).digest
    assert [one.kind for one in stage_file(spec).before] == ["tokenizer"]
    text.write_text("other words. " * 40, encoding="utf-8")
    assert stage_file(spec).digest != stage_file(moved).digest
    assert stage_file(spec.replaced("seed", 1)).digest != stage_file(spec).digest


def test_a_model_from_elsewhere_is_known_by_its_files(tmp_path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    save_byte_tokenizer(folder)
    first = identity_of(str(folder))
    (folder / "notes.md").write_text("words", encoding="utf-8")
    assert identity_of(str(folder)) == first
    (folder / "model.safetensors").write_bytes(b"others")
    assert identity_of(str(folder)) != first
    assert identity_of("owner/name") == "hub:owner/name"
    assert identity_of("") == ""
    with pytest.raises(NotFound):
        identity_of(str(tmp_path / "absent"))


def test_a_stage_that_did_not_finish_is_no_start(tokenizer, text) -> None:
    (tokenizer.path / "done.json").unlink()
    with pytest.raises(InvalidInput, match="has not finished"):
        stage_file(PretrainSpec(data=(str(text),), start=str(tokenizer.path)))


def test_what_has_to_come_before_is_asked_for(tokenizer, tmp_path) -> None:
    with pytest.raises(InvalidInput, match="none is named"):
        check_start(_AfterTuning())
    with pytest.raises(InvalidInput, match="did not go through") as refused:
        check_start(_AfterTuning(start=str(tokenizer.path)))
    assert refused.value.next_command == f"glassworks train sft --start {tokenizer.path}"
    check_start(_AfterTuning(start=str(tokenizer.path)), any_start=True)
    check_start(PretrainSpec())
    # A model from elsewhere that brings a chat template was tuned by others.
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    (tuned / "tokenizer_config.json").write_text(json.dumps({"chat_template": "x"}), encoding="utf-8")
    check_start(_AfterTuning(start=str(tuned)))
    stage = read_stage(tokenizer.path).to_json() | {"before": [{"kind": "sft", "digest": "0"}]}
    (tokenizer.path / "stage.json").write_text(json.dumps(stage), encoding="utf-8")
    check_start(_AfterTuning(start=str(tokenizer.path)))
    assert [one.kind for one in stages_behind(str(tokenizer.path))] == ["sft", "tokenizer"]


def test_windows_longer_than_the_context_are_refused() -> None:
    with pytest.raises(InvalidSpec, match="longer than the model's context"):
        PretrainSpec(length=1024)


def test_only_whole_checkpoints_count_and_others_are_cleared_away(tmp_path) -> None:
    desk = base.Desk(TokenizerSpec(), "digest", StageOptions(store=tmp_path), EventLog())
    assert last_checkpoint(desk) is None
    for step in (5, 10, 15):
        (desk.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
    for step in (5, 10):
        (desk.checkpoints / f"checkpoint-{step}" / WHOLE).write_text("{}", encoding="utf-8")
    assert last_checkpoint(desk).name == "checkpoint-10"
    assert not (desk.checkpoints / "checkpoint-15").exists()


def test_a_log_becomes_a_history_of_measurements_alone() -> None:
    logged = [
        {"loss": 3.0, "epoch": 0.1, "step": 1},
        {"loss": 2.0, "held_out_loss": 2.5, "epoch": 0.2, "step": 10},
        {"train_runtime": 3.0, "train_loss": 2.5, "total_flos": 1.0, "step": 10},
    ]
    history = history_of(logged)
    assert history.steps == [0, 9]
    assert history.metrics["loss"] == [3.0, 2.0]
    assert set(history.metrics) == {"loss", "held_out_loss"}


def test_trackers_that_are_unknown_or_absent_are_named(monkeypatch) -> None:
    with pytest.raises(UnknownName):
        check_tracker("tensorbord")
    monkeypatch.setattr("glassworks.training.stages.tracking.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="trackio") as refused:
        check_tracker("trackio")
    assert refused.value.next_command == "pip install trackio"
