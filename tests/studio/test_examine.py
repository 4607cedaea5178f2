"""What the Examine page is told: the numbers are the instruments' own, and what cannot be answered says why."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from glassworks.anatomy import Alphabet, Subject, TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.instruments import Ablation, AttentionMaps, HeadScores, LogitLens, Patching, RepeatedTokens, Similarity
from glassworks.instruments.head_scores import SCORES
from glassworks.studio.examine.given import DRAWN, SAMPLE, command_of, documents_of, text_of, tokens_of
from glassworks.studio.examine.heads import Which, as_bytes, large_map_of, pooled, repeated_of, wall_of
from glassworks.studio.examine.lens import lens_of
from glassworks.studio.examine.patches import patched
from glassworks.studio.examine.sections import ablation_of, fidelity, likeness_of, part_of, passport
from glassworks.studio.frames import decode, encode
from glassworks.studio.questions.desk import Desk, Places, Shelved
from tests.families import VOCABULARY, subject
from tests.planted.models import induction_head

pytestmark = pytest.mark.slow
LETTERS = Alphabet(tuple("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,!?:;'é"[:VOCABULARY]))
IDS = "3 9 14 3 9 14 3 9"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def desk() -> Desk:
    return Desk(Places(Path()))


def reading(family: str) -> Subject:
    """A tiny model that reads letters."""
    found = subject(family)
    return Subject(found.model, found.anatomy, LETTERS, found.origin)


def test_the_wall_holds_every_head_and_the_scores_of_the_instrument() -> None:
    looked = subject("llama")
    batch = tokens_of(looked, IDS)
    wall = wall_of(looked, batch, "")
    scores, maps = HeadScores().read(looked, batch), AttentionMaps().read(looked, batch)
    for row, (layer, head) in enumerate(zip(wall["layers"], wall["heads"], strict=True)):
        np.testing.assert_allclose(wall["scores"][row], scores.values[:, layer, head], rtol=1e-6)
        np.testing.assert_array_equal(wall["tiles"][row], as_bytes(maps.values.reshape(-1, 8, 8))[row])
    assert len(wall["layers"]) == looked.anatomy.depth * looked.anatomy.heads


def test_a_long_text_is_shown_by_the_largest_weight_of_each_block() -> None:
    values = np.zeros((1, 130, 130))
    values[0, 129, 5] = 1.0
    small = pooled(values, 3)
    assert small.shape == (1, 44, 44)
    assert small[0, 43, 1] == 1.0
    assert small.sum() == 1.0


def test_thin_attention_keeps_a_colour() -> None:
    assert as_bytes(np.array([[[1.0, 0.01, 0.0]]])).tolist() == [[[255, 26, 0]]]


def test_the_planted_induction_head_is_the_one_that_is_marked() -> None:
    looked = Subject.of(induction_head())
    wall = wall_of(looked, tokens_of(looked, "3 9 14 7 11 3 9 14 7 11 3 9 14 7 11"), "")
    best = wall["best"][SCORES.index("induction")]
    assert (wall["layers"][best], wall["heads"][best]) == (1, 0)
    assert "Head L1H0 scores highest for induction" in wall["told"][0].en


def test_random_tokens_said_twice_score_as_the_instrument_does() -> None:
    looked = subject("llama")
    found = repeated_of(looked, 3)
    read = RepeatedTokens(seed=3).read(looked, TokenBatch(torch.zeros(1, 1, dtype=torch.long))).values
    for row, (layer, head) in enumerate(zip(found["layers"], found["heads"], strict=True)):
        np.testing.assert_allclose(found["scores"][row], read[:, layer, head], rtol=1e-6)


def test_random_tokens_said_twice_are_refused_to_models_that_look_ahead() -> None:
    with pytest.raises(InvalidInput, match="show nothing of this model"):
        repeated_of(subject("bert"), 0)


@pytest.mark.parametrize("which", ["", "encoder", "cross"])
def test_all_three_kinds_of_heads_of_an_encoder_decoder_have_a_wall(which: Which) -> None:
    looked = subject("t5")
    batch = tokens_of(looked, "5 6 7 8")
    wall = wall_of(looked, batch, which)
    large = large_map_of(looked, batch, which, wall["layers"][1], wall["heads"][1])
    np.testing.assert_array_equal(
        as_bytes(np.concatenate([large["map"][None] / wall["largest"], np.ones((1, *large["map"].shape))]))[0],
        wall["tiles"][1],
    )
    assert (wall["scores"] is None) == (which == "cross")


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_the_lens_of_a_window_is_that_of_the_whole_text(desk: Desk, family: str) -> None:
    looked = subject(family)
    batch = tokens_of(looked, IDS)
    whole = lens_of(desk, looked, batch, slice(0, 64), LogitLens(top=3))
    count = len(whole["positions"])
    part = lens_of(desk, looked, batch, slice(1, min(4, count)), LogitLens(top=3))
    shown = part["entropy"].shape[1]
    for name in ("entropy", "rank_of_true", "probability_of_true", "divergence_from_final"):
        np.testing.assert_allclose(part[name], whole[name][:, 1 : 1 + shown], atol=1e-5, equal_nan=True)
    np.testing.assert_array_equal(part["tokens"], whole["tokens"][:, 1 : 1 + shown])
    assert part["in_all"] == count


def test_the_lens_tells_each_stage_while_it_reads(desk: Desk) -> None:
    told: list[float] = []
    desk.tell = lambda label, done, total: told.append(done / total)
    lens_of(desk, subject("llama"), tokens_of(subject("llama"), IDS), slice(0, 4), LogitLens(halves=False))
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_lens_without_the_places_after_attention_equals_the_whole_one_at_the_ends(desk: Desk) -> None:
    looked = subject("gpt2")
    batch = tokens_of(looked, IDS)
    whole = lens_of(desk, looked, batch, slice(0, 8), LogitLens())
    ends = lens_of(desk, looked, batch, slice(0, 8), LogitLens(halves=False))
    np.testing.assert_allclose(ends["entropy"], whole["entropy"][whole["is_end"]], atol=1e-6)


def test_without_a_text_a_sample_is_read_and_the_command_says_the_same() -> None:
    looked, bare = reading("llama"), subject("llama")
    here = Shelved("gallery/x", Path("/models/x y"), "gallery", say("missing"), 1, "-")
    assert text_of(looked, "") == SAMPLE
    assert command_of(here, looked, "") == f"glassworks examine '/models/x y' --text '{SAMPLE}'"
    ids = [int(part) for part in text_of(bare, "").split()]
    assert ids == tokens_of(bare, "").ids[0].tolist()
    assert len(ids) == DRAWN
    assert command_of(here, bare, "").endswith(f"--tokens {','.join(map(str, ids))}")
    assert command_of(here, looked, "it's").endswith("""--text 'it'"'"'s'""")


def test_a_model_without_a_tokenizer_asks_for_ids() -> None:
    with pytest.raises(InvalidInput, match="reads token ids"):
        tokens_of(subject("llama"), "words")


def test_more_tokens_than_the_page_shows_are_refused() -> None:
    with pytest.raises(InvalidInput, match="more than this page shows"):
        tokens_of(subject("llama"), "1 2 3 4 5", most=4)


def test_passport_and_fidelity_are_the_reports_own_and_safe(desk: Desk) -> None:
    looked = reading("gpt2")
    named = Subject(looked.model, looked.anatomy, LETTERS, type(looked.origin)(HOSTILE))
    batch = tokens_of(named, "abc abc")
    about, checks = passport(desk, named, batch), fidelity(desk, named, batch)
    assert "<script>alert" not in about["passport"]
    assert "&lt;script&gt;" in about["passport"]
    assert checks["holds"]
    assert [row["holds"] for row in checks["checks"]] == [True, True, True]
    assert checks["html"].count("<li") == 3


def test_parts_of_the_report_come_in_the_readers_language(desk: Desk) -> None:
    desk.language = "zh"
    found = decode(encode(part_of(desk, subject("llama"), "layers", IDS, 0), "zh"))
    assert "lang-en" not in found["html"][0]
    assert "块影响" in found["html"][0] or "层" in found["html"][0]
    assert found["html"][0].count("<svg") == 2
    assert not any(line.isascii() for line in found["told"])


def test_a_part_that_fits_no_instrument_says_why(desk: Desk) -> None:
    with pytest.raises(InvalidInput, match="bigram world"):
        part_of(desk, subject("llama"), "memory", "", 0)


def test_probes_train_on_some_documents_and_tell_how_many(desk: Desk) -> None:
    looked = reading("llama")
    documents = "\n\n".join(f"{one} went to the {one} sea, and the {one} sea was near." for one in "abcdefgh")
    assert len(documents_of(looked, documents).ids) == 8
    found = part_of(desk, looked, "probes", documents, 0)
    assert found["texts"] == 8
    assert any("judged on 2 others" in line.en for line in found["caveats"])
    with pytest.raises(InvalidInput, match="no documents"):
        documents_of(looked, " \n\n ")


def test_likeness_is_the_instruments_with_the_angle_turned_round() -> None:
    looked = subject("llama")
    batch = tokens_of(looked, IDS)
    found, read = likeness_of(looked, batch, ""), Similarity().read(looked, batch).values
    np.testing.assert_allclose(found["values"][1], read[1], rtol=1e-6)
    np.testing.assert_allclose(found["values"][5], 1 - read[5], rtol=1e-6)


@pytest.mark.parametrize("what", ["layers", "heads"])
def test_what_is_lost_is_the_instruments_and_every_pass_is_told(desk: Desk, what: Literal["layers", "heads"]) -> None:
    told: list[tuple[float, float]] = []
    desk.tell = lambda label, done, total: told.append((done, total))
    looked = subject("gpt2")
    batch = tokens_of(looked, IDS)
    found = ablation_of(desk, looked, batch, Ablation(what=what, method="zero"))
    read = Ablation(what=what, method="zero").read(looked, batch).at(quantity="loss increase").values
    np.testing.assert_allclose(found["worse"], read.reshape(found["worse"].shape), rtol=1e-5)
    assert told[-1][0] == told[-1][1]


def test_patching_an_embedding_back_recovers_everything_at_the_word_that_differs(desk: Desk) -> None:
    looked = reading("gpt2")
    found = patched(desk, looked, "abcabc", Patching(corrupted="abdabc"))
    assert found["recovery"][0, 2] == pytest.approx(1.0, abs=1e-4)
    assert found["corrupted"][2] == "d"
    assert found["layers"][0].en == "embedding"
    with pytest.raises(InvalidInput, match="equally many tokens"):
        patched(desk, looked, "abc", Patching(corrupted="abcd"))


def test_nothing_of_the_model_is_changed_by_looking(desk: Desk) -> None:
    looked = subject("llama")
    batch = tokens_of(looked, IDS)
    before = looked.forward(batch)
    ablation_of(desk, looked, batch, Ablation(what="heads", method="mean"))
    assert torch.equal(before, looked.forward(batch))
