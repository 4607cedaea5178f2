"""The surgery page in a browser: cards by keys, pointer and touch, plan text both ways, scores beside, plans kept."""

import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from glassworks.surgery import Plan
from tests.studio.test_surgery_questions import random_plan

pytestmark = pytest.mark.slow

DEPTH = 2
PLACE = "/surgery#model=bundled/duet"


@pytest.fixture
def opened(browser_page: Callable[..., Any]) -> Callable[..., Any]:
    def open_page(plan: str = "", **how: Any) -> Any:
        page = browser_page(f"{PLACE}&plan={plan}" if plan else PLACE, **how)
        page.get_by_role("tree").wait_for(timeout=90_000)
        return page

    return open_page


def becomes(page: Any, plan: str) -> None:
    """Waits until the plan is so: what was clicked is drawn a moment later."""
    for _ in range(50):
        if plan_of(page) == plan:
            return
        page.wait_for_timeout(100)
    assert plan_of(page) == plan


def plan_of(page: Any) -> str:
    return str(page.locator("textarea.mono").input_value())


def card(page: Any, number: int) -> Any:
    found = page.locator("li.layer", has=page.locator(".number", has_text=str(number))).first
    found.scroll_into_view_if_needed()
    return found


def scored(page: Any) -> None:
    """Waits until what is shown is about the present plan."""
    page.locator(".results .numbers").wait_for(timeout=90_000)
    page.wait_for_function("() => !document.querySelector('.results [aria-busy=true]')", timeout=90_000)


def test_everything_can_be_done_with_keys_alone(opened: Callable[..., Any]) -> None:
    page = opened()
    assert plan_of(page) == "0..1"
    card(page, 0).focus()
    page.keyboard.press("Alt+ArrowDown")
    assert plan_of(page) == "1..0"
    assert page.evaluate("document.activeElement.querySelector('.number').textContent") == "0"
    page.keyboard.press("u")
    assert plan_of(page) == "0..1"
    page.keyboard.press("r")
    assert plan_of(page) == "1..0"
    page.keyboard.press("u")
    page.keyboard.press("d")
    assert Plan.parse(plan_of(page)) == Plan.parse("0x2 1")
    page.keyboard.press("Delete")
    assert plan_of(page) == "0..1"
    page.keyboard.press("Home")
    page.keyboard.press("Shift+ArrowDown")
    assert page.locator("[aria-selected=true]").count() == 2
    page.keyboard.press("p")
    assert plan_of(page) == "(0 | 1)"
    page.keyboard.press("l")
    page.keyboard.press("l")
    assert plan_of(page) == "(0 | 1)x3"
    assert "plan=(0%20|%201)x3" in page.url
    page.keyboard.press("Shift+L")
    page.keyboard.press("Shift+P")
    page.keyboard.press("Shift+P")
    assert plan_of(page) == "0..1"
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    assert plan_of(page) == "0..1"
    assert page.get_by_text("A plan needs at least one layer.").is_visible()


def test_a_card_is_dragged_behind_and_beside_another(opened: Callable[..., Any]) -> None:
    page = opened()

    def drag(number: int, target: int, across: float, down: float) -> None:
        page.get_by_role("tree").scroll_into_view_if_needed()
        start, end = card(page, number).bounding_box(), card(page, target).bounding_box()
        page.mouse.move(start["x"] + 50, start["y"] + start["height"] / 2)
        page.mouse.down()
        page.mouse.move(start["x"] + 60, start["y"] + start["height"] / 2 + 8, steps=3)
        page.mouse.move(end["x"] + across * end["width"], end["y"] + down * end["height"], steps=6)
        page.mouse.up()

    # Numbers that come in move the cards: a hand waits until they lie still.
    scored(page)
    page.wait_for_timeout(1500)
    drag(0, 1, 0.3, 0.9)
    becomes(page, "1..0")
    page.wait_for_timeout(1500)
    drag(1, 0, 0.9, 0.5)
    becomes(page, "(0 | 1)")
    start = card(page, 0).bounding_box()
    page.mouse.move(start["x"] + 10, start["y"] + 10)
    page.mouse.down()
    page.mouse.move(start["x"] + 200, start["y"] + 90, steps=5)
    page.keyboard.press("Escape")
    page.mouse.up()
    assert plan_of(page) == "(0 | 1)"


