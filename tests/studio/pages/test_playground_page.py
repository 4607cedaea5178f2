"""The playground in a browser: old links, running, looking closer, own points, two networks, and taking things along."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
Open = Callable[..., Any]

LESSON = (
    "#activation=relu&batchSize=10&dataset=spiral&regDataset=reg-plane&learningRate=0.01&regularizationRate=0&noise=25"
    "&networkShape=7,4,3&seed=0.91234&showTestData=true&discretize=false&percTrainData=50&x=true&y=true&xTimesY=true"
    "&xSquared=true&ySquared=true&cosX=false&sinX=true&cosY=false&sinY=true&collectStats=false&problem=classification"
    "&initZero=false&hideText=false"
)


def opened(browser_page: Open, state: str = "#seed=0.5", **how: Any) -> Any:
    """The page once its engine answers; in English."""
    page = browser_page(f"/playground{state}", **how)
    page.locator(".transport button:enabled").first.wait_for()
    return page


def epoch(page: Any) -> int:
    return int(page.get_by_test_id("epoch").inner_text().replace(",", ""))


def loss(page: Any, name: str = "train-loss-a") -> float:
    return float(page.get_by_test_id(name).inner_text())


def runs_until(page: Any, goal: int) -> None:
    """Runs to an epoch and stops there."""
    page.get_by_label("Epoch to stop at").fill(str(goal))
    page.get_by_role("button", name="Go", exact=True).click()
    page.get_by_test_id("epoch").get_by_text(f"{goal:07,d}".rjust(7, "0")).wait_for(timeout=60_000)


def values(hash_: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in hash_.lstrip("#").split("&"))
    return {name: value for name, _, value in pairs}


def state(page: Any) -> dict[str, str]:
    page.wait_for_timeout(400)  # the address follows a moment after a change
    return values(str(page.evaluate("location.hash")))


@pytest.mark.parametrize("path", ["/", "/playground"])
def test_an_old_lesson_link_shows_what_it_meant(browser_page: Open, path: str) -> None:
    page = browser_page(f"{path}{LESSON}")
    page.locator(".transport button:enabled").first.wait_for()
    assert page.locator(".controls").get_by_label("Activation", exact=True).input_value() == "relu"
    assert page.locator(".controls").get_by_label("Learning rate").input_value() == "0.01"
    assert page.get_by_role("button", name="Spiral", exact=True).get_attribute("aria-pressed") == "true"
    assert page.locator(".data").get_by_label("Noise").input_value() == "25"
    assert page.locator(".input[aria-pressed=true]").count() == 7
    assert [page.get_by_text(f"{count} neurons").count() for count in (7, 4, 3)] == [1, 1, 1]
    assert page.locator(".output").get_by_label("Show test data").is_checked()
    kept = state(page)
    wanted = values(LESSON)
    assert {name: kept[name] for name in wanted} == wanted


def test_unknown_values_are_the_defaults_and_a_seed_is_drawn(browser_page: Open) -> None:
    page = opened(
        browser_page, "#activation=magic&dataset=cats&noise=95&batchSize=many&networkShape=3,x&learningRate=&colour=7"
    )
    found = state(page)
    assert (found["activation"], found["dataset"], found["noise"], found["batchSize"]) == ("tanh", "circle", "50", "10")
    assert (found["networkShape"], found["learningRate"]) == ("4,2", "0.03")
    assert re.fullmatch(r"0\.\d{5}", found["seed"])


def test_running_lowers_the_loss_and_reset_same_begins_alike(browser_page: Open) -> None:
    page = opened(browser_page)
    first = loss(page)
    runs_until(page, 200)
    assert loss(page) < 0.1 < first
    page.get_by_role("button", name="same weights").click()
    page.get_by_test_id("epoch").get_by_text("000,000").wait_for()
    assert loss(page) == first
    page.get_by_role("button", name="Reset", exact=True).click()
    page.wait_for_timeout(500)
    assert state(page)["draw"] == "1"


def test_keys_run_step_and_reset(browser_page: Open) -> None:
    page = opened(browser_page)
    page.keyboard.press("s")
    page.get_by_test_id("epoch").get_by_text("000,001").wait_for()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Pause", exact=True).wait_for()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Run", exact=True).wait_for()
    assert epoch(page) > 1
    page.keyboard.press("r")
    page.get_by_test_id("epoch").get_by_text("000,000").wait_for()


def test_a_sample_and_a_batch_are_smaller_steps(browser_page: Open) -> None:
    page = opened(browser_page)
    first = loss(page)
    page.get_by_label("How far a step goes").select_option("batch")
    page.locator(".transport").get_by_role("button", name="Step", exact=True).click()
    page.wait_for_timeout(500)
    assert epoch(page) == 0
    assert page.get_by_test_id("train-loss-a").inner_text() != ""
    assert abs(loss(page) - first) < 0.2


def test_arrow_keys_go_from_neuron_to_neuron_and_a_weight_is_edited(browser_page: Open) -> None:
    page = opened(browser_page)
    page.locator("[data-node='0']").focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.node") == "1"
    page.get_by_text("Answer of one neuron, h₁,₂").wait_for()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.node") == "5"
    page.keyboard.press("Enter")
    box = page.get_by_label("bias", exact=True)
    before = loss(page)
    box.fill("3")
    page.locator(".formula").get_by_text("+ 3.00)").wait_for()
    page.wait_for_timeout(300)
    assert loss(page) != before


def test_a_probed_place_is_followed_through_the_network(browser_page: Open) -> None:
    page = opened(browser_page)
    page.locator("[data-node='6']").click()
    page.locator(".square").focus()
    for key in ("ArrowRight", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    line = page.locator(".formula").nth(1)
    line.wait_for()
    numbers = [float(text.replace("−", "-")) for text in re.findall(r"−?\d+\.\d+", line.inner_text())]
    assert abs(numbers[-1]) <= 1
    assert page.locator(".value").count() == 7


def test_layers_neurons_inputs_and_activations_change_the_network(browser_page: Open) -> None:
    page = opened(browser_page)
    page.get_by_role("button", name="One hidden layer more").click()
    page.get_by_role("button", name="One neuron more in layer 3").click()
    page.get_by_role("button", name="One neuron less in layer 1").click()
    page.get_by_role("button", name="x one squared").click()
    page.get_by_label("Activation of layer 2").select_option("gelu")
    found = state(page)
    assert (found["networkShape"], found["xSquared"], found["activations"]) == ("3,2,3", "true", ",gelu,")
    assert page.locator("[data-node]").count() == 9
    for _ in range(3):
        page.get_by_role("button", name="One hidden layer less").click()
    assert state(page)["networkShape"] == ""
    assert page.locator("[data-node]").count() == 1


def test_history_goes_back_and_on_from_there(browser_page: Open) -> None:
    page = opened(browser_page)
    runs_until(page, 120)
    page.get_by_label("History").fill("30")
    page.get_by_text("You look at epoch 30.").wait_for()
    page.get_by_role("button", name="Back to the present").click()
    page.get_by_test_id("epoch").get_by_text("000,120").wait_for()
    page.get_by_label("History").fill("30")
    page.get_by_role("button", name="Go on from here").click()
    page.get_by_text("You look at epoch 30.").wait_for(state="detached")
    assert epoch(page) == 30


def test_two_networks_begin_together_and_differ_where_they_were_changed(browser_page: Open) -> None:
    page = opened(browser_page)
    page.get_by_label("Compare two").click()
    page.get_by_role("heading", name="Network B").wait_for()
    assert state(page)["b_activation"] == "relu"
    runs_until(page, 100)
    page.wait_for_timeout(500)
    assert loss(page, "train-loss-a") != loss(page, "train-loss-b")
    page.locator(".controls").get_by_label("Activation", exact=True).select_option("tanh")
    page.wait_for_timeout(600)
    assert epoch(page) == 0
    assert loss(page, "train-loss-a") == loss(page, "train-loss-b")


def test_a_rate_that_is_too_high_stops_explains_and_offers_a_way(browser_page: Open) -> None:
    page = opened(browser_page, "#problem=regression&learningRate=10&activation=relu&seed=0.33333")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("alert").get_by_text("learning rate").first.wait_for()
    page.get_by_role("button", name=re.compile("^Go back and set the learning rate to")).click()
    page.get_by_role("alert").wait_for(state="detached")
    assert float(state(page)["learningRate"]) < 10


def test_points_are_painted_pasted_and_kept_in_the_address(browser_page: Open) -> None:
    page = opened(browser_page)
    page.get_by_role("button", name="Own points").click()
    square = page.locator(".square")
    square.click(position={"x": 75, "y": 75})
    page.get_by_text("−1", exact=True).first.click()
    square.click(position={"x": 225, "y": 225})
    assert state(page)["points"] == "-3,3,1;3,-3,-1"
    square.focus()
    for key in ("ArrowRight", "Enter"):
        page.keyboard.press(key)
    assert state(page)["points"].count(";") == 2
    rows = "\n".join(f"{x};{y};{kind}" for x, y, kind in [(0, 0, "cat"), (1, 0, "dog"), (2, 1, "bird")] * 4)
    page.get_by_role("textbox").first.fill(f"width;height;kind\n{rows}")
    page.get_by_role("button", name="Take these rows").click()
    page.get_by_text("12 points taken.").wait_for()
    assert {row.split(",")[2] for row in state(page)["points"].split(";")} == {"0", "1", "2"}
    page.get_by_text("cross-entropy, mean in nats").wait_for()


def test_points_painted_into_a_training_do_not_start_it_anew(browser_page: Open) -> None:
    page = opened(browser_page, "#seed=0.5&dataset=own&points=-3,3,1;3,-3,-1;-2,3,1;2,-3,-1")
    page.get_by_role("button", name="Own points").click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_timeout(800)
    before = epoch(page)
    page.locator(".square").click(position={"x": 200, "y": 100})
    page.wait_for_timeout(800)
    assert epoch(page) > before > 0
    page.get_by_role("button", name="Pause", exact=True).wait_for()
    assert state(page)["points"].count(";") == 4


@pytest.mark.nightly
def test_the_program_runs_alone_and_the_saved_state_comes_back(browser_page: Open, tmp_path: Path) -> None:
    page = opened(browser_page, "#seed=0.5&dataset=xor")
    runs_until(page, 20)
    shown = loss(page)
    page.get_by_text("Save, open, take along as PyTorch").click()
    page.get_by_role("button", name="Show as PyTorch program").click()
    code = page.get_by_test_id("code").inner_text()
    (tmp_path / "program.py").write_text(code)
    ran = subprocess.run([sys.executable, tmp_path / "program.py"], capture_output=True, text=True, check=True)
    printed = float(re.findall(r"training loss (\d\.\d+)", ran.stdout)[-1])
    assert abs(printed - shown) <= 0.0005 + 1e-9  # the page shows three decimals
    with page.expect_download() as download:
        page.get_by_role("button", name="Everything (JSON)").click()
    download.value.save_as(tmp_path / "state.json")
    assert json.loads((tmp_path / "state.json").read_text())
    page.get_by_role("button", name="Circle").click()
    # Another task begins anew; only then does epoch 20 show that the file was opened.
    page.get_by_test_id("epoch").get_by_text("000,000").wait_for()
    page.locator("input[type=file]").first.set_input_files(tmp_path / "state.json")
    page.get_by_test_id("epoch").get_by_text("000,020").wait_for()
    page.get_by_role("button", name="Exclusive or", pressed=True).wait_for()
    assert state(page)["dataset"] == "xor"
    assert loss(page) == shown


def test_a_lesson_hides_controls_and_names_the_page(browser_page: Open) -> None:
    page = opened(
        browser_page,
        "#seed=0.5&learningRate_hide=true&numHiddenLayers_hide=true&xSquared_hide=true&tutorial=Rings&hideText=true",
    )
    assert page.get_by_role("heading", name="Rings", exact=True).is_visible()
    assert page.locator(".controls").get_by_label("Learning rate").count() == 0
    assert page.get_by_role("button", name="One hidden layer more").count() == 0
    assert page.get_by_role("button", name="x one squared").count() == 0
    assert page.get_by_text("What you see").count() == 0
    page.get_by_text("For a lesson").click()
    page.get_by_role("group", name="Hide these controls").get_by_label("Learning rate").click()
    page.get_by_role("link", name="Open it").click()
    page.locator(".controls").get_by_label("Learning rate").wait_for()


def test_a_phone_plays_in_chinese(browser_page: Open) -> None:
    page = opened(browser_page, width=390, height=844, lang="zh")
    page.locator(".floating").click()
    page.wait_for_timeout(1500)
    page.locator(".floating").click()
    assert epoch(page) > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
