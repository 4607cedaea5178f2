"""The home page's questions: a sentence at a glance, and the machine."""

from pathlib import Path

import numpy as np
import pytest

from glassworks.core.errors import InvalidInput
from glassworks.studio.home.glance import CANDIDATES, MOST_TOKENS
from glassworks.studio.home.machine import machine
from glassworks.studio.questions.desk import BUNDLED, Desk, Places, bundled_folder
from glassworks.studio.questions.home import Glance

REPEATED = "The king of the north came home and the king of the north came"
bundled = pytest.mark.skipif(not (bundled_folder() / "config.json").is_file(), reason="the bundled model is not there")


def test_the_machine_is_described_without_its_folder_being_there(tmp_path: Path) -> None:
    found = machine(tmp_path / "not" / "made")
    assert 1 <= found["usable"] <= found["cores"]
    assert 0 < found["memory"]["free"] <= found["memory"]["total"]
    assert found["disk"]["free"] > 0
    assert found["device"] in ("cpu", "cuda", "mps")
    assert not (tmp_path / "not").exists()


@bundled
@pytest.mark.slow
def test_the_head_found_looks_at_what_followed_the_last_time(tmp_path: Path) -> None:
    answer = Glance(model=f"bundled/{BUNDLED}", text=REPEATED).answer(Desk(Places(tmp_path)))
    head, tokens = answer["head"], answer["tokens"]
    assert [tokens[place] for place in head["targets"]] == ["␣home"]
    assert head["weight"] == pytest.approx(answer["map"][-1, head["targets"]].sum(), abs=1e-6)
    assert head["weight"] > 0.5 > 3 * head["even"]
    np.testing.assert_allclose(answer["map"].sum(-1), 1, atol=1e-5)


@bundled
@pytest.mark.slow
def test_the_next_words_are_the_models_own(tmp_path: Path) -> None:
    import torch

    desk = Desk(Places(tmp_path))
    answer = Glance(model=f"bundled/{BUNDLED}", text=REPEATED).answer(desk)
    subject = desk.subject(f"bundled/{BUNDLED}")
    with torch.no_grad():
        chances = subject.forward(subject.batch(REPEATED))[0, -1].softmax(0)
    assert answer["next"][0]["text"] == " home"
    assert len(answer["next"]) == CANDIDATES
    for one in answer["next"]:
        assert one["chance"] == pytest.approx(float(chances[one["id"]]), abs=1e-6)


@bundled
@pytest.mark.slow
def test_a_last_word_that_is_new_has_nothing_to_copy(tmp_path: Path) -> None:
    answer = Glance(model=f"bundled/{BUNDLED}", text="Once upon a time").answer(Desk(Places(tmp_path)))
    assert answer["head"] is None


@bundled
@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "   ", "word " * (MOST_TOKENS + 1)])
def test_no_text_and_too_much_text_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput):
        Glance(model=f"bundled/{BUNDLED}", text=text[:400]).answer(Desk(Places(tmp_path)))
