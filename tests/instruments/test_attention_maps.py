import numpy as np
import pytest
import torch

from glassworks.anatomy import Subject, TokenBatch
from glassworks.anatomy.tokens import padded
from glassworks.core.errors import InvalidInput
from glassworks.instruments import AttentionMaps
from tests.families import subject as examined
from tests.planted.models import first_token_sink, previous_token_head

BATCH = TokenBatch(torch.tensor([[5, 9, 5, 9, 17, 30]]))


def test_the_planted_previous_token_head_lights_the_line_below_the_diagonal() -> None:
    found = AttentionMaps().read(Subject.of(previous_token_head()), BATCH).at(layer=0, head=0).values
    assert (np.diag(found, -1) > 0.9).all()


def test_the_planted_sink_lights_the_first_column() -> None:
    found = AttentionMaps().read(Subject.of(first_token_sink()), BATCH).at(layer=0, head=0).values
    assert (found[1:, 0] > 0.8).all()


def test_rows_sum_to_one_and_padding_is_left_out() -> None:
    batch = padded([[5, 9, 5], [1, 2, 3, 4, 5]], side="left")
    found = AttentionMaps().read(examined("llama"), batch)
    assert found.values.shape == (3, 4, 3, 3)
    np.testing.assert_allclose(found.values.sum(-1), 1.0, atol=1e-5)
    second = AttentionMaps(sequence=1).read(examined("llama"), batch)
    assert second.coords["query"] == ("0 1", "1 2", "2 3", "3 4", "4 5")


def test_one_head_can_be_asked_for_and_a_missing_one_is_refused() -> None:
    one = AttentionMaps(layer=-1, head=2).read(examined("gpt2"), BATCH)
    assert (one.coords["layer"], one.coords["head"]) == ((2,), (2,))
    assert "L2H2" in AttentionMaps(layer=-1, head=2).draw(one).title.en
    for wrong in (AttentionMaps(layer=3), AttentionMaps(head=4), AttentionMaps(sequence=1)):
        with pytest.raises(InvalidInput, match="there is no such"):
            wrong.read(examined("gpt2"), BATCH)
