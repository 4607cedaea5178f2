import json

import numpy as np
import pytest

import glassworks as gw
from glassworks.cli.main import main
from glassworks.cli.plan import amount, bytes_words, count_words, nearest_preset
from glassworks.core.errors import InvalidInput, NotFound
from glassworks.core.runs import RunFolder
from glassworks.core.text import say
from glassworks.evidence.claims import Scale
from glassworks.evidence.measurements import Measurement, save_measurements
from glassworks.experiments.scaling.laws import BESIROGLU, HOFFMANN, NUMBERS
from glassworks.experiments.scaling.measure_families import FIT, LAW_NUMBERS
from glassworks.experiments.scaling.spec import Scaling


def scaling_run(out, scale: str = "laptop") -> RunFolder:
    """A run of the scaling study with a fitted law, as far as a plan reads it."""
    experiment = Scaling.at(Scale(scale))
    run = RunFolder.create(out / "runs", "scaling", experiment)
    numbers = [1.0, 108.0, 470.0, 0.5, 0.5, 0.5, 0.5]
    law = Measurement(
        "scaling_law",
        say("law"),
        np.array([numbers]),
        ("draw", "number"),
        {"draw": (FIT,), "number": LAW_NUMBERS},
        "bits",
    )
    save_measurements(run.path, [law])
    return run


def planned(capsys, *arguments: str) -> dict:
    assert main(["plan", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["plan"]


def test_a_budget_is_split_under_both_published_laws(capsys, tmp_path):
    found = planned(capsys, "--flops", "1e21", "--out", str(tmp_path))
    assert set(found["laws"]) == {"hoffmann", "besiroglu"}
    best = found["laws"]["hoffmann"]["best"]
    assert best["parameters"] == pytest.approx(HOFFMANN.best_parameters(1e21))
    assert best["operations"] == pytest.approx(1e21)
    assert found["constants"] == "besiroglu"
    assert found["best"]["parameters"] == pytest.approx(BESIROGLU.best_parameters(1e21))
    assert found["running"] is None
    assert found["nearest_preset"]["parameters"] > 0


def test_sizes_and_data_are_judged_and_machines_counted(capsys, tmp_path):
    arguments = ("--parameters", "70B", "--tokens", "2T", "--gpu", "A100", "--gpus", "6000", "--utilisation", "0.43")
    found = planned(capsys, *arguments, "--inference-tokens", "10T", "--out", str(tmp_path))
    assert found["cost"]["days"] == pytest.approx(12, rel=0.02)
    assert found["cost"]["file_bytes"] == 140e9
    assert found["chosen"]["loss"] == pytest.approx(BESIROGLU.loss(70e9, 2e12))
    assert 0 < found["running"]["saved"] < 1


def test_a_law_of_our_own_is_taken_from_the_newest_run(capsys, tmp_path):
    scaling_run(tmp_path)
    found = planned(capsys, "--flops", "1e12", "--constants", "ours", "--out", str(tmp_path))
    assert found["best"]["unit"] == "bits per byte"
    assert found["best"]["parameters"] == pytest.approx(108 / 470 * (1e12 / 6) ** 0.5)
    assert found["nearest_preset"] is None
    assert any("bytes" in note for note in found["notes"])
    assert NUMBERS[0] == "E"


def test_a_smoke_run_gives_no_law_and_its_absence_is_said(tmp_path):
    scaling_run(tmp_path, "smoke")
    with pytest.raises(NotFound) as caught:
        gw.plan(flops=1e12, constants="ours", out=tmp_path)
    assert caught.value.next_command == "glassworks reproduce scaling"


def test_the_table_names_laws_and_costs(capsys, tmp_path):
    scaling_run(tmp_path)
    assert (
        main(["plan", "--gpu-hours", "10k", "--parameters", "1e9", "--inference-tokens", "1T", "--out", str(tmp_path)])
        == 0
    )
    shown = capsys.readouterr().out
    for words in (
        "Hoffmann et al. 2022",
        "Besiroglu et al. 2024",
        "ours",
        "planned: 1B parameters",
        "h100",
        "2 GB",
        "1T",
    ):
        assert words in shown


@pytest.mark.parametrize(
    ("given", "meant"),
    [("7e9", 7e9), ("7B", 7e9), ("1.4T", 1.4e12), ("330k", 330e3), ("70_000", 7e4), ("2,000", 2e3), (5, 5)],
)
def test_amounts_are_read_as_people_write_them(given, meant):
    assert amount(given, "tokens") == pytest.approx(meant)


@pytest.mark.parametrize("given", ["", "seven", "7X", "1.2.3", "-4", "nan"])
def test_other_words_are_no_amounts(given):
    with pytest.raises(InvalidInput):
        amount(given, "tokens")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--flops", "1e20", "--gpu-hours", "3"],
        ["--flops", "0"],
        ["--flops", "1e20", "--gpu", "abacus"],
        ["--flops", "many"],
    ],
)
def test_what_cannot_be_planned_ends_with_one_message(arguments, capsys, tmp_path):
    assert main(["plan", *arguments, "--out", str(tmp_path)]) == 1
    assert "error" in capsys.readouterr().err


def test_the_nearest_architecture_is_the_nearest_by_ratio():
    assert nearest_preset(6.75e9)[0] == "llama-7b"
    assert nearest_preset(7.25e9)[0] == "mistral-7b"


def test_counts_are_said_in_words():
    assert [count_words(n) for n in (12.0, 330e3, 7e9, 1.4e12)] == ["12", "330k", "7B", "1.4T"]
    assert [bytes_words(n) for n in (12, 140e9, 10e12, 2e15)] == ["12 B", "140 GB", "10 TB", "2 PB"]
