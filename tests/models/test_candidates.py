import math

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

import glassworks as gw
from glassworks.anatomy import Alphabet
from glassworks.core.errors import InvalidInput, InvalidSpec
from glassworks.models.byte_tokenizer import byte_tokenizer
from glassworks.models.candidates import Beholder, Chooser, Sampling, cut, likeliest
from glassworks.models.token_bytes import TokenBytes, shown
from glassworks.tensors.seeds import Seed
from tests.assets import asset

LOGITS = torch.tensor([2.0, 0.0, 1.0, -1.0, 3.0])
LETTERS = TokenBytes(Alphabet(tuple("abcde")))


def test_candidates_have_the_closed_form_probabilities() -> None:
    step = Beholder(Sampling(temperature=2.0, top_k=2), LETTERS, 3).see(LOGITS, 2)
    exact = torch.softmax(LOGITS.double() / 2, -1)
    assert [one.text for one in step.candidates] == ["e", "a", "c"]
    assert [one.probability for one in step.candidates] == pytest.approx(exact[[4, 0, 2]].tolist())
    assert [one.is_kept for one in step.candidates] == [True, True, False]
    assert [one.is_chosen for one in step.candidates] == [False, False, True]
    assert step.entropy_bits == pytest.approx(-float((exact * exact.log2()).sum()), abs=1e-5)
    # At temperature 0 they are those at 1; a taken token beyond them comes last, with its rank.
    step = Beholder(Sampling(), LETTERS, 2).see(LOGITS, 3)
    assert [(one.text, one.rank) for one in step.candidates] == [("e", 1), ("a", 2), ("d", 5)]
    assert step.chosen.probability == pytest.approx(float(torch.softmax(LOGITS, -1)[3]))
    # More are asked for than there are.
    assert len(Beholder(Sampling(), LETTERS, 9).see(LOGITS, 0).candidates) == 5


@pytest.mark.parametrize(("top_k", "top_p"), [(None, 0.9), (7, None), (7, 0.6), (1, 0.1), (50, 1e-9), (None, 0.999)])
def test_what_is_cut_is_what_the_library_cuts(top_k, top_p) -> None:
    logits = torch.randn(3000, generator=Seed(1).generator()) * 2
    scores = TemperatureLogitsWarper(0.7)(torch.zeros(1, 1), logits[None])
    if top_k is not None:
        scores = TopKLogitsWarper(top_k)(torch.zeros(1, 1), scores)
    if top_p is not None:
        scores = TopPLogitsWarper(top_p)(torch.zeros(1, 1), scores)
    ours = cut(logits / 0.7, top_k, top_p)
    assert torch.equal(torch.isfinite(ours), torch.isfinite(scores[0]))
    step = Beholder(Sampling(temperature=0.7, top_k=top_k, top_p=top_p), TokenBytes(None), 60).see(logits, 0)
    assert all(math.isfinite(float(ours[one.token])) == one.is_kept for one in step.candidates if not one.is_chosen)


@pytest.mark.parametrize("size", [1, 7, 128, 3001, 49152])
def test_the_likeliest_of_many_are_found_without_sorting_them(size) -> None:
    logits = torch.randn(size, generator=Seed(size).generator())
    logits[size // 2] = -math.inf
    for count in (1, 10, 63):
        values, places = likeliest(logits, count)
        exact = torch.topk(logits, min(count, size))
        assert torch.equal(values, exact.values)
        assert torch.equal(places, exact.indices)


def test_one_seed_draws_the_same_and_drawn_shares_are_the_probabilities() -> None:
    choice = Sampling(temperature=1.0, seed=3)
    one, two = Chooser(choice), Chooser(choice)
    drawn = [one.choose(LOGITS) for _ in range(500)]
    assert drawn == [two.choose(LOGITS) for _ in range(500)]
    shares = torch.bincount(torch.tensor(drawn), minlength=5) / 500
    # Four standard deviations of a share.
    assert torch.allclose(shares, torch.softmax(LOGITS, -1), atol=4 * 0.5 / 500**0.5)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="temperature 0"):
        Sampling(top_p=0.5)
    with pytest.raises(InvalidSpec, match="temperature 0"):
        Sampling(top_k=5)
    for choice in (Sampling(), Sampling(temperature=1.0)):
        with pytest.raises(InvalidInput, match="not numbers"):
            Chooser(choice).choose(torch.tensor([1.0, math.nan]))
    with pytest.raises(InvalidInput, match="no candidate"):
        Beholder(Sampling(), LETTERS, 0)


def test_characters_of_several_tokens_are_whole_where_they_end() -> None:
    spelled = TokenBytes(byte_tokenizer())
    assert spelled.kind == "byte_level"
    beholder, logits = Beholder(Sampling(), spelled, 1), torch.zeros(256)
    texts = [beholder.see(logits, byte).chosen.text for byte in "é你a".encode()]
    assert texts == ["\\xc3", "é", "\\xe4", "\\xe4\\xbd", "你", "a"]
    assert spelled.text(list("水🙂".encode())).decode() == "水🙂"
    assert shown(b"\xe4\xbd", b"\xa0!") == ("你!", b"")
    # What can never become a character is shown at once.
    assert shown(b"", b"\xff") == ("�", b"")
    assert shown(b"\xe4", b"a") == ("�a", b"")


def test_tokens_of_every_spelling_have_their_bytes() -> None:
    tokenizer = gw.load(asset("lm/stories260K/stories260K.bin"), device="cpu").tokenizer
    spelled = TokenBytes(tokenizer)
    assert spelled.kind == "sentencepiece"
    assert spelled.text(tokenizer.encode("Lily é 你")).decode() == " Lily é 你"
    assert spelled.of(1) == b"<s>"
    assert 1 in spelled.special


def test_seeing_candidates_changes_no_token(tmp_path) -> None:
    path = asset("lm/stories260K/stories260K.bin")
    plain = gw.generate(path, "Once", max_new_tokens=12, temperature=0.8, seed=2, device="cpu")
    seen = gw.generate(path, "Once", max_new_tokens=12, temperature=0.8, seed=2, candidates=5, device="cpu")
    assert plain.ids == seen.ids == tuple(step.chosen.token for step in seen.steps)
    assert "".join(step.chosen.text for step in seen.steps) == seen.text
    assert plain.steps == ()
