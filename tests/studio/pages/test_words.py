"""Tokens, word by word and what if, as a person uses them in the browser."""

import re
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow
MODEL = "gallery/stories260k"
TEXT = "Once upon a time there was a girl who saw 世界"
Open = Callable[..., Any]


@pytest.fixture
def part(browser_page: Open) -> Open:
    """Opens the walk-through at one of its parts: tokens, words or whatif."""

    def open_part(name: str, state: str = "", model: str = MODEL, text: str = TEXT, **look: Any) -> Any:
        page = browser_page(f"/walk#model={model}&text={text}{state}", **look)
        reached(page, name)
        return page

    return open_part


def reached(page: Any, name: str) -> None:
    """Scrolls to a part, which is made only then, and waits until it has something to press or to read."""
    section = page.locator(f"#{name}")
    section.wait_for(timeout=90_000)
    # What is above still grows while it is filled.
    for _ in range(90):
        section.scroll_into_view_if_needed()
        if section.locator("tbody tr, .chip").count():
            break
        page.wait_for_timeout(1000)
    section.locator("tbody tr, .chip").first.wait_for()


def words_are(page: Any, count: int) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#words .written .word")).to_have_count(count, timeout=30_000)


def words_of(page: Any) -> list[str]:
    return page.locator("#words .written .word").all_inner_texts()


def click_next(page: Any, count: int = 1) -> None:
    known = len(words_of(page))
    for number in range(count):
        page.get_by_role("button", name="Next word", exact=True).click()
        words_are(page, known + number + 1)


def test_four_tokenizers_stand_side_by_side_and_light_up_together(part: Open) -> None:
    page = part("tokens")
    rows = page.locator("#tokens section")
    assert rows.count() == 4
    own = rows.nth(0)
    chip = own.locator(".chip", has_text="世")
    assert "3 tokens together" in chip.get_attribute("aria-label")
    assert "E4 | B8 | 96" in chip.get_attribute("aria-label")
    chip.hover()
    assert page.locator("#tokens .chip.lit").count() >= 2
    assert "\ufffd" not in page.locator("#tokens").inner_text()


def test_arrow_keys_go_from_token_to_token(part: Open) -> None:
    page = part("tokens")
    page.locator("#tokens .chip").first.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert "upon" in page.evaluate("document.activeElement.getAttribute('aria-label')") or "a" in page.evaluate(
        "document.activeElement.textContent"
    )
    assert page.locator("#tokens .chip.lit").count() >= 1


def test_words_are_drawn_taken_back_and_drawn_again_by_their_seed(part: Open) -> None:
    page = part("words", "&gen_seed=4")
    click_next(page, 3)
    first = words_of(page)
    assert len(first) == 3
    page.locator("#words .written").focus()
    page.keyboard.press("Backspace")
    words_are(page, 2)
    page.keyboard.press("Space")
    words_are(page, 3)
    assert words_of(page) == first
    page.reload()
    reached(page, "words")
    words_are(page, 3)
    assert words_of(page) == first


def test_another_candidate_starts_a_new_way_and_the_old_one_is_kept(part: Open) -> None:
    page = part("words")
    click_next(page, 4)
    old = words_of(page)
    page.locator("#words .written .word").nth(1).click()
    page.locator("#words .badge", has_text="step 2").wait_for()
    chosen = page.locator("#words tbody tr:not(.chosen) button.word").first
    chosen.click()
    words_are(page, 2)
    assert words_of(page)[0] == old[0]
    assert words_of(page)[1] != old[1]
    page.get_by_label("Other ways that were tried").locator("li button").first.click()
    words_are(page, 4)
    assert words_of(page) == old


def test_a_slider_cuts_candidates_without_asking_the_model(part: Open) -> None:
    page = part("words")
    page.locator("#words tbody tr").first.wait_for()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "words_next" in request.url else None)
    assert page.locator("#words tbody tr:not(.cut)").count() == 5
    page.locator("#words").get_by_role("slider", name=re.compile("^k")).fill("2")
    assert page.locator("#words tbody tr:not(.cut)").count() == 2
    page.locator("#words").get_by_role("slider", name=re.compile("Temperature")).fill("17")
    shares = [float(one.split()[0]) for one in page.locator("#words tbody tr:not(.cut) .said").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=0.11)
    assert "gen_k=2" in page.url
    assert "gen_t=10" in page.url
    assert asked == []


def test_a_candidate_opens_to_its_formula_and_its_layers(part: Open) -> None:
    page = part("words")
    page.locator("#words tbody .more button").first.click()
    card = page.get_by_role("region", name=re.compile("How the chance of"))
    card.locator("figure svg").first.wait_for()
    assert "torch.softmax" in card.inner_text()
    page.keyboard.press("Escape")
    card.wait_for(state="detached")


def test_silencing_heads_and_skipping_layers_changes_the_next_word(part: Open) -> None:
    page = part("whatif")
    section = page.locator("#whatif")
    section.get_by_text("Nothing is changed yet").wait_for()
    section.get_by_role("button", name=re.compile("^L3H2")).click()
    section.locator(".verdict", has_text="divergence").wait_for()
    section.get_by_role("button", name=re.compile("^L1")).first.click()
    page.wait_for_url(re.compile("if_heads=L3H2.*if_skip=1"))
    # So small a model has every head measured at once.
    section.get_by_role("button", name=re.compile(r"L0H0, .* bits without it")).wait_for(timeout=60_000)
    section.get_by_role("button", name="Undo all changes").first.click()
    section.get_by_text("Nothing is changed yet").wait_for()
    assert "if_" not in page.url


def test_a_token_can_be_replaced_and_put_back(part: Open) -> None:
    page = part("whatif")
    section = page.locator("#whatif")
    section.locator(".token").nth(2).click()
    section.get_by_label(re.compile("in place of")).fill(" under")
    section.get_by_role("button", name="Replace", exact=True).click()
    section.locator(".token.other").wait_for()
    assert "if_words=2:" in page.url
    section.locator(".token.other").click()
    section.get_by_role("button", name="Put it back").click()
    section.locator(".token.other").wait_for(state="detached")


@pytest.mark.parametrize(("lang", "dark"), [("en", False), ("zh", True)])
def test_a_phone_shows_all_three_without_scrolling_sideways(part: Open, lang: str, dark: bool) -> None:
    page = part("words", "&gen_ids=44.298&if_heads=L0H0", width=390, height=844, lang=lang, dark=dark)
    page.locator("#words tbody tr").first.wait_for(timeout=60_000)
    reached(page, "whatif")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_model_of_token_ids_writes_too(part: Open) -> None:
    page = part("words", model="gallery/gpt-nano-sort", text="2 0 1 0 2 1")
    click_next(page, 2)
    assert len(words_of(page)) == 2
