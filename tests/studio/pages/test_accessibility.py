"""axe-core finds no serious violation on any page, light or dark, wide or narrow; keys alone reach and use every page."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.studio.pages.test_shell import PAGES

pytestmark = pytest.mark.slow
# Those with the most to press and to read; the others nightly.
EVERY_TIME = ("", "walk", "examine", "train")
AXE = Path(__file__).parents[3] / "web/node_modules/axe-core/axe.min.js"


def violations(page: Any) -> list[str]:
    """What axe calls serious or critical, one line each."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']} ({one['impact']}): {[node['target'] for node in one['nodes']][:4]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=() if path in EVERY_TIME else pytest.mark.nightly) for path in PAGES]
)
@pytest.mark.parametrize(
    ("dark", "width", "lang"), [(False, 1440, "en"), pytest.param(True, 390, "zh", marks=pytest.mark.nightly)]
)
def test_no_serious_violation(browser_page: Callable[..., Any], path: str, dark: bool, width: int, lang: str) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed; `make pages` does it")
    page = browser_page(f"/{path}", width=width, dark=dark, lang=lang)
    # Its numbers are there.
    page.wait_for_load_state("networkidle")
    assert violations(page) == []


def test_keys_alone_reach_the_content_and_every_page(browser_page: Callable[..., Any]) -> None:
    page = browser_page("/help")
    page.keyboard.press("Tab")
    assert "content" in page.evaluate("document.activeElement.getAttribute('href')")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    for _ in range(40):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.getAttribute('href')") == "/walk":
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/walk*")
    # The focus can be seen wherever it stands.
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != ""
