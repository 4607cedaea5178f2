"""What `train` looks at while a model learns changes none of its numbers; whoever watches from outside hears the same."""

import json
from pathlib import Path

import pytest
import torch

from glassworks.cli.looks import HeadLook, Writing, look_of
from glassworks.cli.main import main
from glassworks.core.errors import UnknownName
from glassworks.core.events import EventLog, Sampled, read_events
from glassworks.training.building import build_untrained
from glassworks.training.recipes import read_settings, training_of
from glassworks.training.spec import TrainingSpec

WORDS = ["steps=6", "batch=2", "length=16", "width=16", "heads=2", "probe_every=2"]


def _spec(*words: str) -> TrainingSpec:
    return training_of("bigram", read_settings([*WORDS, *words]))


def test_an_unknown_look_is_named_with_those_that_there_are() -> None:
    with pytest.raises(UnknownName, match="inside"):
        look_of(_spec("probe=insight"), EventLog())


@pytest.mark.parametrize("mixer", ["softmax", "mesa", "linear", "softmax,infini"])
def test_heads_are_scored_whatever_the_mixer(mixer: str) -> None:
    spec = _spec("probe=inside", f"mixer={mixer}", "depth=2")
    found = HeadLook(spec)(build_untrained(spec).eval())
    assert {"induction/layer_0", "induction/layer_1", "previous_token/layer_0"} <= set(found)


def test_texts_are_told_at_the_first_row_and_are_the_same_each_time() -> None:
    spec, told = _spec(), list[Sampled]()
    events = EventLog()
    events.listen(lambda event: told.append(event) if isinstance(event, Sampled) else None)
    model = build_untrained(spec).eval()
    for _ in range(2):
        Writing(spec, events)(model)
    assert told[0].step == 0
    assert len(told[0].prompt) == 8
    assert told[0].text == told[1].text


@pytest.mark.slow
def test_looking_inside_changes_no_number_of_the_training(tmp_path: Path) -> None:
    from glassworks.training.loop import TrainingOptions, train

    plain, looked = _spec("probe=none"), _spec("probe=inside")
    found = [
        train(spec, TrainingOptions(tmp_path / name, probe=probe), EventLog())
        for spec, name, probe in ((plain, "a", None), (looked, "b", look_of(looked, EventLog())))
    ]
    torch.testing.assert_close(
        torch.tensor(found[0].history.curve("loss")), torch.tensor(found[1].history.curve("loss")), rtol=0, atol=0
    )
    assert "induction/layer_1" in found[1].history.metrics


def test_a_training_as_a_file_is_the_training_and_its_events_are_heard_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = _spec("probe=inside")
    file, heard = tmp_path / "mine.json", tmp_path / "events.jsonl"
    file.write_text(json.dumps(spec.to_json()))
    monkeypatch.setenv("GLASSWORKS_EVENTS", str(heard))
    assert main(["train", str(file), "--out", str(tmp_path), "--device", "cpu", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert Path(done["model"]).name == spec.digest()
    kinds = [event.kind for event in read_events(heard)]
    assert kinds[0] == "planned"
    assert {"training_started", "step_done", "sampled", "training_done"} <= set(kinds)
    assert training_of(str(file), {"steps": 7}).steps == 7