def test_text_becomes_cards_and_a_mistake_is_shown_at_its_place(opened: Callable[..., Any]) -> None:
    page = opened()
    field = page.locator("textarea.mono")
    field.fill("0 7")
    page.get_by_text("this model has no layer 7").wait_for()
    assert page.locator("mark").inner_text() == "7"
    assert page.locator("[role=treeitem]").count() == 2
    field.fill("0 (0 | 1)x2 1")
    page.wait_for_function("() => document.querySelectorAll('[role=treeitem]').length === 6")
    assert re.search(r"plan=0%20\(0%20\|%201\)x2%201", page.url)


def test_what_the_cards_print_is_the_plan_that_was_given(opened: Callable[..., Any]) -> None:
    page = opened()
    chance = random.Random(5)
    for _ in range(40):
        text = random_plan(chance, DEPTH)
        page.evaluate("(plan) => { location.hash = `#model=bundled/duet&plan=${encodeURIComponent(plan)}` }", text)
        for _ in range(50):
            page.wait_for_timeout(100)
            if Plan.parse(plan_of(page), DEPTH) == Plan.parse(text, DEPTH):
                break
        else:
            pytest.fail(f"{text!r} became {plan_of(page)!r}")


def test_scores_follow_the_plan_and_are_kept_in_the_table(opened: Callable[..., Any]) -> None:
    page = opened()
    scored(page)
    whole = page.locator(".big").first.inner_text()
    assert page.locator(".big").nth(1).inner_text() == whole
    card(page, 1).focus()
    page.keyboard.press("d")
    scored(page)
    page.wait_for_function(
        "(whole) => document.querySelectorAll('.big')[1].textContent !== whole", arg=whole, timeout=60_000
    )
    assert page.locator(".big").first.inner_text() == whole
    assert page.locator(".plan", has_text="0 1x2").or_(page.locator(".plan", has_text="0..1 1")).count() == 1
    page.get_by_text("They part at token").or_(page.get_by_text("Both write the same")).wait_for(timeout=60_000)
    page.reload()
    page.get_by_role("tree").wait_for(timeout=90_000)
    for _ in range(50):
        if Plan.parse(plan_of(page)) == Plan.parse("0 1x2"):
            break
        page.wait_for_timeout(100)
    assert Plan.parse(plan_of(page)) == Plan.parse("0 1x2")
    page.get_by_role("button", name="0..1", exact=True).click()
    becomes(page, "0..1")


def test_presets_make_their_plans_and_all_sizes_are_tried_at_once(opened: Callable[..., Any]) -> None:
    page = opened()
    scored(page)
    page.get_by_role("button", name="skip the middle").click()
    page.wait_for_function("() => document.querySelector('textarea.mono').value === '0'")
    page.get_by_role("button", name="Bring layer 1 back").wait_for()
    page.get_by_role("button", name="Bring layer 1 back").click()
    assert plan_of(page) == "0..1"
    scored(page)
    page.get_by_role("button", name="Try every size of all of them").click()
    page.locator(".under", has_text="skip the middle").wait_for(timeout=60_000)


def test_a_plan_is_kept_and_its_commands_are_shown(opened: Callable[..., Any], studio: Any) -> None:
    page = opened("1..0")
    page.get_by_label("Name").fill("backwards")
    page.get_by_role("button", name="Save the plan").click()
    page.get_by_text("backwards.json").wait_for(timeout=60_000)
    assert (studio.out / "plans" / "backwards.json").is_file()
    page.get_by_text("Open in the command line").click()
    page.locator("code", has_text="glassworks surgery").wait_for()
    assert "--plan 1..0" in page.locator("code", has_text="glassworks surgery").inner_text()
    page.get_by_role("button", name="Reset").click()
    becomes(page, "0..1")
    scored(page)
    page.get_by_role("button", name="backwards", exact=True).click()
    becomes(page, "1..0")


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_on_a_phone_nothing_is_cut_off_and_taps_do_what_dragging_does(opened: Callable[..., Any], lang: str) -> None:
    page = opened(width=390, height=844, lang=lang)
    scored(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    card(page, 0).click()
    page.get_by_role("toolbar").get_by_role("button").nth(1).click()
    assert plan_of(page) == "1..0"
    assert page.locator(".summary").is_visible()
