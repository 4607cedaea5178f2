"""Every sentence has its Chinese: the source is read, so that a forgotten one fails here."""

import ast
import json
import string
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest

import glassworks
from glassworks.core.text import Text, chinese_catalogue, choose_language, current_language, say

SOURCE = Path(glassworks.__file__).parent
CATALOGUE = SOURCE / "core" / "locales" / "zh"
# Written for people too, but the one place that builds Texts from what others gave.
_DEFINING = SOURCE / "core" / "text.py"


@cache
def _calls(path: Path) -> tuple[tuple[ast.Call, str], ...]:
    """Read once for all tests of this file: parsing the whole source takes seconds."""
    return tuple(
        (node, f"{path.relative_to(SOURCE)}:{node.lineno}")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("say", "Text")
    )


def _sources() -> list[Path]:
    return [path for path in sorted(SOURCE.rglob("*.py")) if path != _DEFINING]


def _templates() -> dict[str, str]:
    """Template to the place of its first use."""
    found: dict[str, str] = {}
    for path in _sources():
        for call, place in _calls(path):
            match call.args:
                case [ast.Constant(value=str(template)), *_]:
                    found.setdefault(template, place)
                case _:
                    pass
    return found


def _placeholders(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def test_every_template_is_a_literal() -> None:
    computed = [
        place
        for path in _sources()
        for call, place in _calls(path)
        if not (call.args and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str))
    ]
    assert computed == [], f"say() needs a literal template, or no translation can be found: {computed}"


def test_every_template_has_a_chinese_translation() -> None:
    templates = _templates()
    assert len(templates) > 50, "the walk over the source found hardly any sentence"
    known = chinese_catalogue()
    missing = {template: place for template, place in templates.items() if not known.get(template, "").strip()}
    assert missing == {}, "\n".join(f"{place}: {template!r}" for template, place in missing.items())


def test_translations_fill_the_same_placeholders() -> None:
    different = {
        english: chinese
        for english, chinese in chinese_catalogue().items()
        if _placeholders(english) != _placeholders(chinese)
    }
    assert different == {}


def test_every_value_given_to_say_has_its_placeholder_and_the_reverse() -> None:
    wrong: list[str] = []
    for path in _sources():
        for call, place in _calls(path):
            if isinstance(call.func, ast.Name) and call.func.id == "say" and isinstance(call.args[0], ast.Constant):
                given = {keyword.arg for keyword in call.keywords}
                if None not in given and given != _placeholders(str(call.args[0].value)):
                    wrong.append(f"{place}: {call.args[0].value!r} is given {sorted(map(str, given))}")
    assert wrong == []


def test_no_translation_outlives_its_sentence() -> None:
    stale = sorted(set(chinese_catalogue()) - set(_templates()))
    assert stale == [], f"in the catalogue, in no code: {stale}"


def test_each_catalogue_file_names_a_room_and_repeats_no_key() -> None:
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir()} | {p.stem for p in SOURCE.glob("*.py")}
    for path in sorted(CATALOGUE.glob("*.json")):
        assert path.stem in rooms, f"{path.name} belongs to no room"
        pairs: list[str] = []
        json.loads(
            path.read_text(encoding="utf-8"),
            object_pairs_hook=lambda found, seen=pairs: seen.extend(k for k, _ in found),
        )
        assert len(pairs) == len(set(pairs)), f"{path.name} holds a key twice"


def test_two_rooms_that_share_a_sentence_translate_it_alike() -> None:
    seen: dict[str, str] = {}
    for path in sorted(CATALOGUE.glob("*.json")):
        for english, chinese in json.loads(path.read_text(encoding="utf-8")).items():
            assert seen.setdefault(english, chinese) == chinese, f"{english!r} differs in {path.name}"


def test_the_catalogue_travels_with_the_package() -> None:
    assert files("glassworks.core").joinpath("locales", "zh", "core.json").is_file()


def test_a_text_inside_a_text_follows_the_language() -> None:
    outer = say("unknown {what}: {given}", what=say("missing"), given="x")
    assert outer.en == "unknown missing: x"
    assert outer.zh == chinese_catalogue()["unknown {what}: {given}"].format(
        what=chinese_catalogue()["missing"], given="x"
    )


def test_values_with_braces_are_shown_and_never_filled() -> None:
    assert say("unknown {what}: {given}", what="{given}", given="{0.__class__}").en == "unknown {given}: {0.__class__}"


def test_a_text_survives_json_with_its_nested_texts() -> None:
    text = say("{path} of {spec}: {reason}", path="a", spec="B", reason=say("missing"))
    again = Text.from_json(json.loads(json.dumps(text.to_json())))
    assert (again.en, again.zh) == (text.en, text.zh)
    assert Text.from_json("plain words").en == "plain words"


def test_the_language_is_chosen_by_call_then_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import contextvars

    def scenario() -> None:
        monkeypatch.setenv("GLASSWORKS_LANG", "zh_CN.UTF-8")
        assert current_language() == "zh"
        assert str(say("missing")) == say("missing").zh != "missing"
        choose_language("en")
        assert current_language() == "en"
        assert str(say("missing")) == "missing"

    contextvars.copy_context().run(scenario)
