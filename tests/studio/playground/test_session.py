"""What a page says and what it is shown: settings, two networks, speeds, credit, an earlier epoch, export."""

import json
import time
from typing import Any

import numpy as np
import pytest
import torch

from glassworks.core.errors import GlassworksError, InvalidInput, InvalidSpec
from glassworks.studio.frames import decode, encode
from glassworks.studio.playground.hearing import hear
from glassworks.studio.playground.messages import MESSAGES
from glassworks.studio.playground.session import CREDIT, Session


class Page:
    """A page without a socket: says, lets work, draws."""

    def __init__(self, **settings: Any) -> None:
        self.session = Session()
        self.ahead = 0.0
        self.say("open", settings={"seed": "0.40217"} | settings)

    def say(self, kind: str, **fields: Any) -> None:
        hear(self.session, MESSAGES.parse(json.loads(json.dumps({"kind": kind} | fields))))

    def drawn(self) -> dict[str, Any]:
        """The next frame as the browser decodes it, acknowledged."""
        body = self.undrawn()
        self.say("ack", frame=body["number"])
        return body

    def undrawn(self) -> dict[str, Any]:
        # Frames keep a distance in time; here each comes a minute after the last.
        self.ahead += 60
        body = self.session.frame(time.perf_counter() + self.ahead)
        assert body is not None
        return decode(encode(body, "en"))

    def work(self) -> None:
        self.session.work(time.perf_counter() + 0.02)

    def epochs(self, count: int) -> dict[str, Any]:
        """The frame after so many more epochs."""
        self.say("step", count=count)
        while self.session.epochs_left:
            self.work()
        return self.drawn()


def test_the_first_frame_carries_everything_and_later_ones_only_what_training_changes() -> None:
    page = Page()
    first = page.drawn()
    assert first["made"]["a"]["seed"] == "0.40217"
    assert first["made"]["train"]["points"].shape == first["made"]["test"]["points"].shape == (250, 2)
    assert first["a"]["curve"]["from"] == 0
    assert [matrix.shape for matrix in first["a"]["weights"]] == [(4, 2), (2, 4), (1, 2)]
    assert [biases.shape for biases in first["a"]["biases"]] == [(4,), (2,), (1,)]
    assert first["a"]["maps"].shape == (7, 20, 20)
    assert first["a"]["maps"].dtype == np.int8
    assert first["a"]["large"]["map"].shape == (100, 100)
    later = page.epochs(3)
    assert "made" not in later
    assert later["a"]["epoch"] == 3
    assert later["a"]["curve"]["from"] == 1
    assert later["a"]["curve"]["rows"][:, 0].tolist() == [1, 2, 3]
    assert later["a"]["curve"]["rows"][-1, 1:].tolist() == pytest.approx([later["a"]["train"], later["a"]["test"]])


def test_maps_lie_as_they_are_drawn_and_say_what_the_network_says() -> None:
    page = Page(shape=[])
    page.say("edit", layer=0, to=0, **{"from": 0}, value=0.1)
    page.say("edit", layer=0, to=0, **{"from": 1}, value=1.0)
    page.say("edit", layer=0, to=0, value=0.0)
    side = page.drawn()["a"]
    large = side["large"]["map"]
    assert large[0, 0] == pytest.approx(np.tanh(-0.1 * 5.94 + 5.94), abs=1e-6)  # upper left: x1 low, x2 high
    assert large[-1, -1] == pytest.approx(np.tanh(0.1 * 5.94 - 5.94), abs=1e-6)
    assert side["maps"][0, 0, 0] == round(127 * np.tanh(-0.1 * 5.7 + 5.7))
    page.say("probe", point=[2.0, -1.0])
    probe = page.drawn()["a"]["probe"]
    assert probe["inputs"].tolist() == [2.0, -1.0]
    assert probe["outputs"].tolist() == pytest.approx([np.tanh(-0.8)])


def test_several_classes_are_shown_as_chances_that_add_up_to_one() -> None:
    page = Page(dataset="blobs", classes=4)
    large = page.epochs(2)["a"]["large"]
    assert large["map"].shape == (4, 100, 100)
    assert large["map"].sum(0) == pytest.approx(np.ones((100, 100)), abs=1e-5)
    page.say("show", node=0)
    assert page.drawn()["a"]["large"]["map"].shape == (100, 100)
    with pytest.raises(InvalidInput):
        page.say("show", node=10)


@pytest.mark.slow
def test_no_more_than_two_frames_wait_to_be_drawn_and_training_goes_on() -> None:
    page = Page()
    page.drawn()
    page.say("speed", mode="max")
    page.say("run")
    for _ in range(CREDIT):
        page.work()
        page.undrawn()
    before = page.session.trainers["a"].epoch
    page.work()
    assert page.session.trainers["a"].epoch > before
    assert page.session.frame(time.perf_counter() + 10_000) is None
    page.say("ack", frame=page.session.trainers["a"].epoch + 10**6)  # what was never sent cannot be acknowledged
    page.undrawn()
    assert page.session.credit == CREDIT - 1


