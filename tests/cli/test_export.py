import csv
import json

import pytest
from transformers import AutoModelForCausalLM

from glassworks.cli.main import main
from glassworks.core.runs import RunFolder
from tests.cli.folders import BIRTH, finished_run, stored_main_model


def exported(capsys, run, kind, out) -> list[str]:
    assert main(["export", str(run.path), "--to", kind, "--out", str(out), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["files"]


@pytest.mark.parametrize(("kind", "name"), [("html", "report.html"), ("svg", "wide.light.svg"), ("png", "wide.png")])
def test_a_report_and_figures_are_copied(tmp_path, capsys, kind, name):
    files = exported(capsys, finished_run(tmp_path), kind, tmp_path / "there")
    assert files == [str(tmp_path / "there" / name)]
    assert (tmp_path / "there" / name).is_file()


def test_tables_are_tidy_and_verdicts_come_along(tmp_path, capsys):
    exported(capsys, finished_run(tmp_path), "csv", tmp_path / "there")
    rows = list(csv.DictReader((tmp_path / "there" / "wide.csv").read_text().splitlines()))
    assert [(row["seed"], row["value"], row["unit"]) for row in rows] == [
        ("0", "0.5", "fraction"),
        ("1", "0.7", "fraction"),
    ]
    verdicts = list(csv.DictReader((tmp_path / "there" / "verdicts.csv").read_text().splitlines()))
    assert len(verdicts) == len(BIRTH.claims)


def test_a_trained_model_leaves_as_a_hugging_face_folder_with_its_card(tmp_path, capsys):
    run = finished_run(tmp_path)
    stored_main_model(tmp_path)
    (folder,) = exported(capsys, run, "hf", tmp_path / "there")
    card = (tmp_path / "there" / "main-0" / "README.md").read_text()
    assert "| accuracy/in_context | 0.25 |" in card
    assert "Birth of a Transformer" in card
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.vocab_size == 65
    assert not (tmp_path / "there" / "main-0" / "done.json").exists()


@pytest.mark.parametrize("kind", ["html", "csv", "svg", "png", "hf"])
def test_an_unfinished_run_says_how_to_finish_it(tmp_path, capsys, kind):
    run = RunFolder.create(tmp_path / "runs", "birth", BIRTH)
    assert main(["export", str(run.path), "--to", kind, "--out", str(tmp_path / "there")]) == 1
    assert f"glassworks reproduce birth --resume {run.path}" in capsys.readouterr().err
    assert not (tmp_path / "there").exists()


def test_a_full_place_is_named(tmp_path, capsys):
    run = finished_run(tmp_path)
    (tmp_path / "file").write_text("in the way")
    assert main(["export", str(run.path), "--to", "html", "--out", str(tmp_path / "file")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_a_folder_with_something_else_is_not_overwritten(tmp_path, capsys):
    run = finished_run(tmp_path)
    stored_main_model(tmp_path)
    foreign = tmp_path / "there" / "main-0"
    foreign.mkdir(parents=True)
    (foreign / "config.json").write_text("mine")
    assert main(["export", str(run.path), "--to", "hf", "--out", str(tmp_path / "there")]) == 1
    assert "holds something else" in capsys.readouterr().err
    assert (foreign / "config.json").read_text() == "mine"
    assert [path.name for path in foreign.iterdir()] == ["config.json"]


def test_an_export_of_the_same_model_is_renewed_unless_something_was_added(tmp_path, capsys):
    run = finished_run(tmp_path)
    stored_main_model(tmp_path)
    (folder,) = exported(capsys, run, "hf", tmp_path / "there")
    card = tmp_path / "there" / "main-0" / "README.md"
    card.write_text("stale")
    assert exported(capsys, run, "hf", tmp_path / "there") == [folder]
    assert card.read_text() != "stale"
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["main-0"]
    (card.parent / "notes.txt").write_text("mine")
    assert main(["export", str(run.path), "--to", "hf", "--out", str(tmp_path / "there")]) == 1
    assert "notes.txt" in capsys.readouterr().err
