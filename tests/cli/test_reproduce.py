import json
from pathlib import Path

import pytest

from glassworks.cli import reproduce as module
from glassworks.cli.main import main
from glassworks.cli.options import Reproduce
from glassworks.cli.reproduce import order_of, resume_command, typed_command
from glassworks.core.errors import InvalidInput, InvalidSpec, NotFound, UnknownName
from glassworks.core.events import TrainingDone
from glassworks.evidence.claims import Scale, Verdict
from glassworks.experiments import Birth
from glassworks.experiments.run import Outcome
from tests.cli.folders import BIRTH, finished_run


def test_settings_come_from_scale_then_set_then_seeds():
    command = Reproduce("birth", scale="smoke", set=("width=48", "widths=[16,32]"), seed=(4, 5))
    found = order_of(command).experiment
    assert found == Birth.at(Scale.SMOKE).replaced("width", 48).replaced("widths", [16, 32]).replaced("seeds", [4, 5])
    assert order_of(Reproduce("birth")).experiment.scale is Scale.LAPTOP


@pytest.mark.parametrize(
    ("command", "problem", "nearest"),
    [
        (Reproduce("brith"), UnknownName, "birth"),
        (Reproduce("birth", scale="labtop"), UnknownName, "laptop"),
        (Reproduce("birth", set=("widht=3",)), InvalidSpec, "width"),
        (Reproduce("birth", set=("width",)), InvalidSpec, "path=value"),
        (Reproduce("birth", set=("length=1",)), InvalidSpec, "length"),
        (Reproduce("birth", set=("seeds=[]",)), InvalidSpec, "seeds"),
        (Reproduce(), InvalidInput, "birth"),
        (Reproduce("birth", resume="abcdef", out="nowhere"), NotFound, "nowhere"),
    ],
)
def test_a_wrong_word_is_named_with_the_right_one(command, problem, nearest):
    with pytest.raises(problem) as caught:
        order_of(command)
    assert nearest in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_precision_becomes_a_setting_of_the_experiment(dtype):
    assert order_of(Reproduce("birth", dtype=dtype)).experiment.to_json()["precision"] == dtype


def test_a_precision_that_the_experiment_does_not_know_is_refused():
    with pytest.raises(InvalidSpec, match="precision"):
        order_of(Reproduce("birth", dtype="float64"))


def test_a_resumed_run_keeps_its_precision(tmp_path):
    with pytest.raises(InvalidInput, match="keeps its own settings"):
        order_of(Reproduce(resume=str(finished_run(tmp_path).path), dtype="bfloat16"))


def test_resuming_takes_the_settings_of_the_run_and_its_own_place(tmp_path):
    run = finished_run(tmp_path)
    for given, out in ((str(run.path), "."), (BIRTH.digest(), str(tmp_path))):
        order = order_of(Reproduce(resume=given, out=out))
        assert order.experiment == BIRTH
        assert order.out.resolve() == tmp_path.resolve()


def test_resuming_refuses_other_settings_and_a_moved_or_edited_run(tmp_path):
    run = finished_run(tmp_path)
    with pytest.raises(InvalidInput, match="own settings"):
        order_of(Reproduce(resume=str(run.path), scale="laptop"))
    moved = run.path.rename(run.path.with_name("elsewhere"))
    with pytest.raises(InvalidInput, match="moved or edited"):
        order_of(Reproduce(resume=str(moved)))


