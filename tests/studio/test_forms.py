"""Forms: what is filled in is understood by the specs themselves, and the command line means the same."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glassworks.core.errors import GlassworksError
from glassworks.core.spec import typed_value
from glassworks.studio.forms.chinese import tables
from glassworks.studio.forms.presets import presets
from glassworks.studio.forms.understanding import understood
from glassworks.studio.forms.verbs import schema_of, verbs
from glassworks.studio.forms.words import settings_of, word_of
from glassworks.studio.questions.desk import Desk, Places
from glassworks.studio.questions.forms import CheckForm, Form


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(Places(tmp_path))


@pytest.mark.parametrize(
    "value", [3, 0.5, True, None, "gelu", "12", "null", " a ", "", "a=b", [1, 2], {"kind": "x"}, "真"]
)
def test_a_word_is_read_back_as_the_value(value: object) -> None:
    assert typed_value(word_of(value)) == value


def test_what_a_path_leads_into_is_said_before() -> None:
    assert settings_of({"model.mixers.0.x": 1, "model.mixers": ["a"], "steps": 2}) == [
        "steps=2",
        'model.mixers=["a"]',
        "model.mixers.0.x=1",
    ]


@pytest.mark.parametrize("verb", [one["verb"] for one in verbs()])
def test_every_verb_has_a_form_whose_first_fields_exist(verb: str) -> None:
    about = next((one["about"] for one in verbs() if one["verb"] == verb and one["about"]), [{"id": ""}])
    schema, first = schema_of(verb, about[0]["id"])
    root: dict[str, Any] = schema["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    for path in first:
        assert path.partition(".")[0] in root["properties"], path


def test_a_training_means_the_same_to_the_form_and_to_the_command_line(desk: Desk) -> None:
    from glassworks.cli.options import Train, read
    from glassworks.training.recipes import read_settings, training_of

    choices = {"model.mixers": ["softmax", "mesa"], "model.width": 32, "steps": 7, "optimiser": "sgd", "clip": None}
    found = understood("train", "bigram", choices, desk)
    command = read(list(found.words))
    assert isinstance(command, Train)
    assert training_of(command.task, read_settings(command.settings)) == found.spec
    assert command.out == str(desk.places.out)
    assert found.facts["steps"] == 7
    assert found.facts["digest"] == found.spec.digest()


def test_a_stage_means_the_same_to_the_form_and_to_the_command_line(desk: Desk, tmp_path: Path) -> None:
    from glassworks.cli.options import Train, read
    from glassworks.training.stages.recipes import stage_of

    text = tmp_path / "a text.txt"
    text.write_text("words and words")
    found = understood("pretrain", "", {"data": [str(text)], "steps": 3, "model.width": 32, "model.heads": 2}, desk)
    command = read(list(found.words))
    assert isinstance(command, Train)
    assert stage_of(command.task, command.settings) == found.spec


def test_an_experiment_means_the_same_to_the_form_and_to_the_command_line(desk: Desk) -> None:
    from glassworks.cli.options import Reproduce, read
    from glassworks.cli.reproduce import order_of

    found = understood("reproduce", "birth", {"scale": "smoke", "studies": ["main"], "width": 16, "seeds": [3]}, desk)
    command = read(list(found.words))
    assert isinstance(command, Reproduce)
    order = order_of(command)
    assert order.experiment == found.spec
    assert order.only == ("main",)


def test_texts_that_look_like_options_stay_texts(desk: Desk) -> None:
    from glassworks.cli.options import Examine, read

    found = understood("examine", "", {"model": "somewhere", "text": "--out /etc; rm"}, desk)
    command = read(list(found.words))
    assert isinstance(command, Examine)
    assert (command.text, command.out) == ("--out /etc; rm", str(desk.places.out))


@pytest.mark.parametrize(
    ("verb", "about", "choices", "path"),
    [
        ("train", "bigram", {"model.width": -3}, "model.width"),
        ("train", "bigram", {"model.widht": 3}, "model.widht"),
        ("train", "bigram", {"model.width": 30, "model.heads": 7}, "model"),
        ("pretrain", "", {"rate": -1}, "rate"),
        ("reproduce", "birth", {"width": 1}, "width"),
    ],
)
def test_what_is_wrong_is_said_with_its_path(
    desk: Desk, verb: str, about: str, choices: dict[str, Any], path: str
) -> None:
    found = CheckForm(verb=verb, about=about, choices=choices).answer(desk)
    assert found["problem"]["path"] == path
    assert found["problem"]["what"]


@pytest.mark.parametrize(
    ("verb", "about", "choices"),
    [
        ("examine", "", {"model": "--trust-remote-code"}),
        ("sweep", "", {"model": "-h"}),
        ("examine", "", {"model": "somewhere", "text": "a\0b"}),
        ("train", "--help", {}),
        ("train", "bigram", {"--out": "/etc"}),
        ("reproduce", "birth", {"--out": "/etc"}),
    ],
)
def test_nothing_that_was_typed_becomes_an_option(desk: Desk, verb: str, about: str, choices: dict[str, Any]) -> None:
    with pytest.raises(GlassworksError):
        understood(verb, about, choices, desk)


@pytest.mark.parametrize("verb", ["sft", "reward", "dpo", "ppo", "examine", "sweep", "nothing"])
def test_what_is_missing_is_said_before_a_process_is_started(desk: Desk, verb: str) -> None:
    with pytest.raises(GlassworksError):
        understood(verb, "", {}, desk)


def test_the_looks_that_a_form_offers_are_those_of_the_command() -> None:
    from glassworks.cli.looks import LOOKS

    schema, _ = schema_of("train", "bigram")
    assert schema["$defs"]["TrainingSpec"]["properties"]["probe"]["enum"] == list(LOOKS)


def _fields(schema: Any) -> Iterator[tuple[str, str]]:
    if isinstance(schema, list):
        for one in schema:
            yield from _fields(one)
    if isinstance(schema, dict):
        for name, field in schema.get("properties", {}).items():
            yield name, field.get("description", "")
        for value in schema.values():
            yield from _fields(value)


def test_every_field_of_every_form_has_its_chinese_and_no_chinese_is_left_over() -> None:
    names, helps = tables()
    found = {
        field
        for one in verbs()
        for about in (one["about"] if one["verb"] == "reproduce" else one["about"][:1]) or [{"id": ""}]
        for field in _fields(schema_of(one["verb"], about["id"])[0])
        if field[0] != "kind"
    }
    assert {name for name, _ in found} == set(names)
    assert {text for _, text in found if text} == set(helps)


def test_a_form_names_the_mixers_that_there_are(desk: Desk) -> None:
    found = Form(verb="train", about="bigram").answer(desk)
    assert {"softmax", "mesa", "linear"} <= set(found["mixers"])


@pytest.mark.slow
def test_every_preset_is_understood(desk: Desk) -> None:
    here = presets(desk)
    assert {"induction", "letters", "mesa", "tokenizer", "pretrain", "birth"} <= {one.identifier for one in here}
    for one in here:
        assert understood(one.verb, one.about, one.choices, desk).words, one.identifier
