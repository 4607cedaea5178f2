import numpy as np
import pytest

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput, StrangeModel
from glassworks.core.text import say
from glassworks.evidence.measurements import Measurement
from glassworks.instruments import HeadScores, LogitLens
from glassworks.instruments.examine import Examination, examine, standard_instruments
from glassworks.instruments.head_scores import QUANTITIES, SCORES, not_measurable
from glassworks.instruments.summary import head_line
from tests.families import subject as examined
from tests.planted.models import induction_head


def scores(value: float, low: float, high: float, chance: float) -> Measurement:
    numbers = np.tile(np.array([value, low, high, chance, 9.0]), (len(SCORES), 1, 1, 1))
    coords = {"score": SCORES, "layer": (1,), "head": (0,), "quantity": QUANTITIES}
    return Measurement("head_scores", say("missing"), numbers, ("score", "layer", "head", "quantity"), coords, "")


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ((0.4, 0.3, 0.5, 0.1), "Head L1H0 scores highest for induction: 0.40 [0.30, 0.50], where chance gives 0.10."),
        ((0.1, 0.0, 0.2, 0.08), "No head stands out for induction on this text (best: L1H0, 0.10 [0.00, 0.20]; chance 0.08)."),
        ((0.04, 0.03, 0.05, 0.08), "No head stands out for induction on this text (best: L1H0, 0.04 [0.03, 0.05]; chance 0.08)."),
        ((0.4, np.nan, np.nan, 0.1), "No head stands out for induction on this text (best: L1H0, 0.40; chance 0.10)."),
    ],
)  # fmt: skip
def test_a_head_stands_out_only_where_its_interval_lies_above_chance(numbers, says: str) -> None:
    told = head_line(scores(*numbers), "induction")
    assert told is not None
    assert told.en == says


def summary(found: Examination) -> str:
    return "\n".join(line.says.en for line in found.page().summary)


def test_a_text_without_repeats_has_no_induction_score_but_the_random_tokens_have() -> None:
    found = examine(examined("llama"), [1, 2, 3, 4])
    told = summary(found)
    assert "Not measurable on this text: duplicate token, induction;" in told
    assert "for induction on this text" not in told
    assert "On repeated random tokens" in told
    figure = found.readings["head_scores"].figure
    assert "Not measurable on this text: duplicate token, induction" in figure.caption.en
    titles = [section.title.en for section in found.page().sections]
    assert "Induction on repeated random tokens" in titles


def test_one_token_measures_no_score_and_is_one_token() -> None:
    found = examine(examined("llama"), [7])
    told = summary(found)
    assert "previous token, duplicate token, induction, first token (sink)" in told
    assert "it was given 1 token." in told


def test_a_text_with_repeats_leaves_nothing_out() -> None:
    subject = examined("llama")
    assert not_measurable(HeadScores().read(subject, subject.batch([1, 2, 3, 1, 2, 3]))) is None


def test_random_tokens_are_for_causal_models_of_fifty_tokens() -> None:
    kinds = {
        name: [one.kind for one in standard_instruments(subject)]
        for name, subject in (
            ("llama", examined("llama")),
            ("bert", examined("bert")),
            ("few tokens", Subject.of(induction_head())),
        )
    }
    assert "repeated_tokens" in kinds["llama"]
    assert "repeated_tokens" not in kinds["bert"] + kinds["few tokens"]


def test_the_seed_of_an_examination_draws_its_random_tokens() -> None:
    subject = examined("llama")
    says = [examine(subject, [1, 2], seed=seed).readings["repeated_tokens"].measurement.says.en for seed in (0, 5)]
    assert "seed 0" in says[0]
    assert "seed 5" in says[1]


def test_an_examination_describes_itself_in_one_line() -> None:
    assert len(repr(examine(examined("llama"), [1, 2, 3, 1]))) < 300


@pytest.mark.parametrize("problem", [InvalidInput(say("missing")), StrangeModel(say("missing"))])
def test_an_instrument_that_nobody_named_is_left_out_where_it_cannot_read(monkeypatch, problem) -> None:
    def refuse(*given: object) -> None:
        raise problem

    monkeypatch.setattr(LogitLens, "read", refuse)
    subject = Subject.of(induction_head())
    found = examine(subject, [1, 2, 3, 1, 2, 3])
    assert found.skipped["logit_lens"] is problem
    assert "attention_maps" in found.readings
    with pytest.raises(type(problem)):
        examine(subject, [1, 2, 3, 1, 2, 3], [LogitLens()])
