import json
import shlex
import shutil

import pytest

from glassworks.cli.main import main
from glassworks.core.runs import RunFolder
from tests.cli.folders import BIRTH, finished_run
from tests.cli.test_main import run_without


def asked(capsys, *arguments: str, code: int = 0) -> dict:
    assert main(["runs", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_the_list_says_what_each_run_is_and_needs_no_torch(tmp_path):
    run = finished_run(tmp_path)
    RunFolder.create(tmp_path / "runs", "birth", BIRTH.replaced("steps", 13))
    done = run_without("torch,transformers,matplotlib,pandas", "runs", "--out", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["digest"]: row for row in json.loads(done.stdout)["runs"]}
    assert rows[run.path.name]["finished"]
    assert rows[run.path.name]["studies"] == ["width"]
    assert rows[run.path.name]["verdicts"]["UNDECIDED"] > 0
    assert [row["finished"] for digest, row in rows.items() if digest != run.path.name] == [False]


def test_a_damaged_run_is_listed_as_such_and_does_not_end_the_list(tmp_path, capsys):
    finished_run(tmp_path)
    other = RunFolder.create(tmp_path / "runs", "birth", BIRTH.replaced("steps", 13))
    (other.path / "spec.json").write_text("{")
    rows = asked(capsys, "--out", str(tmp_path))["runs"]
    assert sorted(row["broken"] is None for row in rows) == [False, True]
    assert main(["runs", "--out", str(tmp_path)]) == 0
    assert "unreadable" in capsys.readouterr().out


def test_an_empty_place_says_how_to_begin(tmp_path, capsys):
    assert main(["runs", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "glassworks reproduce birth" in printed.err


def test_show_tells_settings_verdicts_and_report(tmp_path, capsys):
    run = finished_run(tmp_path)
    assert main(["runs", "show", "birth", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "width = 32" in printed
    assert printed.splitlines()[-1] == str(run.report)
    assert asked(capsys, "show", run.path.name, "--out", str(tmp_path))["spec"] == BIRTH.to_json()


def test_verify_names_what_changed_and_what_is_missing(tmp_path, capsys):
    run = finished_run(tmp_path)
    assert asked(capsys, "verify", "--out", str(tmp_path))["whole"] is True
    (run.path / "report.html").write_bytes(b"<!doctype htmX>")
    (run.path / "figures" / "wide.png").unlink()
    assert main(["runs", "verify", "birth", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "report.html: its contents changed" in printed
    assert "figures/wide.png: missing" in printed


def test_delete_needs_a_yes_and_then_removes_the_folder(tmp_path, capsys):
    run = finished_run(tmp_path)
    assert main(["runs", "delete", "birth", "--out", str(tmp_path)]) == 1
    assert "--yes" in capsys.readouterr().err
    assert run.path.is_dir()
    assert asked(capsys, "delete", run.path.name, "--yes", "--out", str(tmp_path))["deleted"] == str(run.path)
    assert not run.path.exists()


def test_a_run_that_another_process_holds_is_not_deleted(tmp_path, capsys):
    run = finished_run(tmp_path)
    with run.lock():
        assert main(["runs", "delete", "birth", "--yes", "--out", str(tmp_path)]) == 1
    assert "is working on" in capsys.readouterr().err
    assert run.path.is_dir()


@pytest.mark.parametrize("action", ["show", "delete"])
def test_an_action_without_its_run_asks_for_it(tmp_path, capsys, action):
    assert main(["runs", action, "--out", str(tmp_path)]) == 1
    assert "which run?" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["folder", "dots", "link", "renamed", "edited"])
def test_delete_removes_nothing_but_a_run_where_runs_lie(tmp_path, capsys, way):
    run = finished_run(tmp_path)
    precious = tmp_path / "precious"
    shutil.copytree(run.path, precious)
    (precious / "thesis.txt").write_text("years of work")
    given = precious
    match way:
        case "dots":
            given = tmp_path / "runs" / "birth" / ".." / ".." / "precious"
        case "link":
            given = tmp_path / "runs" / "birth" / BIRTH.replaced("steps", 13).digest()
            given.symlink_to(run.path)
        case "renamed":
            given = precious.rename(tmp_path / "runs" / "birth" / "0123456789abcdef")
        case "edited":
            given = run.path
            run.write_json("spec.json", run.header() | {"spec": BIRTH.replaced("steps", 13).to_json()})
        case _:
            pass
    assert main(["runs", "delete", str(given), "--yes", "--out", str(tmp_path)]) == 1
    assert "not where a run lies" in capsys.readouterr().err
    assert (run.path / "report.html").is_file()
    assert len(list(tmp_path.rglob("thesis.txt"))) == 1


GARBAGE = {
    "a list as settings": ("spec.json", '{"experiment": "birth", "spec": []}'),
    "deep nesting": ("spec.json", "[" * 100_000),
    "a number as verdicts": ("verdicts.json", "5"),
    "a list of numbers as verdicts": ("verdicts.json", "[5]"),
    "half a verdict": ("verdicts.json", '[{"claim": 1}]'),
    "a list as studies": ("studies.json", "[5]"),
}


@pytest.mark.parametrize(("name", "text"), GARBAGE.values(), ids=GARBAGE)
def test_one_bad_run_is_listed_as_unreadable_beside_the_good_one(tmp_path, capsys, name, text):
    good = finished_run(tmp_path)
    bad = finished_run(tmp_path, BIRTH.replaced("steps", 13))
    (bad.path / name).write_text(text)
    rows = {row["digest"]: row for row in asked(capsys, "--out", str(tmp_path))["runs"]}
    assert rows[good.path.name]["broken"] is None
    assert rows[bad.path.name]["broken"]
    assert main(["runs", "--out", str(tmp_path)]) == 0
    assert "unreadable: " in capsys.readouterr().out
    assert main(["claims", "--json", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr()
    # Settings and studies decide no verdict; broken verdicts leave the run out, and the older good one stands.
    assert ("was left out" in told.err) == (name == "verdicts.json")
    shown = {row["run"] for row in json.loads(told.out)["claims"] if row["run"] is not None}
    assert shown == {str(good.path if name == "verdicts.json" else bad.path)}


def test_a_verdict_whose_sentence_is_a_number_is_unreadable(tmp_path, capsys):
    run = finished_run(tmp_path)
    rows = run.read_json("verdicts.json")
    run.write_json("verdicts.json", [rows[0] | {"says": 5}, *rows[1:]])
    (row,) = asked(capsys, "--out", str(tmp_path))["runs"]
    assert "verdicts.json" in row["broken"]


@pytest.mark.parametrize("text", ["[]", "{}", '{"files": 5}', "{"])
def test_a_manifest_that_cannot_be_read_is_damage(tmp_path, capsys, text):
    run = finished_run(tmp_path)
    (run.path / "manifest.json").write_text(text)
    found = asked(capsys, "verify", "--out", str(tmp_path), code=1)
    assert [row["path"] for row in found["runs"][str(run.path)]] == [str(run.path / "manifest.json")]


def test_a_run_that_did_not_finish_is_not_called_damaged(tmp_path, capsys):
    run = RunFolder.create(tmp_path / "runs", "birth", BIRTH)
    assert asked(capsys, "verify", "--out", str(tmp_path))["unfinished"] == [str(run.path)]
    assert main(["runs", "verify", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "unfinished" in printed
    assert "damaged" not in printed


def test_brackets_in_a_path_are_text(tmp_path, capsys):
    run = finished_run(tmp_path / "q[/b]:smile:")
    assert main(["runs", "show", "birth", "--out", str(tmp_path / "q[/b]:smile:")]) == 0
    assert str(run.report) in capsys.readouterr().out


def test_a_suggested_command_can_be_pasted_as_it_stands(tmp_path, capsys):
    run = finished_run(tmp_path / "a b; c")
    assert main(["runs", "delete", str(run.path)]) == 1
    line = next(line for line in capsys.readouterr().err.splitlines() if "--yes" in line and "glassworks" in line)
    assert shlex.split(line.partition(": ")[2]) == ["glassworks", "runs", "delete", str(run.path), "--yes"]
