"""What the pages name exists: links, source files, command lines, errors, skips."""

import ast
import re
from pathlib import Path

import pytest

from tests.docs.pages import GUIDE, PAGES, ROOT, commands, links, named, paths

SKIPS = ("skip", "importorskip", "skipif", "xfail")


def test_there_are_pages_to_check():
    names = {named(path) for path in PAGES}
    assert {"README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md", "AGENTS.md"} <= names
    assert len(GUIDE) >= 6


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_and_named_files_exist(page):
    text = page.read_text(encoding="utf-8")
    broken = [target for target in links(text) if not (page.parent / target.split("#")[0]).exists()]
    assert broken == []
    missing = [path for path in paths(text) if not (ROOT / path).exists()]
    assert missing == []


@pytest.mark.parametrize("page", GUIDE, ids=named)
def test_a_guide_page_says_what_it_gives_and_what_it_describes(page):
    text = page.read_text(encoding="utf-8")
    assert re.search(r"^At the end ", text, re.MULTILINE), "the page does not say what the reader will have"
    described = re.search(r"^Describes: (.+(?:\n.+)*)", text, re.MULTILINE)
    assert described is not None
    assert paths(described.group(1)), "the page lists no source file"


ALL_COMMANDS = [(named(page), words) for page in PAGES for words in commands(page.read_text(encoding="utf-8"))]


def test_the_pages_show_every_verb():
    shown = {words[0] for _, words in ALL_COMMANDS if words}
    assert {"doctor", "reproduce", "claims", "examine", "runs", "export"} <= shown


def _read(words):
    """The command, or None where help was asked for; fails where it cannot be typed."""
    from glassworks.cli import options

    try:
        return options.read(words)
    except SystemExit as left:
        return None if left.code == 0 else pytest.fail("it cannot be read")


@pytest.mark.parametrize(("page", "words"), ALL_COMMANDS, ids=lambda v: v if isinstance(v, str) else " ".join(v))
def test_a_command_line_of_the_pages_can_be_typed(page, words):
    from glassworks.cli import options
    from glassworks.cli.examine import instrument_of
    from glassworks.cli.reproduce import order_of
    from glassworks.experiments.run import chosen_studies

    if words == ["--version"]:
        return
    # A verb alone is a mention of it, whatever it needs to run.
    match _read([*words, "--help"] if len(words) == 1 and words[0] != "--help" else words):
        case options.Reproduce(resume=None) as command:
            order = order_of(command)
            chosen_studies(order.experiment, order.only)
        case options.Examine(instrument=named_instruments):
            for name in named_instruments:
                instrument_of(name)
        case _:
            pass


def test_every_error_class_has_its_page():
    from glassworks.core import errors

    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.GlassworksError)]
    index = (ROOT / "docs" / "errors" / "README.md").read_text(encoding="utf-8")
    for kind in kinds:
        file = re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower() + ".md"
        page = ROOT / "docs" / "errors" / file
        assert page.is_file(), f"docs/errors/{file} is missing"
        assert f"({file})" in index, f"docs/errors/README.md does not list {file}"
        text = page.read_text(encoding="utf-8")
        assert all(f"**{part}.**" in text for part in ("Symptom", "Cause", "Fix")), file


def _skips(path: Path) -> set[str]:
    """The calls and marks of a test file that skip something."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in SKIPS}


def test_every_skip_has_a_row_with_the_condition_that_removes_it():
    table = (ROOT / "tests" / "SKIPPED.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE))
    skipping = {named(path) for path in (ROOT / "tests").rglob("*.py") if _skips(path) & set(SKIPS)}
    assert skipping == listed


def test_decisions_are_numbered_without_gaps():
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 9


def test_the_changelog_has_short_lines_under_unreleased():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[?(\w[\w.]*)", text, re.MULTILINE)
    assert headings[0] == "Unreleased"
    entries = re.findall(r"^- (.+(?:\n  .+)*)", text, re.MULTILINE)
    assert entries
    assert [entry for entry in entries if len(entry.split()) >= 25] == []
