import json
from pathlib import Path

import pytest

import glassworks as gw
from glassworks.cli.compare import _show
from glassworks.cli.main import main
from glassworks.tasks import Bigram
from tests.cli.folders import planted_folder, planted_model

WORLD = Bigram(length=40, triggers=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return planted_folder(tmp_path_factory.mktemp("planted") / "head", WORLD)


@pytest.mark.slow
def test_a_model_beside_itself_is_equal_and_everything_is_written(folder, tmp_path, capsys):
    assert main(["compare", str(folder), str(folder), "--device", "cpu", "--json", "--out", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["max_abs_logit_difference"] == 0
    assert found["cka_diagonal"] == [1, 1, 1]
    assert found["weight_change"] == 0
    assert found["fidelity"]["a"]["holds"] is found["fidelity"]["b"]["holds"] is True
    assert len(found["tokens"]["a"][0]) == WORLD.length, "without a text a sequence of the known world is drawn"
    assert {Path(path).stem for path in found["figures"]} == set(found["readings"])
    assert Path(found["report"]).is_file()
    # Nothing half-written stays beside the result.
    assert [path.name for path in (tmp_path / "comparisons").iterdir()] == [Path(found["report"]).parent.name]


def test_for_people_fidelity_comes_before_findings(capsys):
    _show(gw.compare(planted_model(WORLD), planted_model(WORLD), [1, 2, 3, 1, 2, 3], device="cpu"))
    printed = capsys.readouterr().out
    assert printed.index("passed") < printed.index("Their weights are equal, bit for bit.")


@pytest.mark.parametrize(
    ("other", "words", "says"),
    [
        (None, ["--text", ""], "empty"),
        (None, ["--text", "a", "--tokens", "1"], "one prompt at a time"),
        (None, ["--tokens", "1,900"], "0 to 64"),
        ("", ["--text", "a"], "OTHER is empty"),
        ("absent", ["--text", "a"], "absent"),
    ],
)
def test_bad_input_is_one_message_and_writes_nothing(folder, tmp_path, capsys, monkeypatch, other, words, says):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", str(folder), str(folder) if other is None else other, *words]) == 1
    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []
