"""What the site has beside the written pages: turned links, readable tables, a reference that leaves nothing out."""

import dataclasses
import re

import pytest

from tests.docs.pages import PAGES, ROOT, links, named
from website import commands, llms, outside, search, specs, tables, words


def test_a_link_leads_to_where_the_site_has_its_target():
    text = "[a](../../src/glassworks/mixers/README.md) [b](../examples/04_a_mixer_of_your_own.py#top) [c](../errors)"
    turned = outside.followed(text, "guide/06-add-a-mixer-task-instrument.md")
    assert turned == "[a](../rooms/mixers.md) [b](../examples/04_a_mixer_of_your_own.md#top) [c](../errors/README.md)"


def test_links_of_a_page_from_elsewhere_are_read_from_its_own_folder():
    assert outside.followed("[a](docs/glossary.md) [b](LICENSE)", "zh.md") == "[a](glossary.md) [b](licence.md)"


def test_what_looks_like_a_link_in_code_stays_as_it_is():
    text = "`f[0](README.md)`\n```python\nmade[0](README.md)\n```\n"
    assert outside.followed(text, "zh.md") == text


@pytest.mark.parametrize("page", [p for p in PAGES if p.is_relative_to(ROOT / "docs")], ids=named)
def test_every_link_of_a_page_has_a_place_on_the_site(page):
    """The build says so too, half a minute later."""
    place = page.relative_to(ROOT / "docs").as_posix()
    turned = outside.followed(page.read_text(encoding="utf-8"), place)
    stray = [target for target in links(turned) if re.search(r"\.(py|ipynb|cff)$|(^|/)(README\.md|LICENSE)$", target)]
    assert [target for target in stray if not target.endswith(("decisions/README.md", "errors/README.md"))] == [], place


def test_a_pipe_in_the_code_of_a_table_is_shown_without_its_escape():
    assert tables.readable("| `a \\| b` | c \\| d |") == "| `a | b` | c \\| d |"


def test_a_list_behind_a_paragraph_begins_a_block_of_its_own():
    assert (
        tables.readable("Three things:\n- one\n- two\n  more of two") == "Three things:\n\n- one\n- two\n  more of two"
    )
    assert tables.readable("```sh\nx\n- y\n```") == "```sh\nx\n- y\n```"


def test_chinese_is_cut_between_characters_and_nothing_else_is():
    assert search.spaced("a 归纳头 b") == "a \u200b归\u200b纳\u200b头\u200b b"
    assert search.spaced("induction head") == "induction head"


def test_the_first_sentence_of_a_page_passes_over_its_title_and_sources():
    text = "# Title\n\nDescribes: `src/x.py`\n\n| a |\n\nAt the **end** you have [this](x.md). And that.\n"
    assert llms.first_sentence(text) == "At the end you have this."


def test_signs_that_mean_something_in_markdown_are_shown_as_they_are():
    assert words.escaped("sum_j <b> | *x* `k_j | v`") == "sum\\_j &lt;b> &#124; \\*x\\* `k_j | v`"


def test_every_option_of_every_verb_is_in_the_reference():
    pages = commands.pages()
    for verb in commands.verbs():
        page = pages[f"reference/commands/{verb.name}.md"]
        rows = re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)
        assert len(rows) == len(dataclasses.fields(verb.options)), verb.name
    assert "`-v, --verbose`" in pages["reference/commands/claims.md"]
    assert "| `--device NAME` | `auto` |" in pages["reference/commands/train.md"]


def test_every_kind_and_field_of_every_shelf_is_in_the_reference():
    from glassworks.catalog import SHELVES

    pages = specs.pages()
    for room, shelf in SHELVES.items():
        page = pages[f"reference/specs/{room}.md"]
        for spec in shelf:
            section = page.split(f"{{#{spec.__name__.lower()}}}")[1].split("\n## ")[0]
            fields = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
            assert fields == set(spec.model_fields) - {"kind"}, spec.__name__


def test_what_stands_inside_a_spec_is_told_of_and_linked():
    pages = specs.pages()
    assert "](parts.md#transformerspec)" in pages["reference/specs/training.md"]
    assert "{#transformerspec}" in pages["reference/specs/parts.md"]
    for place, page in pages.items():
        for there, anchor in re.findall(r"\]\(([\w.]*)#(\w+)\)", page):
            target = pages[f"reference/specs/{there}"] if there else page
            assert f"{{#{anchor}}}" in target, f"{place}: {there}#{anchor}"