def test_an_absent_device_is_named_before_anything_starts(tmp_path, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    assert main(["reproduce", "birth", "--scale", "smoke", "--device", "cuda", "--out", str(tmp_path)]) == 1
    assert "no device cuda" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_tells_the_command_that_goes_on(tmp_path, capsys, monkeypatch):
    def interrupted(experiment, options):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run_experiment", interrupted)
    code = main(["reproduce", "birth", "--scale", "smoke", "--only", "main", "--out", str(tmp_path)])
    printed = capsys.readouterr()
    assert code == 130
    folder = tmp_path / "runs" / "birth" / BIRTH.digest()
    assert printed.err.splitlines()[-1] == f"  glassworks reproduce birth --resume {folder} --only main"
    assert printed.out == ""


def told(tmp_path, monkeypatch, capsys, *arguments: str) -> str:
    run = finished_run(tmp_path)
    verdicts = tuple(Verdict.from_json(row) for row in run.read_json("verdicts.json"))
    monkeypatch.setattr(module, "run_experiment", lambda experiment, options: Outcome(run, verdicts, 12.3))
    assert main(["reproduce", "birth", "--scale", "smoke", "--out", str(tmp_path), *arguments]) == 0
    return capsys.readouterr().out


def test_json_is_one_object_with_plain_sentences(tmp_path, monkeypatch, capsys):
    found = json.loads(told(tmp_path, monkeypatch, capsys, "--json"))
    assert set(found) == {"run", "report", "verdicts", "seconds", "reused"}
    assert found["reused"] is False
    row = found["verdicts"][0]
    assert set(row) >= {"claim", "says", "where", "verdict", "value", "interval", "seeds"}
    assert isinstance(row["says"], str)
    assert isinstance(row["where"], str)
    assert Path(found["report"]).name == "report.html"


def test_for_people_the_report_is_the_last_line(tmp_path, monkeypatch, capsys):
    printed = told(tmp_path, monkeypatch, capsys)
    assert Path(printed.splitlines()[-1]).is_file()
    assert all(claim.key in printed for claim in Birth.claims)


def test_the_help_names_every_study_of_every_experiment(capsys):
    from glassworks.cli.options import _STUDIES
    from glassworks.experiments import EXPERIMENTS

    named = (f"{e.model_fields['kind'].default}: {', '.join(study.name for study in e.studies)}" for e in EXPERIMENTS)
    assert "; ".join(named) == _STUDIES


def test_an_unknown_study_is_answered_with_the_command_that_runs_the_nearest():
    for command, right in (
        (Reproduce("birth", scale="smoke", only=("mian",)), "glassworks reproduce birth --scale smoke --only main"),
        (Reproduce("birth", only=("qqq",)), "glassworks reproduce birth --only main"),
    ):
        with pytest.raises(UnknownName, match="study") as caught:
            order_of(command)
        assert caught.value.next_command == right
        assert set(caught.value.known) == {study.name for study in Birth.studies}
        # What is offered can be typed.
        assert main([*right.split()[1:], "--device", "nonsense"]) == 1


def trained_run(out: Path) -> None:
    finished_run(out).events.emit(TrainingDone(label="main/0", digest="d", seconds=1.0))


def test_a_finished_run_says_that_it_was_reused_and_drawn_again(tmp_path, capsys):
    trained_run(tmp_path)
    arguments = ["reproduce", "birth", "--scale", "smoke", "--only", "width", "--out", str(tmp_path)]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert "This run was finished before" in printed.err
    assert "going on" not in printed.err
    assert "reused; judged and drawn again in" in printed.out
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reused"] is True


def test_a_finished_run_says_so_from_python_too(tmp_path, capsys):
    import glassworks as gw

    trained_run(tmp_path)
    gw.reproduce("birth", scale="smoke", only=["width"], out=tmp_path)
    assert "This run was finished before" in capsys.readouterr().err
    gw.reproduce("birth", scale="smoke", only=["width"], out=tmp_path, progress=False)
    assert capsys.readouterr().err == ""


def test_commands_can_be_typed_again():
    assert typed_command(["examine", "a b", "--text", "it's"]) == """glassworks examine 'a b' --text 'it'"'"'s'"""
    order = order_of(Reproduce("birth", scale="smoke"))
    command = resume_command(Reproduce("birth", device="cpu"), order, Path("runs/birth/abc"))
    assert command == "glassworks reproduce birth --resume runs/birth/abc --device cpu"
