"""The frame around every page: languages, colours, keys, phone width, no words left in the other language."""

import re
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow
PAGES = ("", "perceptron", "playground", "walk", "examine", "surgery", "train", "results", "tree", "runs", "help")


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("lang", [pytest.param("en", marks=pytest.mark.nightly), "zh"])
def test_every_page_fits_a_phone(browser_page: Callable[..., Any], path: str, lang: str) -> None:
    page = browser_page(f"/{path}", width=390, height=844, lang=lang)
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, f"{path} in {lang} scrolls sideways"
    assert page.evaluate("document.documentElement.lang") == ("zh-CN" if lang == "zh" else "en")


def test_the_token_leaves_the_address(browser_page: Callable[..., Any]) -> None:
    page = browser_page("/help#part=keys")
    assert "token" not in page.url
    assert page.url.endswith("#part=keys")


def test_keys_go_from_page_to_page(browser_page: Callable[..., Any]) -> None:
    page = browser_page("/")
    page.keyboard.press("g")
    page.keyboard.press("t")
    page.wait_for_url(re.compile("/train"))
    page.go_back()
    page.wait_for_url(re.compile(r"/(\?lang=en)?$"))
    assert page.get_by_role("link", name="Home", exact=True).get_attribute("aria-current") == "page"


def test_language_and_colours_are_kept(browser_page: Callable[..., Any]) -> None:
    page = browser_page("/help")
    page.get_by_label("Language").select_option("zh")
    page.get_by_label("配色").select_option("dark")
    page.goto(page.url.partition("?")[0])
    page.get_by_role("navigation", name="页面").wait_for()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 21, 27)"