@pytest.mark.slow
def test_at_the_pace_of_redraws_one_epoch_follows_each_frame() -> None:
    page = Page()
    page.drawn()
    page.say("speed", mode="redraw")
    page.say("run")
    epochs: list[int] = []
    for _ in range(6):
        page.work()
        epochs.append(page.drawn()["a"]["epoch"])
    assert epochs == [0, 1, 2, 3, 4, 5]


@pytest.mark.slow
def test_a_rate_is_kept_and_what_was_missed_is_not_made_up_for() -> None:
    page = Page()
    page.say("speed", mode="rate", rate=50)
    page.say("run")
    begun = time.perf_counter()
    while time.perf_counter() < begun + 0.3:
        due = page.session.due(time.perf_counter())
        assert due is None or due < time.perf_counter() + 0.05
        page.work()
    assert page.session.trainers["a"].epoch <= 16
    time.sleep(0.6)
    epoch = page.session.trainers["a"].epoch
    page.session.work(time.perf_counter() + 0.5)
    assert page.session.trainers["a"].epoch - epoch <= 50


@pytest.mark.slow
def test_a_rate_of_learning_changes_on_the_way_and_everything_else_begins_anew() -> None:
    page = Page()
    page.epochs(5)
    page.say("set", settings={"learning_rate": 0.1})
    frame = page.drawn()
    assert (frame["a"]["epoch"], frame["made"]["a"]["learning_rate"]) == (5, 0.1)
    for changes in ({"activation": "relu"}, {"noise": 10}, {"shape": [3]}, {"batch_size": 5}, {"features": ["x"]}):
        page.epochs(2)
        page.say("set", settings=changes)
        assert page.drawn()["a"]["epoch"] == 0
    page.epochs(1)
    page.say("set", settings={"shape": [3]})  # nothing new
    assert page.session.trainers["a"].epoch == 1


def test_wrong_settings_are_refused_by_name_and_change_nothing() -> None:
    page = Page()
    page.epochs(2)
    for wrong in (
        {"learning_rate": "x"},
        {"shape": [33]},
        {"nonsense": 1},
        {"noise": 1e9},
        {"learning_rate": float("nan")},
    ):
        with pytest.raises(GlassworksError):
            page.say("set", settings=wrong)
    with pytest.raises(InvalidSpec):
        page.say("edit", layer=0, to=0, value="x")
    assert page.session.trainers["a"].epoch == 2


@pytest.mark.slow
def test_two_networks_begin_alike_on_the_same_points_and_stay_in_step() -> None:
    page = Page()
    page.epochs(3)
    page.say("compare", settings={"learning_rate": 0.003})
    frame = page.drawn()
    assert frame["a"]["epoch"] == frame["b"]["epoch"] == 0
    assert all((a == b).all() for a, b in zip(frame["a"]["weights"], frame["b"]["weights"], strict=True))
    frame = page.epochs(4)
    assert frame["a"]["epoch"] == frame["b"]["epoch"] == 4
    assert frame["a"]["train"] != frame["b"]["train"]
    alone = Page().epochs(4)
    assert alone["a"]["train"] == frame["a"]["train"]
    page.say("set", which="both", settings={"noise": 20})
    frame = page.drawn()
    assert frame["made"]["b"]["noise"] == 20
    assert frame["made"]["b"]["learning_rate"] == 0.003
    page.say("compare", settings=None)
    assert page.drawn()["b"] is None


@pytest.mark.slow
def test_resetting_gives_other_weights_or_the_same_and_regenerating_keeps_them() -> None:
    page = Page()
    first = page.drawn()["a"]["weights"][0].tolist()
    page.epochs(2)
    page.say("reset", same=True)
    assert page.drawn()["a"]["weights"][0].tolist() == first
    page.say("reset")
    frame = page.drawn()
    assert frame["made"]["a"]["draw"] == 1
    drawn = frame["a"]["weights"][0].tolist()
    assert drawn != first
    page.say("regenerate")
    frame = page.drawn()
    assert frame["a"]["weights"][0].tolist() == drawn
    seed = frame["made"]["a"]["seed"]
    assert seed != "0.40217"
    assert len(seed) == len("0.12345")
    assert Page(draw=1).drawn()["a"]["weights"][0].tolist() == drawn


