"""The perceptron in the browser: the film, the rule, what converges and what does not, pointer and keys, the way to the playground."""

import re
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow
Open = Callable[..., Any]


def _hash(page: Any) -> dict[str, str]:
    return dict(
        part.split("=", 1) for part in page.evaluate("decodeURIComponent(location.hash.slice(1))").split("&") if part
    )


def test_the_film_is_decided_as_in_the_example(browser_page: Open) -> None:
    page = browser_page("/perceptron")
    cells = page.locator("table").first.locator("tbody tr").all_inner_texts()
    assert [("go" in row) for row in cells] == [False, False, False, False, False, True, True, True]
    page.get_by_label("equal is enough").check()
    assert sum("go" in row for row in page.locator("table").first.locator("tbody tr").all_inner_texts()) == 5
    assert _hash(page)["fe"] == "1"


def test_the_case_at_hand_follows_the_truth_table(browser_page: Open) -> None:
    page = browser_page("/perceptron#fx=0,1,1")
    page.get_by_text("we stay at home").wait_for()
    page.get_by_role("button", name="case 1 1 0: go").click()
    page.get_by_text("we go", exact=True).wait_for()
    assert page.get_by_label("the weather is good").is_checked()


def test_a_step_shows_its_numbers_and_can_be_taken_back(browser_page: Open) -> None:
    page = browser_page("/perceptron#data=and&line=0,0,0")
    page.get_by_role("button", name="Step", exact=True).click()
    page.get_by_text("Last: point 1").wait_for()
    assert _hash(page)["step"] == "1"
    page.get_by_role("button", name="Step back").click()
    page.get_by_text("Next: point 1").wait_for()


def test_it_converges_where_a_line_separates(browser_page: Open) -> None:
    page = browser_page("/perceptron")
    page.get_by_role("button", name="To the end").click()
    page.get_by_text("Converged.").wait_for()
    told = page.locator(".outcome").inner_text()
    updates = int(re.search(r"after (\d+) updates", told)[1])  # pyright: ignore[reportOptionalSubscript]
    most = int(re.search(r"from this line ([\d,]+)", told)[1].replace(",", ""))  # pyright: ignore[reportOptionalSubscript]
    assert 1 < updates <= most


def test_it_fails_on_xor_and_says_so_and_the_points_go_to_the_playground(browser_page: Open) -> None:
    page = browser_page("/perceptron#data=xor")
    page.get_by_role("button", name="To the end").click()
    page.get_by_text("It goes round for ever.").wait_for()
    page.get_by_text("No line separates these points").wait_for()
    points = page.locator("[data-point]").count()
    page.get_by_role("link", name="Take these points to the Playground").click()
    page.wait_for_url(re.compile("/playground#"))
    carried = _hash(page)
    assert carried["dataset"] == "own"
    assert len(carried["points"].split(";")) == points == 16


def test_points_are_added_moved_relabelled_and_removed_by_keys(browser_page: Open) -> None:
    page = browser_page("/perceptron#data=own&points=1,1,1;-1,-1,-1")
    page.get_by_role("button", name="Add a point").click()
    page.locator("[data-point='2']").focus()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    assert _hash(page)["points"] == "1,1,1;-1,-1,-1;1,0,-1"
    page.keyboard.press("Delete")
    assert _hash(page)["points"] == "1,1,1;-1,-1,-1"


def test_points_and_the_line_are_dragged(browser_page: Open) -> None:
    page = browser_page("/perceptron#data=own&points=1,1,1;-3,-3,-1", height=2000)
    plane = page.get_by_role("group", name=re.compile("Plane of 2 points"))
    box, point = plane.bounding_box(), page.locator("[data-point='0']").bounding_box()
    page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.25, steps=4)
    page.mouse.up()
    first, second = _hash(page)["points"].split(";")
    assert second == "-3,-3,-1"
    assert [float(value) for value in first.split(",")] == pytest.approx([3, 3, 1], abs=0.2)
    handle = page.locator("[data-handle='0']").bounding_box()
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 40, box["y"] + 200, steps=4)
    page.mouse.up()
    assert "line" in _hash(page)
    assert page.locator("[data-point]").count() == 2


def test_the_address_brings_the_state_back(browser_page: Open) -> None:
    page = browser_page("/perceptron#data=xor&rate=1&step=33&best=1")
    page.get_by_text("Last: point 1").wait_for()
    assert page.get_by_label("Learning rate").input_value() == "1"
    assert page.get_by_label("Show the best line so far").is_checked()
    assert page.locator("line.best").count() == 1


def test_a_phone_can_play_in_chinese(browser_page: Open) -> None:
    page = browser_page("/perceptron", width=390, height=844, lang="zh", dark=True)
    page.get_by_role("button", name="单步").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
