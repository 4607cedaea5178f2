"""The Python on the pages can be run: what is short is, and what is long names only what exists."""

import ast
import inspect
import re
from importlib import import_module

import pytest

from tests.docs.pages import PAGES, named

SHOWN = [
    (page, number, code)
    for page in PAGES
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))
]  # fmt: skip
# Page -> (what stands in front of its first block, words that are replaced so that it takes seconds).
RUN = {
    "docs/guide/09-train-a-model.md": ("", {"steps=500": "steps=3"}),
    "docs/guide/13-the-family.md": ("", {}),
    "docs/guide/15-fine-tune-and-reward.md": ("", {}),
}


def test_there_is_python_on_the_pages():
    assert len(SHOWN) >= 15
    assert set(RUN) <= {named(page) for page, _, _ in SHOWN}


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: f"{named(shown[0])}-{shown[1]}")
def test_python_of_a_page_names_what_exists_and_calls_it_as_it_can_be_called(shown):
    import glassworks as gw

    tree = ast.parse(shown[2])
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.startswith("glassworks"):
                there = import_module(module)
                assert [one.name for one in names if one.name not in vars(there)] == [], module
            case ast.Call(func=ast.Attribute(value=ast.Name(id="gw"), attr=name), keywords=keywords):
                _accepts(gw.__getattr__(name), {word.arg for word in keywords if word.arg})
            case ast.Attribute(value=ast.Name(id="gw"), attr=name):
                assert name in dir(gw), name
            case _:
                pass


def _accepts(called, given: set[str]) -> None:
    """That a function takes these keywords, by name or by its own `**settings`."""
    if not inspect.isfunction(called):
        return
    known = inspect.signature(called).parameters
    if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values()):
        assert given <= set(known), called.__name__


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_python_of_a_page_runs_from_top_to_bottom(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before, replaced = RUN[name]
    names: dict[str, object] = {}
    for code in [before, *(code for page, _, code in SHOWN if named(page) == name)]:
        for words, instead in replaced.items():
            code = code.replace(words, instead)
        exec(compile(code, name, "exec"), names)
