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


@pytest.mark.nightly
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


def test_where_it_runs_is_chosen_by_keyboard_and_what_is_wrong_is_said_there(browser_page: Callable[..., Any]) -> None:
    page = browser_page(_form('{"steps":24}'))
    section = page.get_by_text("Where and with how much", exact=True)
    expect(section).to_be_visible(timeout=LONG)
    section.focus()
    page.keyboard.press("Enter")
    processes = page.get_by_role("textbox", name="processes", exact=True)
    processes.fill("2")
    expect(page.get_by_text(re.compile(r"--launch 2 --out"))).to_be_visible(timeout=LONG)
    expect(page.get_by_text("2 processes train together")).to_be_visible()
    page.get_by_role("textbox", name="once with each value").fill("seed=0..2")
    wrong = page.locator(".wrong", has_text="where.vary")
    expect(wrong).to_be_visible(timeout=LONG)
    expect(page.get_by_role("button", name="Start", exact=True).last).to_be_disabled()
    processes.fill("1")
    expect(page.get_by_text("3 trainings")).to_be_visible(timeout=LONG)
    page.get_by_role("group", name="where to run").get_by_label("kind").select_option("slurm")
    page.get_by_role("textbox", name="partition").fill("gpu")
    page.get_by_role("textbox", name="partition").press("Tab")
    expect(page.get_by_text(re.compile(r"--vary seed=0\.\.2 --executor slurm:gpu --out"))).to_be_visible(timeout=LONG)
    # The address is the state here too.
    assert "where.executor.partition" in page.url


@pytest.mark.nightly
def test_several_values_are_trained_by_two_workers_and_end_as_a_table(browser_page: Callable[..., Any]) -> None:
    choices = (
        '{"steps":20,"batch":4,"task.length":32,"model.width":32,"where.vary":["seed=0..2"],'
        '"where.executor":{"kind":"local"}}'
    )
    page = browser_page(_form(choices), width=390, height=844)
    start = page.get_by_role("button", name="Start", exact=True).last
    expect(start).to_be_enabled(timeout=LONG)
    start.click()
    watch = page.get_by_role("region", name="Watch")
    expect(watch.get_by_text("worker 1")).to_be_visible(timeout=LONG)
    table = watch.get_by_role("region", name="Every combination")
    expect(table.get_by_role("link", name="Walk through it")).to_have_count(3, timeout=LONG)
    expect(watch.get_by_text(re.compile("mean loss over 3 seeds"))).to_be_visible()
    expect(watch.get_by_text("parts finished: 3")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.nightly
def test_two_processes_train_one_model_and_stop_and_go_on_together(browser_page: Callable[..., Any]) -> None:
    page = browser_page(
        _form(
            '{"steps":4000,"batch":4,"task.length":32,"model.width":32,"seed":11,"where.launch":2,"where.shard":true}'
        )
    )
    start = page.get_by_role("button", name="Start", exact=True).last
    expect(start).to_be_enabled(timeout=LONG)
    start.click()
    watch = page.get_by_role("region", name="Watch")
    expect(watch.get_by_text(re.compile(r"step [1-9]\d* of 4000"))).to_be_visible(timeout=LONG)
    expect(watch.get_by_text("2 processes train together")).to_be_visible()
    watch.get_by_role("button", name="Pause").click()
    expect(watch.get_by_text("paused")).to_be_visible(timeout=LONG)
    watch.get_by_role("button", name="Continue").click()
    watch.get_by_role("button", name="Stop").click()
    expect(watch.get_by_role("button", name="Go on")).to_be_visible(timeout=LONG)
    watch.get_by_role("button", name="Go on").click()
    expect(watch.get_by_text(re.compile("session 2"))).to_be_attached(timeout=LONG)
    watch.get_by_role("button", name="Stop").click()
    expect(watch.get_by_role("button", name="Go on")).to_be_visible(timeout=LONG)
