import json

import pytest

from glassworks.cli.main import main
from glassworks.experiments import EXPERIMENTS, Birth
from tests.cli.folders import BIRTH, finished_run
from tests.cli.test_main import run_without


def claims_of(capsys, *arguments: str) -> list[dict]:
    assert main(["claims", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["claims"]


def test_claims_never_judged_stand_in_the_list_as_not_run_yet(tmp_path, capsys):
    rows = claims_of(capsys, "--out", str(tmp_path))
    assert [row["claim"] for row in rows] == [claim.key for experiment in EXPERIMENTS for claim in experiment.claims]
    assert {row["verdict"] for row in rows} == {"UNDECIDED"}
    assert {row["because"] for row in rows} == {"not run yet"}
    assert {row["command"] for row in rows} == {f"glassworks reproduce {kind}" for kind in EXPERIMENTS.kinds}
    assert all(isinstance(row["says"], str) and row["value"] is None and row["seeds"] == [] for row in rows)


def test_a_judged_claim_shows_its_run_and_the_command_that_makes_it_again(tmp_path, capsys):
    run = finished_run(tmp_path)
    row = claims_of(capsys, "--out", str(tmp_path))[0]
    assert row["run"] == str(run.path)
    assert row["command"] == "glassworks reproduce birth --scale smoke --only width"
    assert "not measured in this run" in row["because"]


def test_a_decided_verdict_is_kept_when_a_newer_run_decides_nothing(tmp_path, capsys):
    older = finished_run(tmp_path)
    verdicts = older.read_json("verdicts.json")
    verdicts[0] |= {"verdict": "HOLDS", "value": 0.5, "interval": [0.4, 0.6], "count": 3, "seeds": [0, 1, 2]}
    older.write_json("verdicts.json", verdicts)
    newer = finished_run(tmp_path, BIRTH.replaced("steps", 13))
    rows = claims_of(capsys, "--out", str(tmp_path))
    assert (rows[0]["verdict"], rows[0]["run"]) == ("HOLDS", str(older.path))
    assert rows[0]["interval"] == [0.4, 0.6]
    assert rows[1]["run"] == str(newer.path)


@pytest.mark.parametrize("how", ["birth", "--run"])
def test_check_judges_again_from_the_folder_without_torch(tmp_path, how):
    run = finished_run(tmp_path)
    run.write_json("verdicts.json", [])
    chosen = ["birth"] if how == "birth" else ["--run", str(run.path)]
    done = run_without(
        "torch,transformers,matplotlib,pandas", "claims", "check", *chosen, "--out", str(tmp_path), "--json"
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["claims"]) == len(Birth.claims)
    assert len(run.read_json("verdicts.json")) == len(Birth.claims)
    assert run.verify() == []


def test_check_refuses_what_it_cannot_judge(tmp_path, capsys):
    assert main(["claims", "check", "--out", str(tmp_path)]) == 1
    assert main(["claims", "check", "brith", "--out", str(tmp_path)]) == 1
    assert "birth (nearest)" in capsys.readouterr().err
    run = finished_run(tmp_path)
    (run.path / "measurements.npz").write_bytes(b"PK")
    assert main(["claims", "check", "birth", "--out", str(tmp_path)]) == 1
    assert "measurements.npz is damaged" in capsys.readouterr().err


def test_the_list_for_people_names_every_claim_and_counts_them(tmp_path, capsys):
    finished_run(tmp_path)
    assert main(["claims", "birth", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert all(claim.key in printed for claim in Birth.claims)
    assert f"undecided: {len(Birth.claims)}" in printed


@pytest.mark.parametrize("action", [["birth"], ["check", "birth"]])
def test_the_table_has_one_line_a_claim_and_sentences_only_when_asked(tmp_path, capsys, action):
    run = finished_run(tmp_path)
    verdicts = run.read_json("verdicts.json")
    long = {"value": -0.001234, "interval": [-0.002345, 0.004567], "unit": "nats per token", "count": 3}
    run.write_json("verdicts.json", [row | long | {"seeds": [0, 1, 2, 3, 14]} for row in verdicts])
    says = " ".join(Birth.claims[0].says.en.split()[:2])
    assert main(["claims", *action, "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.strip().startswith("birth.") for line in lines) == len(Birth.claims)
    table = lines[: next(i for i, line in enumerate(lines) if line.startswith("holds: "))]
    assert max(len(line) for line in table[1:]) <= 100
    assert says not in "\n".join(lines)
    if action == ["birth"]:
        assert "-0.00123 [-0.00234, 0.00457] nats" in "\n".join(lines)
        assert "0, 1, …, 14" in "\n".join(lines)
    assert main(["claims", *action, "-v", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert says in printed
    assert "not measured in this run" in printed


def test_sentences_follow_the_chosen_language(tmp_path, capsys):
    rows = claims_of(capsys, "--out", str(tmp_path), "--lang", "zh")
    from glassworks.core.text import choose_language

    choose_language("en")
    assert {row["because"] for row in rows} == {"尚未运行"}
