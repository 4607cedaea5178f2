"""The help in the browser: parts, search over all of them, keys, both languages."""

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow
Open = Callable[..., Any]


def test_the_question_mark_opens_the_keys(browser_page: Open) -> None:
    page = browser_page("/perceptron")
    page.keyboard.press("?")
    page.get_by_role("heading", name="Keys").wait_for()
    assert page.url.endswith("/help#part=keys")


def test_one_search_looks_through_every_part(browser_page: Open) -> None:
    page = browser_page("/help")
    page.get_by_role("searchbox").fill("induction")
    page.get_by_text("looks at what followed an earlier occurrence").wait_for()
    page.get_by_role("searchbox").fill("pickle")
    page.get_by_text("never from pickle").wait_for()
    page.get_by_role("searchbox").fill("zzz")
    page.get_by_text("Nothing in the lists has these words.").wait_for()


def test_chinese_terms_show_their_english_word_and_both_are_found(browser_page: Open) -> None:
    page = browser_page("/help#part=glossary", lang="zh")
    page.get_by_text("归纳头").first.wait_for()
    page.get_by_role("searchbox").fill("residual")
    page.get_by_text("残差流").first.wait_for()


def test_the_folder_and_the_licences_are_those_of_this_machine(browser_page: Open, studio: Any) -> None:
    page = browser_page("/help#part=about")
    page.get_by_text(str(studio.out)).wait_for()
    page.get_by_role("cell", name="Apache-2.0").first.wait_for(timeout=90_000)


@pytest.mark.parametrize("part", ["start", "keys", "glossary", "limits", "about"])
def test_every_part_fits_a_phone(browser_page: Open, part: str) -> None:
    page = browser_page(f"/help#part={part}", width=390, height=844, dark=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
