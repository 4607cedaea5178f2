import json
import shlex
import sys
from pathlib import Path

import pandas as pd
import pytest

import glassworks as gw
from glassworks.cli.main import main
from glassworks.surgery import sweep as sweep_module
from tests.cli.test_main import run_without
from tests.surgery.letters import lettered, lettered_folder, perplexity


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a finished sweep."""
    folder = tmp_path_factory.mktemp("sweeps")
    lettered_folder(folder / "letters")
    return folder


def words(place: Path, *more: str) -> list[str]:
    benchmark = perplexity(place)
    return ["sweep", str(place / "letters"), "--plans", "skip,reverse", "--eval", benchmark, "--out", str(place), *more]


@pytest.fixture(scope="module")
def finished(place) -> dict:
    import contextlib
    import io

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(words(place, "--json")) == 0
    return json.loads(printed.getvalue())


def test_json_tells_what_was_asked_and_done_and_where_it_lies(finished):
    assert finished["plans"] == 5
    # Five layers: the whole model, skip and reverse at two starts; the whole model once more, to compare with.
    assert (finished["asked"], finished["done"]) == (5 + 3 + 1 + 5 + 5, 5 + 1 + 1 + 1 + 2 + 1 + 3 + 4)
    rows = pd.read_parquet(finished["rows"])
    assert set(rows["strategy"]) == {"full", "skip", "reverse"}
    page = Path(finished["report"]).read_text()
    assert "glassworks" in page
    assert {path.suffix for path in (Path(finished["run"]) / "figures").iterdir()} == {".svg", ".png"}


def test_a_dry_run_lists_the_plans_and_writes_nothing(place, tmp_path, capsys):
    assert main([*words(place, "--dry-run"), "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "0..1 3..2 4" in printed
    assert "about" in printed
    assert main([*words(place, "--dry-run", "--json"), "--out", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["plans"] == len(found["list"]) == 5
    assert list(tmp_path.iterdir()) == []


def test_for_people_the_last_line_is_the_report(place, finished, capsys):
    assert main(words(place)) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == finished["report"]
    assert "asked 19 layer runs" in printed
    assert "skip the middle" in printed


@pytest.mark.slow
def test_ctrl_c_prints_the_command_that_goes_on(place, tmp_path, capsys, monkeypatch):
    arguments = [*words(place), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["glassworks", *arguments])
    score = sweep_module.score_piece
    calls: list[int] = []

    def scored(*given):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score(*given)

    monkeypatch.setattr(sweep_module, "score_piece", scored)
    pieces = ["--tokens-per-piece", "48"]
    assert main([*arguments, *pieces]) == 130
    assert shlex.join(["glassworks", *arguments]) in capsys.readouterr().err
    assert main([*arguments, *pieces]) == 0
    assert len(calls) == 2 + 3, "what was scored is not scored again"


def test_runs_lists_shows_verifies_and_deletes_a_sweep_without_torch(place, finished, tmp_path, capsys):
    done = run_without("torch,transformers,matplotlib,pandas", "runs", "--out", str(place), "--json")
    [row] = json.loads(done.stdout)["runs"]
    assert (row["experiment"], row["scale"], row["finished"]) == ("sweep", "letters", True)
    assert row["studies"] == ["ppl_letters"]
    assert main(["runs", "show", "sweep", "--out", str(place)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == finished["report"]
    assert main(["runs", "verify", "--out", str(place)]) == 0
    assert main(["export", finished["run"], "--to", "csv", "--out", str(tmp_path / "x")]) == 0
    assert (tmp_path / "x" / "rows.csv").is_file()
    assert main(["export", finished["run"], "--to", "hf"]) == 1
    capsys.readouterr()
    assert main(["runs", "delete", finished["run"], "--yes"]) == 0
    assert not Path(finished["run"]).exists()
    assert main(["runs", "show", "sweep", "--out", str(place)]) == 1
    assert "glassworks sweep MODEL" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--plans", "skipp"], "skip (nearest)"),
        (["--plans", "looped:loop=[2]"], "loops (nearest)"),
        (["--plans", "skip:starts=[7]"], "starts 0 to 1"),
        (["--eval", "ppl:windw=3"], "window (nearest)"),
        (["--limit", "0"], "limit"),
        (["--seeds", "0"], "seeds"),
        (["--protect", "9"], "no layer 9"),
        (["--stack", "encoder"], "unknown stack"),
        (["--tokens-per-piece", "0"], "at least one token"),
    ],
)
def test_bad_input_is_one_message_and_writes_nothing(place, tmp_path, capsys, more, says):
    assert main([*words(place), *more, "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_from_python_a_sweep_returns_what_shows_itself(tmp_path, capsys):
    found = gw.sweep(
        lettered(), "skip,looped:loops=[1,2]", evals=perplexity(tmp_path), out=tmp_path, protect="auto", progress=False
    )
    assert "sink" in capsys.readouterr().err
    assert len(found.to_pandas()) == len(found.rows)
    assert "<svg" in found._repr_html_()
    assert found.report.is_file()
    assert found.plot("loops").name == "loops"
    with pytest.raises(gw.errors.UnknownName):
        found.plot("loop")
