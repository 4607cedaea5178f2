"""The Examine page as a person uses it: fidelity first, the induction head circled, every view by its address."""

import re
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow
DUET = "model=bundled/duet"
SMALL = "model=gallery/stories260k"
Open = Callable[..., Any]


def test_fidelity_is_green_and_the_induction_head_is_circled(browser_page: Open) -> None:
    page = browser_page(f"/examine#{DUET}")
    checks = page.get_by_role("list", name="Fidelity")
    checks.wait_for(timeout=60_000)
    assert checks.get_by_text("✓ holds").count() == 3
    marked = page.get_by_role("button", name=re.compile(r"^L1H\d\W+induction .*stands out most\W+induction"))
    marked.wait_for(timeout=60_000)
    assert marked.get_attribute("aria-pressed") == "true"
    page.get_by_text(re.compile("looks at what came after an earlier copy")).wait_for()


def test_a_chosen_head_stands_in_the_address_and_leads_to_its_walk(browser_page: Open) -> None:
    page = browser_page(f"/examine#{SMALL}&text=Lily+and+Tom")
    page.get_by_role("button", name=re.compile("^L2H3")).click(timeout=60_000)
    page.get_by_role("heading", name="Head L2H3").wait_for()
    assert "layer=2&head=3" in page.url
    link = page.get_by_role("link", name="Walk through this head").get_attribute("href")
    assert link == "/walk#model=gallery/stories260k&text=Lily%20and%20Tom&layer=2&head=3"


def test_the_wall_is_ordered_and_filtered_by_a_score(browser_page: Open) -> None:
    page = browser_page(f"/examine#{SMALL}&sort=previous_token&least=0.3")
    wall = page.get_by_role("region", name="All heads")
    wall.get_by_text(re.compile(r"of 40 heads")).wait_for(timeout=60_000)
    page.get_by_role("button", name=re.compile(r"^L\dH\d\W+previous token")).first.wait_for()
    names = page.get_by_role("button", name=re.compile(r"^L\dH\d\W+previous token")).evaluate_all(
        "all => all.map(one => one.textContent)"
    )
    scores = [float(re.findall(r"token\s*(\d\.\d+)", name)[0]) for name in names]
    assert 0 < len(scores) < 40
    assert min(scores) >= 0.3
    page.get_by_label("Order by").select_option("order")
    page.wait_for_url(re.compile("sort=order"))


def test_the_lens_is_walked_with_the_arrow_keys(browser_page: Open) -> None:
    page = browser_page(f"/examine#{SMALL}&view=lens&text=Once+upon+a+time")
    grid = page.get_by_role("grid")
    grid.wait_for(timeout=60_000)
    grid.locator('[tabindex="0"]').focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_url(re.compile(r"cell=9\."))
    page.keyboard.press("ArrowLeft")
    cell = page.get_by_role("complementary", name="The chosen cell")
    assert "L4 after attention" in cell.get_by_role("heading").inner_text()
    assert page.evaluate("document.activeElement.getAttribute('role')") == "gridcell"


def test_layers_are_compared_and_drawn_by_the_reports_template(browser_page: Open) -> None:
    page = browser_page(f"/examine#{SMALL}&view=layers")
    page.get_by_role("img", name=re.compile("Similarity of the stream")).wait_for(timeout=60_000)
    page.locator(".report figure.plot svg").first.wait_for(timeout=60_000)
    with page.expect_download() as saved:
        page.locator(".report").get_by_role("button", name="CSV").first.click()
    assert saved.value.suggested_filename == "block-influence.csv"
    page.get_by_label("Alike in what sense").select_option("cka")
    page.wait_for_url(re.compile("definition=cka"))


def test_patching_finds_the_word_that_differs(browser_page: Open) -> None:
    page = browser_page(f"/examine#{DUET}&view=causes&how=patching")
    page.get_by_role("button", name="what came after it before").click(timeout=60_000)
    page.get_by_text(re.compile("Logit of “␣home” minus logit of “␣back”")).wait_for(timeout=60_000)
    page.get_by_role("img", name=re.compile("Recovery by layer and token")).focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    for _ in range(7):
        page.keyboard.press("ArrowRight")
    page.get_by_text(re.compile(r"embedding, token 7 “␣home”: 1 of the way back")).wait_for()


def test_what_is_lost_without_a_head_leads_back_to_the_head(browser_page: Open) -> None:
    page = browser_page(f"/examine#{SMALL}&view=causes&what=heads&text=Lily+and+Tom+went+home")
    page.get_by_role("img", name=re.compile("Increase of the loss in nats")).focus(timeout=60_000)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Head L4H0").wait_for(timeout=60_000)


def test_probes_wait_for_a_press_and_come_with_control_and_chance(browser_page: Open) -> None:
    page = browser_page(f"/examine#{SMALL}&view=probes")
    page.get_by_role("button", name="Train the probes").click(timeout=60_000)
    page.get_by_text(re.compile("The probes were trained on 11 documents and judged on 5 others")).wait_for(
        timeout=240_000
    )
    assert page.locator(".report svg").count() == 1


def test_memories_of_other_models_are_explained_and_not_an_error(browser_page: Open) -> None:
    page = browser_page(f"/examine#{SMALL}&view=memory")
    page.get_by_text("This model was not trained on the bigram world").wait_for(timeout=60_000)


def test_an_encoder_and_a_model_of_ids_have_their_walls(browser_page: Open) -> None:
    page = browser_page("/examine#model=gallery/gpt-nano-sort&text=2+1+0+1")
    page.get_by_role("button", name=re.compile("^L0H0")).wait_for(timeout=90_000)
    page = browser_page("/examine#model=gallery/bert-tiny")
    page.get_by_role("button", name=re.compile("^L0H0")).wait_for(timeout=90_000)
    page.get_by_text(re.compile("looks ahead or knows fewer than 50")).wait_for()


@pytest.mark.parametrize("lang", [pytest.param("en", marks=pytest.mark.nightly), "zh"])
@pytest.mark.parametrize("view", ["heads", "lens", "layers", "probes", "causes", "memory", "report"])
def test_every_view_fits_a_phone(browser_page: Open, view: str, lang: str) -> None:
    page = browser_page(f"/examine#{SMALL}&view={view}&text=Lily+and+Tom", width=390, height=844, lang=lang, dark=True)
    page.get_by_role("list", name="保真检查" if lang == "zh" else "Fidelity").wait_for(timeout=90_000)
    page.wait_for_timeout(1500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.nightly
def test_the_whole_report_is_written_as_a_job(browser_page: Open) -> None:
    page = browser_page(f"/examine#{SMALL}&view=report&text=Lily+and+Tom")
    page.get_by_text(re.compile("^glassworks examine .*stories.* --text 'Lily and Tom'$")).wait_for(timeout=60_000)
    page.get_by_role("button", name="Write the whole report").click()
    page.wait_for_url(re.compile("job="))
    link = page.get_by_role("link", name="Open the report")
    link.wait_for(timeout=240_000)
    with page.context.expect_page() as opened:
        link.click()
    opened.value.get_by_role("heading", name=re.compile("Inside stories")).wait_for()
