"""The page Train: a preset is started, watched, stopped and taken up; a form says what is wrong where it is wrong."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.slow
# Starting a worker and a training loads torch twice, on a machine that does other things too.
LONG = 180_000


def _form(choices: str, **more: str) -> str:
    rest = "".join(f"&{name}={value}" for name, value in more.items())
    return f"/train#verb=train&about=bigram&c={choices}{rest}"


def test_a_training_is_started_from_its_form_and_watched_to_its_end(browser_page: Callable[..., Any]) -> None:
    page = browser_page(
        _form('{"probe":"inside","steps":24,"batch":4,"task.length":32,"model.width":32,"probe_every":2}')
    )
    start = page.get_by_role("button", name="Start", exact=True).last
    expect(start).to_be_enabled(timeout=LONG)
    expect(page.get_by_text(re.compile("glassworks train bigram"))).to_be_visible()
    start.click()
    watch = page.get_by_role("region", name="Watch")
    expect(watch.get_by_role("link", name="Walk through it")).to_be_visible(timeout=LONG)
    for title in ("Induction score", "Memory recall", "Loss", "Tokens per second"):
        expect(watch.get_by_text(title, exact=True)).to_be_visible()
    expect(watch.get_by_text("What it writes")).to_be_visible()
    href = str(watch.get_by_role("link", name="Walk through it").get_attribute("href"))
    assert re.search(r"/walk#model=trained/[0-9a-f]{16}", href)
    # The address is the state: the same address shows the same job.
    address = page.url
    page.reload()
    assert page.url == address
    expect(page.get_by_role("region", name="Watch").get_by_text("finished")).to_be_visible(timeout=LONG)


def test_what_is_wrong_is_said_at_its_field_and_nothing_can_be_started(browser_page: Callable[..., Any]) -> None:
    page = browser_page(_form("{}"))
    width = page.get_by_role("textbox", name="width", exact=True)
    expect(width).to_have_value("128", timeout=LONG)
    width.fill("-3")
    expect(page.get_by_text("Input should be greater than or equal to 1").first).to_be_visible(timeout=LONG)
    expect(page.get_by_role("button", name="Start", exact=True).last).to_be_disabled()
    assert "model.width" in page.url
    page.get_by_role("button", name="width: back to 128").click()
    expect(page.get_by_role("button", name="Start", exact=True).last).to_be_enabled(timeout=LONG)


def test_a_job_is_paused_stopped_and_taken_up_again(browser_page: Callable[..., Any]) -> None:
    page = browser_page(_form('{"steps":4000,"batch":4,"task.length":32,"model.width":32,"probe_every":2,"seed":7}'))
    start = page.get_by_role("button", name="Start", exact=True).last
    expect(start).to_be_enabled(timeout=LONG)
    start.click()
    watch = page.get_by_role("region", name="Watch")
    expect(watch.get_by_text(re.compile(r"step [1-9]\d* of 4000"))).to_be_visible(timeout=LONG)
    watch.get_by_role("button", name="Pause").click()
    expect(watch.get_by_text("paused")).to_be_visible(timeout=LONG)
    watch.get_by_role("button", name="Continue").click()
    expect(watch.get_by_text("runs", exact=False).first).to_be_visible(timeout=LONG)
    watch.get_by_role("button", name="Stop").click()
    expect(watch.get_by_role("button", name="Go on")).to_be_visible(timeout=LONG)
    watch.get_by_role("button", name="Go on").click()
    expect(watch.get_by_role("button", name="Stop")).to_be_visible(timeout=LONG)
    watch.get_by_role("button", name="Stop").click()
    expect(watch.get_by_role("button", name="Go on")).to_be_visible(timeout=LONG)


def test_the_form_is_filled_and_started_by_keyboard_in_chinese_on_a_phone(browser_page: Callable[..., Any]) -> None:
    page = browser_page(_form("{}"), width=390, height=844, lang="zh", dark=True)
    steps = page.get_by_role("textbox", name="步数", exact=True)
    expect(steps).to_have_value("1000", timeout=LONG)
    steps.focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("77")
    expect(page.get_by_text(re.compile("steps=77"))).to_be_visible(timeout=LONG)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_text_that_is_pasted_becomes_a_file_of_the_form(browser_page: Callable[..., Any], studio: Any) -> None:
    page = browser_page("/train#verb=pretrain")
    expect(page.get_by_text("no texts are named to learn from").first).to_be_visible(timeout=LONG)
    page.get_by_text("Paste or drop your own").click()
    page.get_by_role("textbox", name="Your text").fill("once upon a time " * 400)
    page.get_by_role("button", name="Keep this text").click()
    expect(page.get_by_text(re.compile("my-text.txt")).first).to_be_visible(timeout=LONG)
    expect(page.get_by_role("button", name="Start", exact=True).last).to_be_enabled(timeout=LONG)
    assert (studio.out / "data" / "my-text.txt").read_text().startswith("once upon a time")
