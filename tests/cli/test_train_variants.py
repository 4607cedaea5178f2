"""Varied trainings: what may be typed, and what comes of it."""

import json
import math

import numpy as np
import pandas as pd
import pytest

import glassworks as gw
from glassworks.cli.main import main
from glassworks.cli.options_train import Train, settings_first
from glassworks.cli.train_variants import variants_of
from glassworks.core.errors import InvalidInput, InvalidSpec, UnknownName
from glassworks.evidence.statistics import interval_over_seeds
from glassworks.experiments.variants import Row, combinations, groups_of, read_varied, table_of

SMALL = ("steps=4", "length=16", "width=16", "batch=4")


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("seed=0,1,2", ["0", "1", "2"]),
        ("seed=3..5", ["3", "4", "5"]),
        ("rate=0.001", ["0.001"]),
        ("mixer=softmax,mesa", ["softmax", "mesa"]),
        ('mixer=["softmax,mesa","mesa"]', ["softmax,mesa", "mesa"]),
        ("optimiser.betas=[[0.9,0.99],[0.8,0.9]]", ["[0.9, 0.99]", "[0.8, 0.9]"]),
    ],
)
def test_values_are_words_a_range_or_a_json_list(word, values):
    assert read_varied([word]) == {word.partition("=")[0]: values}


@pytest.mark.parametrize(
    "words", [["seed"], ["seed="], ["=1,2"], ["seed=1,1"], ["seed=1", "seed=2"], ["seed=0..99999"]]
)
def test_what_names_no_values_is_refused(words):
    with pytest.raises(InvalidInput):
        read_varied(words)


def test_every_combination_is_there_and_too_many_are_refused():
    assert combinations({"a": ["1", "2"], "b": ["x", "y"]}) == [("1", "x"), ("1", "y"), ("2", "x"), ("2", "y")]
    with pytest.raises(InvalidInput, match="1000000"):
        combinations({name: [str(n) for n in range(100)] for name in "abc"})


def test_options_of_variation_take_their_words_wherever_they_stand():
    typed = ["train", "--vary", "seed=0,1", "bigram", "--executor", "local:2", "steps=4"]
    assert settings_first(typed) == ["train", "bigram", "steps=4", "--vary", "seed=0,1", "--executor", "local:2"]


def test_a_group_is_the_mean_over_seeds_with_its_interval():
    losses = {("0", "a"): 1.0, ("1", "a"): 2.0, ("0", "b"): 3.0, ("1", "b"): math.nan}
    rows = [Row(values, "-", {"loss": None if math.isnan(loss) else loss}) for values, loss in losses.items()]
    first, second = groups_of(("seed", "name"), rows)
    assert (first.values, first.loss) == (("a",), interval_over_seeds(np.array([1.0, 2.0])))
    assert (second.loss.mean, second.loss.count) == (3.0, 1)
    assert groups_of(("name",), [Row(("a",), "-", {})]) == []
    assert list(table_of(("seed", "name"), rows).columns) == ["seed", "name", "loss", "digest", "folder", "error"]


@pytest.mark.parametrize(
    ("varied", "error"),
    [
        ({"widht": ["1"]}, InvalidSpec),
        ({"mixer": ["softmax", "mesq"]}, UnknownName),
        ({"steps": ["8"]}, InvalidInput),
    ],
)
def test_an_impossible_combination_is_named_before_anything_is_trained(varied, error):
    with pytest.raises(error):
        variants_of(Train("bigram", SMALL), varied)


def test_several_processes_for_one_training_are_another_thing(capsys, monkeypatch):
    assert main(["train", "bigram", "--vary", "seed=0,1", "--launch", "2"]) == 1
    assert "--executor local:4" in capsys.readouterr().err
    # Under torchrun every process would begin all of them.
    for name, value in {"RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert main(["train", "bigram", "--vary", "seed=0,1"]) == 1
    assert "--executor local:4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "option", "words"),
    [
        ("bigram", "--start", "--start belongs to a stage"),
        ("bigram", "--preset", "--preset belongs to a stage"),
        ("tokenizer", "--track", "told to no tracker"),
    ],
)
def test_options_that_would_be_passed_over_are_refused(capsys, task, option, words):
    assert main(["train", task, "--vary", "seed=0,1", option, "trackio"]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_all_combinations_by_two_processes_equal_those_of_one_and_are_found_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = ["train", "bigram", *SMALL, "--vary", "seed=0,1", "--vary", "mixer=softmax,linear", "--json"]
    assert main([*words, "--out", str(tmp_path / "here")]) == 0
    here = json.loads(capsys.readouterr().out)
    assert main([*words, "--out", str(tmp_path / "local"), "--executor", "local:2"]) == 0
    local = json.loads(capsys.readouterr().out)

    def numbers(found):
        return [
            (row["values"], row["digest"], row["facts"]["loss"], row["facts"]["parameters"]) for row in found["rows"]
        ]

    assert numbers(here) == numbers(local)
    assert here["groups"] == local["groups"]
    assert [group["seeds"] for group in local["groups"]] == [2, 2]
    table = pd.read_csv(local["table"])
    assert list(table["loss"]) == [row["facts"]["loss"] for row in local["rows"]]
    assert main([*words, "--out", str(tmp_path / "local")]) == 0
    assert numbers(json.loads(capsys.readouterr().out)) == numbers(local)
    assert main(["runs", "verify", "--out", str(tmp_path / "local")]) == 0
    assert main(["runs", "show", "variants", "--out", str(tmp_path / "local")]) == 0
    assert "bigram" in capsys.readouterr().out


@pytest.mark.slow
def test_one_that_diverges_leaves_its_reason_and_the_others_are_finished(tmp_path, capsys):
    words = ["train", "bigram", *SMALL, "--vary", "rate=0.001,1e30", "--out", str(tmp_path)]
    assert main([*words, "--json"]) == 1
    printed = capsys.readouterr()
    good, bad = json.loads(printed.out)["rows"]
    assert good["error"] is None
    assert good["facts"]["loss"] > 0
    assert bad["facts"] == {}
    assert "NaN" in bad["error"] or "inf" in bad["error"]
    assert "1 of 2 jobs failed; rate=1e30" in printed.err


@pytest.mark.slow
def test_from_python_the_rows_are_a_table(tmp_path):
    found = gw.vary("bigram", {"seed": [0, 1]}, out=tmp_path, progress=False, steps=4, length=16, width=16, batch=4)
    assert list(found.rows["seed"]) == ["0", "1"]
    assert found.groups[0].loss.count == 2


@pytest.mark.slow
def test_a_stage_varies_with_its_data_and_choices(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on a mat. " * 400)
    words = ["train", "tokenizer", str(text), "--vary", "vocabulary=300,320", "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len({row["folder"] for row in rows}) == 2
    assert all(row["facts"]["characters_per_token"] > 1 for row in rows)
