"""What a person or a page may send in words: plans, settings, specs, prompts, options. Each is taken, or refused in words."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glassworks.anatomy import Alphabet
from glassworks.core.errors import GlassworksError, InvalidInput
from glassworks.core.spec import typed_value
from glassworks.evidence.claims import Scale
from glassworks.experiments import Birth
from glassworks.surgery.grammar import parse
from glassworks.surgery.plan_files import read_plan
from glassworks.training.recipes import read_settings
from tests.hostile.doors import knock, ready, steering

BIRTH = Birth.at(Scale.SMOKE)
FEW = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ODD = st.sampled_from(
    [
        "",
        "\0",
        "\ud83d",
        "\x1b[2J",
        "\u202e",
        "٣",
        "²",
        "0" * 5000,
        "9" * 5000,
        "1e999",
        "NaN",
        "-0",
        "[" * 3000,
        "../x",
        "=1+1",
    ]
)
TEXT = st.text(st.characters(), max_size=30) | ODD
PLAN = st.text(st.sampled_from("0123456789.. ()[]|x*,;-–…×eE٣²meansu▁\n"), max_size=40) | TEXT
VALUE: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
PATH = st.sampled_from(sorted(BIRTH.to_json())) | st.lists(TEXT, max_size=3).map(".".join)


def told(problem: GlassworksError) -> None:
    """An error says something, in both languages, and can be printed, sent and kept."""
    assert str(problem).strip()
    assert problem.what.zh


def check_plan(text: str) -> None:
    for depth in (2, None):
        try:
            assert parse(text, depth)
        except InvalidInput as problem:
            told(problem)


def check_setting(path: str, text: str) -> None:
    try:
        changed = BIRTH.replaced_from_text(f"{path}={text}")
    except GlassworksError as problem:
        told(problem)
    else:
        assert Birth.parse(json.loads(json.dumps(changed.to_json()))) == changed
        assert len(changed.digest()) == 16


def check_spec(found: object) -> None:
    try:
        Birth.parse(found)
    except GlassworksError as problem:
        told(problem)


def check_recipe(words: list[str]) -> None:
    try:
        read_settings(words)
    except GlassworksError as problem:
        told(problem)


@FEW
@given(PLAN)
def test_any_plan_is_read_or_refused(text: str) -> None:
    check_plan(text)


@FEW
@given(PATH, TEXT | VALUE.map(lambda value: json.dumps(value, default=str)))
def test_any_setting_is_taken_or_refused(path: str, text: str) -> None:
    check_setting(path, text)


@FEW
@given(VALUE | st.dictionaries(PATH, VALUE, max_size=4).map(lambda found: BIRTH.to_json() | found))
def test_any_spec_is_taken_or_refused(found: object) -> None:
    check_spec(found)


@FEW
@given(st.lists(st.tuples(PATH | st.sampled_from(["mixer", "depth", "steps", "seed"]), TEXT).map("=".join), max_size=3))
def test_any_training_is_taken_or_refused(words: list[str]) -> None:
    check_recipe(words)


@FEW
@given(TEXT)
def test_any_character_outside_an_alphabet_is_named(text: str) -> None:
    try:
        assert Alphabet(tuple("ab")).decode(Alphabet(tuple("ab")).encode(text)) == text
    except InvalidInput as problem:
        told(problem)


@pytest.mark.parametrize("text", ["9" * 10_000, "[" * 100_000, "1e99999", '"\\ud83d"', "NaN", "Infinity"])
def test_a_value_without_end_stays_the_text_that_it_is_or_a_plain_value(text: str) -> None:
    assert typed_value(text) is not None


def test_a_plan_file_is_a_file(tmp_path: Any) -> None:
    for name, content in (
        ("a.json", b"[" * 99_999),
        ("a.yml", b"\xff"),
        ("b.json", b'{"plan": 5}'),
        ("b.yml", b"&a [*a]"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(GlassworksError) as caught:
            read_plan(str(tmp_path / name), 2)
        told(caught.value)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize(
    ("strategy", "check"),
    [
        (PLAN, check_plan),
        (st.tuples(PATH, TEXT), lambda pair: check_setting(*pair)),
        (st.dictionaries(PATH, VALUE, max_size=6).map(lambda found: BIRTH.to_json() | found), check_spec),
        (st.lists(st.tuples(PATH, TEXT).map("=".join), max_size=4), check_recipe),
    ],
    ids=["plans", "settings", "specs", "trainings"],
)
def test_thousands_of_texts_are_taken_or_refused(strategy: Any, check: Any) -> None:
    MANY(given(strategy)(check))()


VERBS = (
    "claims",
    "plan",
    "presets",
    "tree",
    "runs",
    "models",
    "train",
    "export",
    "sweep",
    "surgery",
)
OPTIONS = (
    "--out", "--json", "--lang", "--set", "--seed", "--scale", "--only", "--plan", "--tokens", "--prompt", "--run", "--yes",
    "--flops", "--gpus", "--branch", "--text", "--limit", "--eval", "--plans", "--seeds", "--to", "--model", "--dry-run",
)  # fmt: skip
TYPED = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "",
        "-",
        "--",
        "=",
        "9" * 400,
        "-1",
        "1e999",
        "nan",
        "../..",
        "/dev/zero",
        "\x1b]0;x\x07",
        "\u202e",
        "a=b=c",
        "@x",
        "zh",
    ]
)


@pytest.mark.nightly
@pytest.mark.slow
def test_every_command_answers_whatever_is_typed(tmp_path: Any) -> None:
    ready()

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.sampled_from(VERBS), st.lists(st.sampled_from(OPTIONS) | TYPED, max_size=4))
    def check(verb: str, words: list[str]) -> None:
        found = knock(verb, *words, "--out", tmp_path / "out", seconds=20)
        # A long text of its own may have begun: what counts is that nothing broke.
        assert found.trouble in ("", "it hangs"), (verb, words, found)
        assert steering(found.err) == ""

    check()