@pytest.mark.slow
def test_points_painted_into_a_training_are_learned_by_the_weights_as_they_are() -> None:
    points = [[1.0, 2.0, 1.0], [-1.0, -2.0, -1.0]]
    page = Page(dataset="own", points=points, train_percent=99)
    page.epochs(5)
    page.say("run")
    page.say("set", settings={"points": [*points, [2.0, -3.0, 1.0]]}, keep=True)
    frame = page.drawn()
    assert (frame["running"], frame["a"]["epoch"]) == (True, 5)
    assert len(frame["made"]["train"]["labels"]) == 2
    page.say("set", settings={"points": []}, keep=True)
    assert not page.drawn()["running"]
    page.work()
    page.say("set", settings={"points": [*points, [0.0, 0.0, 1.0]]}, keep=True)
    assert page.epochs(1)["a"]["epoch"] == 6
    page.say("set", settings={"points": [[0.0, 0.0, 0], [1.0, 0.0, 2]]}, keep=True)  # three classes are another network
    assert page.drawn()["a"]["epoch"] == 0


@pytest.mark.slow
def test_an_earlier_epoch_is_shown_and_left_again_or_kept() -> None:
    page = Page()
    frames = [page.epochs(1) for _ in range(30)]
    page.say("scrub", epoch=12)
    shown = page.drawn()
    assert shown["scrubbed"]
    assert shown["a"]["train"] == pytest.approx(frames[11]["a"]["train"])
    page.say("scrub", epoch=None)
    assert page.drawn()["a"]["epoch"] == 30
    page.say("scrub", epoch=12)
    page.say("keep")
    kept = page.drawn()
    assert (kept["a"]["epoch"], kept["scrubbed"], kept["a"]["curve"]["from"]) == (12, False, 13)
    assert page.epochs(1)["a"]["train"] == frames[12]["a"]["train"]
    page.say("back", epochs=10)
    assert page.drawn()["a"]["epoch"] == 3


@pytest.mark.slow
def test_a_run_ends_at_its_goal() -> None:
    page = Page()
    page.say("until", epoch=7)
    while page.session.running:
        page.work()
    assert page.session.trainers["a"].epoch == 7
    page.say("until", loss=0.3, of="train")
    while page.session.running:
        page.work()
    losses = page.session.trainers["a"].losses()
    assert losses.train is not None
    assert losses.train <= 0.3


@pytest.mark.slow
def test_training_that_runs_away_pauses_with_a_sentence() -> None:
    page = Page(problem="regression", learning_rate=10, activation="linear")
    page.say("run")
    frame = page.drawn()
    while frame["running"]:
        page.work()
        frame = page.drawn()
    trouble = frame["a"]["trouble"]
    assert trouble["cause"] == "rate"
    assert "too high" in trouble["what"]
    assert all(np.isfinite(matrix).all() for matrix in frame["a"]["weights"])
    page.say("back", epochs=10)
    assert page.drawn()["a"]["trouble"] is None


@pytest.mark.slow
def test_an_export_goes_on_to_the_same_numbers() -> None:
    for given in ({"optimizer": "adam", "batch_size": 30}, {"regularization": "L1", "regularization_rate": 0.1}):
        page = Page(**given)
        page.say("compare", settings={"activation": "gelu"})
        page.epochs(6)
        page.say("export")
        saved = json.loads(json.dumps(page.session.taken_answers()[0]["saved"]))
        other = Page()
        other.say("import", saved=saved)
        ours, theirs = other.epochs(3), page.epochs(3)
        assert ours["a"]["epoch"] == 9
        for side in ("a", "b"):
            assert ours[side]["train"] == theirs[side]["train"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"kind": "glassworks playground", "version": 1},
        {"kind": "other"},
        {"kind": "glassworks playground", "version": 1, "a": 3},
    ],
)
def test_a_foreign_export_is_refused(broken: dict[str, Any]) -> None:
    page = Page()
    with pytest.raises(GlassworksError):
        page.say("import", saved=broken)
    page.say("export")
    saved = page.session.taken_answers()[0]["saved"]
    for place, wrong in (
        ("layers", None),
        ("layers", [{"weights": [[1]], "biases": [1]}]),
        ("epoch", -1),
        ("first", [1.0]),
        ("settings", 4),
    ):
        with pytest.raises(GlassworksError):
            page.say("import", saved=saved | {"a": saved["a"] | {place: wrong}})


def test_nothing_is_heard_before_a_network_is_open_and_no_more_are_opened_than_fit() -> None:
    session = Session(lambda: False)
    for kind in ("run", "pause", "export", "code"):
        with pytest.raises(InvalidInput):
            hear(session, MESSAGES.parse({"kind": kind}))
    with pytest.raises(InvalidInput, match="too many"):
        hear(session, MESSAGES.parse({"kind": "open"}))
    assert session.frame(time.perf_counter()) is None
    assert session.due(time.perf_counter()) is None


def test_a_drawn_seed_is_said() -> None:
    session = Session()
    hear(session, MESSAGES.parse({"kind": "open", "hash": "#noise=90"}))
    frame = session.frame(time.perf_counter())
    assert frame is not None
    assert float(frame["made"]["a"]["seed"]) < 1
    assert torch.is_tensor(session.trainers["a"].weights)
    assert [str(note) for note in frame["made"]["notes"]] == ["noise=90 cannot be; 50 is used instead"]
