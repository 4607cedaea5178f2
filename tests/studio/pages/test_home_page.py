"""The first page in the browser: doors, the neuron at once, the sentence read by the bundled model, disk and machine."""

import re
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow
Open = Callable[..., Any]
WAIT = 90_000


def test_three_doors_and_a_neuron_are_there_at_once(browser_page: Open) -> None:
    page = browser_page("/")
    for door in ("Play", "Look inside", "Reproduce"):
        assert page.get_by_role("heading", name=door).is_visible()
    neuron = page.get_by_role("img", name=re.compile("Go to the film"))
    assert "go" in neuron.get_attribute("aria-label")
    page.get_by_role("button", name="good weather").click()
    assert neuron.get_attribute("aria-label").endswith("stay")


def test_the_sentence_is_read_and_its_induction_head_named(browser_page: Open) -> None:
    page = browser_page("/")
    page.get_by_text("That is an induction head.").wait_for(timeout=WAIT)
    assert "home" in page.get_by_role("list", name="The likeliest next pieces").inner_text().splitlines()[0]
    page.get_by_label("A sentence; change it").fill("Once upon a time")
    page.get_by_text("there is nothing to copy").wait_for(timeout=WAIT)
    assert "text=" in page.url
    page.get_by_role("link", name="Walk through this sentence").click()
    page.wait_for_url(re.compile(r"/walk#model=bundled/duet&text=Once"))


def test_disk_and_machine_are_told(browser_page: Open) -> None:
    page = browser_page("/")
    page.get_by_role("link", name=re.compile("duet")).first.wait_for(timeout=WAIT)
    page.get_by_text(re.compile(r"\d of \d+ cores")).wait_for()
    page.get_by_text(re.compile("one pass of the sentence above")).wait_for(timeout=WAIT)


def test_the_four_papers_lead_to_their_results(browser_page: Open) -> None:
    page = browser_page("/")
    page.get_by_role("link", name=re.compile("Birth of a Transformer")).click(timeout=WAIT)
    page.wait_for_url(re.compile("/results#experiment=birth"))


def test_it_fits_a_phone_in_chinese(browser_page: Open) -> None:
    page = browser_page("/", width=390, height=844, lang="zh", dark=True)
    page.get_by_text("这就是归纳头").wait_for(timeout=WAIT)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
