import json
import os
from pathlib import Path

import pytest

import glassworks as gw
from glassworks.cli.examine import instrument_of
from glassworks.cli.main import main
from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.instruments import AttentionMaps, Patching
from glassworks.tasks import Bigram
from tests.cli.folders import BIRTH, finished_run, planted_folder, planted_model, stored_main_model

WORLD = Bigram(length=40, triggers=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return planted_folder(tmp_path_factory.mktemp("planted") / "head", WORLD)


def test_a_hand_set_head_is_found_and_everything_written(folder, tmp_path, capsys):
    arguments = ["examine", str(folder), "--with", "head_scores", "--with", "memory_recall", "--device", "cpu"]
    assert main([*arguments, "--json", "--out", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fidelity"]["holds"] is True
    assert found["fidelity"]["max_abs_logit_difference"] == 0.0
    assert found["anatomy"]["layers"][1]["mixer"] == "model.layers.1.self_attn"
    assert found["model"]["world"]["kind"] == "bigram"
    assert len(found["tokens"][0]) == WORLD.length
    assert Path(found["report"]).is_file()
    names = {Path(path).name for path in (*found["tables"], *found["figures"])}
    assert names == {f"{n}{s}" for n in ("head_scores", "memory_recall") for s in (".csv", ".parquet", ".svg")}
    page = Path(found["report"]).read_text()
    assert page.index("Fidelity") < page.index("What the heads look for")
    # Nothing half-written stays beside the result.
    assert [path.name for path in (tmp_path / "examinations").iterdir()] == [Path(found["report"]).parent.name]


@pytest.mark.slow
def test_for_people_fidelity_comes_before_findings_and_the_report_last(folder, tmp_path, capsys):
    for _ in range(2):
        assert (
            main(["examine", str(folder), "--text", "the the the", "--with", "head_scores", "--out", str(tmp_path)])
            == 0
        )
    printed = capsys.readouterr().out
    assert (
        printed.index("model.layers.{i}.self_attn (all 2)")
        < printed.index("passed")
        < printed.index("scores highest for induction")
    )
    assert Path(printed.splitlines()[-1]).is_file()
    assert len(os.listdir(tmp_path / "examinations")) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--text", ""], "empty"),
        (["--tokens", "1,900"], "0 to 64"),
        (["--text", "ä"], "not in the model's alphabet"),
        (["--text", "a" * 41], "longer than the model's context"),
        (["--with", "head_score"], "head_scores (nearest)"),
        (["--with", "attention_maps:layer=7"], "0 to 1"),
    ],
)
def test_bad_input_is_one_message_and_writes_nothing(folder, tmp_path, capsys, arguments, says):
    assert main(["examine", str(folder), *arguments, "--out", str(tmp_path)]) == 1
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_and_an_absent_one_are_named(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "absent"):
        assert main(["examine", str(tmp_path / name), "--text", "a"]) == 1
        assert str(tmp_path / name) in capsys.readouterr().err


def test_settings_of_an_instrument_follow_a_colon():
    assert instrument_of("attention_maps:layer=1,head=0") == AttentionMaps(layer=1, head=0)
    told = instrument_of("patching:corrupted=Once, upon a time,noise=[1,2],metric=kl")
    assert told == Patching(corrupted="Once, upon a time", noise=(1, 2), metric="kl")
    with pytest.raises(InvalidInput, match="name=value"):
        instrument_of("attention_maps:layer")
    with pytest.raises(UnknownName):
        instrument_of("attention")


def test_a_run_brings_its_main_model_with_alphabet_and_world(tmp_path):
    run = finished_run(tmp_path)
    stored_main_model(tmp_path)
    for source in (run.path, str(run.path), run.path.name):
        subject = gw.load(source, device="cpu", out=tmp_path)
        assert subject.origin.name == f"birth-{run.path.name[:8]}"
        assert subject.world == Bigram(length=32)
        assert subject.to_string(subject.to_tokens("To be")) == "To be"


def test_a_run_of_several_seeds_says_which_model_was_taken(tmp_path, capsys):
    birth = BIRTH.replaced("seeds", [3, 4])
    run = finished_run(tmp_path, birth)
    stored_main_model(tmp_path, birth)
    told = "main/3, seed 3 (this run has seeds 3, 4)"
    arguments = ["examine", str(run.path), "--tokens", "1,2,3,1", "--with", "head_scores", "--device", "cpu"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert told in " ".join(printed.split())
    assert told in Path(printed.splitlines()[-1]).read_text()
    assert str(gw.load(run.path, device="cpu").origin.taken) == told


@pytest.mark.slow
def test_another_seed_is_kept_apart(folder, tmp_path):
    for seed in ("0", "1"):
        arguments = ["examine", str(folder), "--tokens", "1,2,3", "--with", "head_scores", "--seed", seed]
        assert main([*arguments, "--out", str(tmp_path)]) == 0
    assert len(os.listdir(tmp_path / "examinations")) == 2


def test_an_examination_shows_and_saves_itself(tmp_path):
    subject = gw.load(planted_model(WORLD))
    from glassworks.instruments import HeadScores

    found = gw.examine(subject, [1, 2, 3, 1, 2, 3], instruments=[HeadScores()])
    assert found.fidelity.holds
    assert "<svg" in found._repr_html_()
    assert set(found.to_pandas()["metric"]) == {"head_scores"}
    assert found.plot("head_scores").name == "head-scores"
    assert found.save(tmp_path / "x.html").read_text().startswith("<!doctype html>")
    assert found.save(tmp_path / "x.parquet").is_file()
    with pytest.raises(InvalidInput):
        found.save(tmp_path / "x.docx")


def test_without_a_world_what_cannot_be_read_is_left_out_with_its_reason():
    found = gw.examine(gw.load(planted_model(WORLD)), [1, 2, 3, 1, 2])
    assert "bigram world" in str(found.skipped["memory_recall"])
    assert {"head_scores", "attention_maps", "logit_lens"} <= set(found.readings)
    assert any(name.startswith("attention_L") for name in found.readings)
    assert any("memory_recall" in limit.en for limit in found.page().limits)


@pytest.mark.slow
def test_a_model_of_ours_is_examined_in_bfloat16(folder, tmp_path, capsys):
    assert main(["examine", str(folder), "--dtype", "bfloat16", "--json", "--out", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "memory_recall" in found["readings"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--tokens", "9" * 23), "outside the vocabulary"),
        (("--device", "cpu:99999999999999"), "no device"),
        (("--device", "cuda:abc"), "unknown device"),
        (("--device", "cpu:7"), "no device"),
    ],
)
def test_numbers_beyond_a_machine_are_refused_in_words(folder, tmp_path, capsys, words, told):
    assert main(["examine", str(folder), *words, "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().err
    assert told in printed
    assert "unexpected" not in printed


def test_a_seed_of_any_size_draws_a_sequence(folder, tmp_path, capsys):
    words = ["--seed", "9" * 29, "--with", "repeated_tokens", "--json", "--out", str(tmp_path)]
    assert main(["examine", str(folder), *words]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == int("9" * 29)


def test_an_output_that_is_not_finite_names_the_weight(tmp_path, capsys):
    model = planted_model(WORLD)
    model.get_submodule("model.layers.1.self_attn.o_proj").weight.data.fill_(float("nan"))
    model.save_pretrained(tmp_path / "model")
    assert main(["examine", str(tmp_path / "model"), "--tokens", "1,2,3", "--out", str(tmp_path)]) == 1
    assert "model.layers.1.self_attn.o_proj.weight holds NaN or infinity" in capsys.readouterr().err
