import numpy as np
import pytest

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput, StrangeModel
from glassworks.core.text import say
from glassworks.evidence.measurements import Measurement
from glassworks.instruments import AttentionMaps, HeadScores, LogitLens, MemoryMatrix, Similarity, SinkNorms
from glassworks.instruments.examine import MANY, Examination, examine, standard_instruments
from glassworks.instruments.head_scores import QUANTITIES, SCORES, not_measurable
from glassworks.instruments.summary import head_line
from glassworks.instruments.visit import Visit, named_apart
from tests.families import subject as examined
from tests.instruments.test_stacks import t5
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


TEXTS = [[(7 * text + 3 * place) % 61 for place in range(12)] for text in range(9)]


@pytest.mark.slow
def test_training_instruments_come_with_eight_texts_and_the_first_text_is_shown() -> None:
    subject = examined("llama")
    kinds = {one.kind for one in standard_instruments(subject, texts=MANY)}
    assert kinds - {one.kind for one in standard_instruments(subject, texts=MANY - 1)} == {"tuned_lens", "linear_probe"}
    found = examine(subject, TEXTS)
    assert "it was given 9 texts of 108 tokens in all." in summary(found)
    assert "Half way, after layer 1, the tuned lens is" in summary(found)
    maps = found.readings["attention_maps"].measurement
    assert maps.values.shape[2:] == (12, 12)
    assert [int(name.split()[1]) for name in maps.coords["query"]] == TEXTS[0]
    assert len(found.to_json()["tokens"]) == 9


def test_what_gathers_reads_every_piece_in_one_pass_and_finds_what_it_finds_alone(monkeypatch) -> None:
    subject = examined("gpt2")
    looks = [HeadScores(), SinkNorms(), AttentionMaps(sequence=8), LogitLens()]
    alone = {look.kind: look.read(subject, subject.batch(TEXTS)).values for look in looks}
    monkeypatch.setattr("glassworks.instruments.base.PIECE_TOKENS", 40)
    runs: list[int] = []
    handle = subject.model.register_forward_hook(lambda *_: runs.append(1))
    visit = Visit(subject, subject.batch(TEXTS), named_apart(looks))
    visit.read(lambda _: None)
    handle.remove()
    for name, values in alone.items():
        np.testing.assert_allclose(visit.measurements[name].values, values, rtol=1e-4, atol=1e-5)
    # Three pieces of three texts, and the ninth text again for the map that asks for it.
    assert len(runs) == 4


def test_two_looks_of_one_kind_keep_apart_on_the_page() -> None:
    looks = [AttentionMaps(layer=0), AttentionMaps(layer=1), MemoryMatrix(), Similarity()]
    assert list(named_apart(looks)) == ["attention_maps", "attention_maps_2", "memory_matrix_w_k1", "similarity"]
    found = examine(examined("llama"), [1, 2, 3, 1], looks[:2])
    assert [reading.figure.name for reading in found.readings.values()] == ["attention-maps", "attention-maps-2"]
    assert found.html().count('id="attention-maps-2"') == 1


def test_the_report_is_in_the_order_of_the_reader() -> None:
    page = examine(examined("llama"), TEXTS).page()
    assert [section.key for section in page.sections] == [
        "tokens", "attention", "repeated", "lens", "probes", "layers", "surgery",
    ]  # fmt: skip
    attention = page.sections[1]
    assert [figure.name for figure in attention.folded] == ["attention-maps"]
    assert attention.figures[0].name == "head-scores"
    names = [figure.name for section in page.sections for figure in (*section.figures, *section.folded)]
    assert len(names) == len(set(names))


def test_an_encoder_is_read_beside_a_decoder_that_reads_what_it_wrote() -> None:
    found = examine(t5(), [[5, 9, 5, 9, 17], [3, 8, 1]])
    assert found.batch.ids.shape[1] > 2
    assert {"encoder_sinks", "encoder_similarity", "cross_attention_maps", "encoder_head_scores"} <= set(found.readings)
    assert "repeated_tokens" not in found.readings
    # What stands behind the end of a text is no token of it.
    assert all(row[-1] != 0 or len(row) == 1 for row in found.to_json()["tokens"])
    titles = [table.title.en for table in found.page().sections[0].tables]
    assert titles == ["The tokens as the model sees them", "The tokens that the encoder reads"]
    assert "In the encoder:" in summary(found)
