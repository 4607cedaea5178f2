"""The family tree in the browser: drawing, card, built preset, comparison, filters, keys, phone."""

import re
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow
Open = Callable[..., Any]
WAIT = 90_000


def test_a_click_opens_the_card_and_builds_the_architecture(browser_page: Open) -> None:
    page = browser_page("/tree")
    page.get_by_role("button", name=re.compile("^GPT-2, 2019-02")).click(timeout=WAIT)
    page.get_by_role("heading", name="GPT-2", exact=True).wait_for()
    page.get_by_text("124,439,808 · as by formula").wait_for(timeout=WAIT)
    page.get_by_text("agrees exactly").wait_for()
    page.get_by_text("All modules, with shapes and counts").click()
    page.get_by_text("layers.0-11").wait_for()
    assert "model=GPT-2" in page.url
    assert "preset=gpt2" in page.url


def test_two_presets_stand_side_by_side(browser_page: Open) -> None:
    page = browser_page("/tree#preset=bert-base&with=t5-small")
    page.get_by_text("60,506,624 · as by formula").wait_for(timeout=WAIT)
    assert page.locator("tr.differs").count() > 3
    assert page.get_by_role("img", name=re.compile("cross_attn")).count() == 1


def test_arrow_keys_walk_along_the_branches(browser_page: Open) -> None:
    page = browser_page("/tree")
    page.get_by_role("button", name=re.compile("^GPT, 2018")).focus(timeout=WAIT)
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.name") == "GPT-2"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.name") == "GPT-3"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="GPT-2", exact=True).wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("heading", name="GPT-2", exact=True).wait_for(state="detached")


def test_filters_narrow_the_tree_and_stand_in_the_address(browser_page: Open) -> None:
    page = browser_page("/tree#view=list")
    page.get_by_label("Branch").select_option("encoder", timeout=WAIT)
    page.get_by_text("6 of 40 models").wait_for()
    page.get_by_role("searchbox", name="Search").fill("distil")
    page.get_by_text("1 of 40 models").wait_for()
    assert "branch=encoder" in page.url
    page.get_by_role("button", name="Show all").click()
    page.get_by_text("40 of 40 models").wait_for()


def test_a_phone_shows_the_list_in_chinese(browser_page: Open) -> None:
    page = browser_page("/tree", width=390, height=844, lang="zh")
    page.get_by_role("button", name=re.compile("DistilBERT")).click(timeout=WAIT)
    page.get_by_role("heading", name="DistilBERT", exact=True).wait_for()
    page.get_by_text("66,362,880 · 与公式一致").wait_for(timeout=WAIT)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
