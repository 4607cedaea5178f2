"""Results and Runs & models, on a run at smoke scale: read, judge again, check, open the report, delete."""

import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from tests.studio.conftest import Running, running_studio

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, smoke_run: Any) -> Generator[Running]:
    """A studio in whose folder lies a whole run of Birth at smoke scale, with its store."""
    out = tmp_path_factory.mktemp("finished")
    source = smoke_run.run.path.parents[2]
    shutil.copytree(source / "runs", out / "runs")
    shutil.copytree(source / "store", out / "store")
    with running_studio(out) as running:
        yield running


@pytest.fixture
def opened(chromium: Any, finished: Running) -> Generator[Callable[[str], Any]]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")

    def open_page(path: str) -> Any:
        page = context.new_page()
        page.goto(finished.address(path))
        return page

    yield open_page
    context.close()


def test_claims_are_listed_opened_and_judged_again(opened: Callable[[str], Any]) -> None:
    page = opened("/results#experiment=birth")
    claims = page.get_by_role("main").locator("ol.claims > li")
    claims.first.wait_for()
    assert claims.count() == 17
    claims.first.get_by_role("button").click()
    page.get_by_text("Judge it yourself").wait_for()
    assert "glassworks reproduce birth" in claims.first.inner_text()
    assert "claim=" in page.url
    page.get_by_role("link", name="Report of").first.click()
    page.get_by_role("button", name="Judge again now").click()
    page.get_by_text("every verdict is the same (17)").wait_for()


def test_the_report_is_shown_in_a_sandbox_that_reaches_nothing(opened: Callable[[str], Any], finished: Running) -> None:
    (run,) = (finished.out / "runs/birth").iterdir()
    page = opened(f"/results#experiment=birth&run=birth/{run.name}")
    page.locator("iframe").wait_for()
    frame = page.frame_locator("iframe")
    frame.get_by_role("heading", level=1).wait_for()
    inside = next(one for one in page.frames if "/report" in one.url)
    assert inside.evaluate("window.origin") == "null"
    outcome = inside.evaluate("fetch('/api/models').then(() => 'read', () => 'refused')")
    assert outcome == "refused"


def test_a_run_is_checked_and_deleted_only_after_a_second_yes(opened: Callable[[str], Any], finished: Running) -> None:
    (run,) = (finished.out / "runs/birth").iterdir()
    copy = finished.out / "runs/birth" / ("0" * 16)
    page = opened("/runs")
    page.get_by_role("button", name="Check").first.click()
    page.get_by_text("every file is as it was written").wait_for()
    shutil.copytree(run, copy)
    page.reload()
    row = page.locator("li", has_text="0" * 16)
    row.get_by_role("button", name="Delete").click()
    row.get_by_role("button", name="Keep").click()
    assert copy.is_dir()
    # A folder that does not have the digest of its own settings is no run of ours: it is not deleted.
    row.get_by_role("button", name="Delete").click()
    row.get_by_role("button", name="Delete").last.click()
    page.get_by_role("alert").wait_for()
    assert copy.is_dir()
    shutil.rmtree(copy)


def test_what_was_trained_is_listed_and_taken_along(
    opened: Callable[[str], Any], finished: Running, tmp_path: Path
) -> None:
    page = opened("/runs#show=store")
    rows = page.locator("ul.list > li")
    rows.first.wait_for()
    assert rows.count() == len(list((finished.out / "store").glob("*/training.json")))
    with page.expect_download() as waiting:
        rows.first.get_by_role("link", name="Export").click()
    waiting.value.save_as(tmp_path / "model.zip")
    shutil.unpack_archive(tmp_path / "model.zip", tmp_path / "model")
    assert list((tmp_path / "model").glob("*/model.safetensors"))
