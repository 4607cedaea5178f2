import json

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
    assert "damaged" in capsys.readouterr().out


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
