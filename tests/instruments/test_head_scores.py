import numpy as np
import pytest
import torch

from glassworks.anatomy import Subject, TokenBatch
from glassworks.anatomy.tokens import padded
from glassworks.core.errors import InvalidInput
from glassworks.instruments import HeadScores
from glassworks.instruments.head_scores import head_targets, repeated_random_tokens, uniform_map
from glassworks.tensors.seeds import Seed
from tests.families import subject as examined
from tests.planted.models import duplicate_token_head, first_token_sink, induction_head, previous_token_head

PLANTED = {
    "previous_token": (previous_token_head, 0),
    "duplicate_token": (duplicate_token_head, 0),
    "induction": (induction_head, 1),
    "first_token": (first_token_sink, 0),
}


@pytest.mark.parametrize("score", PLANTED)
def test_the_planted_head_is_found_and_is_nothing_else(score: str) -> None:
    make, layer = PLANTED[score]
    subject = Subject.of(make())
    found = HeadScores().read(subject, repeated_random_tokens(subject, Seed(0), sequences=4, half=20))
    quantities = found.coords["quantity"]

    def number(of: str, quantity: str) -> float:
        return float(found.at(score=of, layer=layer).values[0, quantities.index(quantity)])

    assert number(score, "value") > 0.5
    assert number(score, "low") > 3 * number(score, "chance")
    for other in set(PLANTED) - {score}:
        assert number(other, "value") < 0.25


def test_uniform_attention_scores_exactly_chance() -> None:
    batch = TokenBatch(torch.tensor([[3, 4, 3, 4, 4, 3]]))
    spread = uniform_map(batch, causal=True)
    assert torch.allclose(spread[0, 0, 3], torch.tensor([0.25, 0.25, 0.25, 0.25, 0.0, 0.0]))
    targets = head_targets(batch)
    # Query 2 (token 3): duplicate at 0, induction at 1. Query 4 (token 4, earlier at 1 and 3): after them 2, not 4 itself.
    assert targets["duplicate_token"][0, 2].tolist() == [1, 0, 0, 0, 0, 0]
    assert targets["induction"][0, 2].tolist() == [0, 1, 0, 0, 0, 0]
    assert targets["induction"][0, 4].tolist() == [0, 0, 1, 0, 0, 0]
    assert targets["first_token"][0, 0].sum() == 0
    assert targets["previous_token"][0, 5].tolist() == [0, 0, 0, 0, 1, 0]


def test_padding_is_no_token() -> None:
    rows = [[3, 4, 3], [5, 6, 7, 5, 6]]
    for side in ("left", "right"):
        targets = head_targets(padded(rows, side=side))
        place = 2 if side == "left" else 0
        assert targets["first_token"][0, place + 1, place] == 1
        assert targets["duplicate_token"][0].sum() == 1
        assert targets["previous_token"][0].sum() == 2


def test_a_text_without_repeats_says_so_instead_of_scoring_zero() -> None:
    found = HeadScores().read(examined("llama"), TokenBatch(torch.tensor([[1, 2, 3, 4]])))
    assert np.isnan(found.at(score="induction", quantity="value").values).all()
    assert not np.isnan(found.at(score="previous_token", quantity="value").values).any()
    assert any("No token repeats" in caveat.en for caveat in found.caveats)


def test_random_weights_score_near_chance() -> None:
    subject = examined("gpt2")
    found = HeadScores().read(subject, repeated_random_tokens(subject, Seed(1), sequences=8, half=12))
    values = found.at(score="induction", quantity="value").values
    chance = found.at(score="induction", quantity="chance").values
    assert np.abs(values - chance).max() < 0.25


def test_repeated_tokens_are_repeated_and_follow_their_seed() -> None:
    subject = examined("gpt2")
    batch = repeated_random_tokens(subject, Seed(0), sequences=3, half=100)
    half = batch.ids.shape[1] // 2
    assert half == 24
    assert torch.equal(batch.ids[:, :half], batch.ids[:, half:])
    assert torch.equal(batch.ids, repeated_random_tokens(subject, Seed(0), sequences=3, half=100).ids)
    with pytest.raises(InvalidInput, match="too short"):
        repeated_random_tokens(subject, Seed(0), half=1)
