"""`glassworks train STAGE`: from words to choices, and what is said at the end."""

import json

import pytest

from glassworks.cli.main import main
from glassworks.cli.options import read
from glassworks.cli.options_train import Train, settings_first
from glassworks.core.errors import BrokenFile, InvalidInput, InvalidSpec, NotFound, UnknownName
from glassworks.mixers import Linear, Softmax
from glassworks.models.spec import EncoderSpec
from glassworks.training.stages.pretrain import FITTED
from glassworks.training.stages.recipes import is_stage, stage_of


@pytest.fixture
def text(tmp_path) -> str:
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on a mat. " * 100, encoding="utf-8")
    return str(path)


def test_words_become_choices_with_data_by_name_alone(text) -> None:
    spec = stage_of("pretrain", [text, "steps=7", "width=64", "model.norm=layer", "length=700"], start="tokens")
    assert (spec.data, spec.start, spec.steps) == ((text,), "tokens", 7)
    assert (spec.model.width, spec.model.norm, spec.model.vocabulary) == (64, "layer", FITTED)
    assert spec.model.context == 700, "the context grows with the windows"
    assert stage_of("tokenizer", [text, "kind=characters"]).algorithm == "characters"
    assert stage_of("sft", ["data=" + text]).data == (text,)


def test_a_bare_word_chooses_the_kind_of_model_and_names_the_mixers(text) -> None:
    assert isinstance(stage_of("pretrain", [text, "model=encoder", "depth=2"]).model, EncoderSpec)
    mixed = stage_of("pretrain", [text, "mixer=softmax,linear"]).model
    assert (mixed.mixers, mixed.depth) == ((Softmax(), Linear()), 2)
    assert stage_of("pretrain", [text, "mixer=linear"]).model.mixers == (Linear(),)
    with pytest.raises(UnknownName):
        stage_of("pretrain", [text, "model=encodr"])


def test_a_preset_gives_the_shape_and_only_pretraining_takes_one(text) -> None:
    spec = stage_of("pretrain", [text], preset="gpt2")
    assert (spec.model.depth, spec.model.width, spec.model.vocabulary) == (12, 768, 50257)
    with pytest.raises(InvalidInput, match="only pretraining"):
        stage_of("sft", [text], preset="gpt2")


@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_a_file_of_choices_is_overridden_by_words(tmp_path, text, ending) -> None:
    path = tmp_path / f"choices.{ending}"
    choices = {"kind": "pretrain", "data": [text], "steps": 5, "rate": 0.01}
    path.write_text(json.dumps(choices), encoding="utf-8")
    spec = stage_of("pretrain", [str(path), "steps=6"])
    assert (spec.data, spec.steps, spec.rate) == ((text,), 6, 0.01)
    with pytest.raises(InvalidInput, match="is for the stage pretrain, not sft"):
        stage_of("sft", [str(path)])
    path.write_text("[1, 2" if ending == "json" else "a: [", encoding="utf-8")
    if ending == "yaml":
        with pytest.raises(BrokenFile):
            stage_of("pretrain", [str(path)])


def test_mistakes_are_named(tmp_path, text) -> None:
    with pytest.raises(InvalidSpec) as wrong:
        stage_of("pretrain", [text, "stepz=3"])
    assert "steps (nearest)" in wrong.value.right.en
    with pytest.raises(NotFound):
        stage_of("pretrain", [str(tmp_path / "absent.json")])
    with pytest.raises(InvalidInput, match="said twice"):
        stage_of("pretrain", [text, "start=a"], start="b")


def test_stages_and_tasks_are_told_apart(text, capsys) -> None:
    assert is_stage("sft")
    assert not is_stage("bigram")
    assert main(["train", "bigram", "--start", "x"]) == 1
    assert "belongs to a stage" in capsys.readouterr().err


def test_settings_may_stand_behind_options(text) -> None:
    typed = ["train", "pretrain", text, "--start", "folder", "steps=3", "--json", "rate=0.1", "--out=o", "x=1"]
    found = read(typed)
    assert isinstance(found, Train)
    assert (found.settings, found.start, found.out, found.json) == (
        (text, "steps=3", "rate=0.1", "x=1"),
        "folder",
        "o",
        True,
    )
    assert settings_first(["examine", "--json", "m"]) == ["examine", "--json", "m"]


def test_a_tokenizer_is_trained_and_set_beside_bytes(text, tmp_path, capsys) -> None:
    asked = ["train", "tokenizer", text, "vocabulary=280", "--out", str(tmp_path), "--json"]
    assert main(asked) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["facts"]["differing"] == 0
    assert found["next"] == f"glassworks train pretrain TEXT --start {found['model']}"
    assert main(asked[:-1]) == 0
    out = capsys.readouterr().out
    assert "found in the store" in out
    assert out.splitlines()[-1] == found["model"]


def test_a_stage_out_of_turn_is_refused_with_the_command_that_comes_first(text, tmp_path, capsys) -> None:
    assert main(["train", "tokenizer", text, "vocabulary=280", "--out", str(tmp_path)]) == 0
    folder = capsys.readouterr().out.splitlines()[-1]
    assert main(["train", "reward", text, "--start", folder, "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "reward comes after sft" in said
    assert f"glassworks train sft --start {folder}" in said


@pytest.mark.slow
def test_a_model_is_pretrained_and_read_by_the_other_commands(text, tmp_path, capsys) -> None:
    small = ["steps=4", "batch=2", "length=16", "width=16", "depth=1", "heads=2", "samples=1", "log_every=2"]
    assert main(["train", "pretrain", text, *small, "--out", str(tmp_path)]) == 0
    folder = capsys.readouterr().out.splitlines()[-1]
    assert main(["generate", folder, "--prompt", "the", "--max-new-tokens", "3"]) == 0
    assert main(["examine", folder, "--text", "the cat sat", "--out", str(tmp_path)]) == 0
