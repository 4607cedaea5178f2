"""The walk-through in a browser: a text through a model, paging, a number opened and followed back, keys, phone, Chinese."""

import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow
Opened = Callable[..., Any]
WALK = "/walk#model=gallery/stories260k&text=Once%20upon%20a%20time&layer=1&head=2"


def drawn(page: Any, more_than: int = 0, seconds: float = 60) -> None:
    """Waits until the figures of a step are drawn."""
    limit = time.monotonic() + seconds
    while page.evaluate("window.__walk ? window.__walk.steps : 0") <= more_than:
        assert time.monotonic() < limit, "the figures of the step did not come"
        page.wait_for_timeout(30)


def test_a_text_goes_through_every_stage_of_a_model(browser_page: Opened) -> None:
    page = browser_page(WALK)
    drawn(page)
    for heading in (
        "The whole way",
        "Embedding",
        "Positions",
        "5 blocks",
        "Attention",
        "Feed-forward with a gate",
        "Logits and probabilities",
    ):
        assert page.get_by_role("heading", name=heading, exact=True).is_visible(), heading
    assert page.get_by_text("RMSNorm takes").count() == 2
    assert page.get_by_text("4 key-value heads").is_visible()
    assert page.locator("button[role=radio][aria-checked=true]").first.inner_text() == "␣time"
    assert page.locator("#logits tbody tr").count() >= 20


def test_keys_page_through_blocks_and_heads_and_the_address_follows(browser_page: Opened) -> None:
    page = browser_page(WALK)
    drawn(page)
    page.locator("h1").click()
    for key, part in (("]", "layer=2"), ("[", "layer=1"), (".", "head=3"), (",", "head=2")):
        page.keyboard.press(key)
        drawn(page, 1)
        assert part in page.url
    assert "layer=1" in page.url


def test_a_number_opens_to_its_formula_and_leads_back_to_the_token(browser_page: Opened) -> None:
    page = browser_page(WALK)
    drawn(page)
    page.get_by_role("button", name="Where this probability comes from").first.click()
    card = page.get_by_role("dialog", name="Where this number comes from")
    way: list[str] = []
    for _ in range(40):
        card.get_by_text("difference", exact=False).first.wait_for()
        way.append(card.locator(".site").inner_text())
        sources = card.locator(".sources button")
        if sources.count() == 0:
            break
        assert card.locator(".check").get_attribute("class").find("bad") == -1, way[-1]
        here = way[-1]
        # The first source of a sum is the stream itself, which goes straight back to the beginning.
        sources.first.click()
        while card.locator(".site").inner_text() == here:
            page.wait_for_timeout(30)
    assert way[0].startswith("probabilities")
    assert way[-1].startswith("embed"), way
    assert "number=embed" in page.url
    page.keyboard.press("Escape")
    card.wait_for(state="hidden")
    assert "number=" not in page.url


def test_a_cell_is_reached_and_opened_by_keys_alone(browser_page: Opened) -> None:
    page = browser_page(WALK)
    drawn(page)
    page.get_by_role("img", name="Attention weights of head 2").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    card = page.get_by_role("dialog", name="Where this number comes from")
    card.get_by_text("e^(s − max) / Σ e^(s − max)").wait_for()
    assert "number=layers.1.mixer.pattern" in page.url


def test_typing_reads_the_new_text(browser_page: Opened) -> None:
    page = browser_page(WALK)
    drawn(page)
    page.get_by_label("Text (Enter reads it at once)").fill("A little dog")
    page.keyboard.press("Enter")
    page.get_by_role("radio", name="␣little").or_(page.get_by_role("radio", name="ittle")).first.wait_for()
    drawn(page, 1)
    joined = page.evaluate("[...document.querySelectorAll('.stepper .token')].map((one) => one.textContent).join('')")
    assert joined.endswith("␣dog")
    assert "A%20little%20dog" in page.url


@pytest.mark.parametrize(
    ("model", "text", "said"),
    [
        ("gpt-nano-sort", "0%202%201%200%201%202", "LayerNorm takes"),
        ("bert-tiny", "The%20cat%20sat", "This model fills places in"),
        ("minilm", "The%20cat%20sat", "No next token"),
    ],
)
def test_other_families_are_told_as_what_they_are(browser_page: Opened, model: str, text: str, said: str) -> None:
    page = browser_page(f"/walk#model=gallery/{model}&text={text}&layer=0")
    drawn(page)
    page.get_by_text(said).first.wait_for()


def test_a_phone_reads_it_without_sideways_scrolling_in_chinese(browser_page: Opened) -> None:
    page = browser_page(WALK, width=390, height=844, lang="zh")
    drawn(page)
    page.get_by_role("heading", name="注意力", exact=True).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
