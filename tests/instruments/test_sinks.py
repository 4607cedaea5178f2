import numpy as np
import pytest
import torch
from torch import nn

from glassworks.anatomy import Subject, TokenBatch
from glassworks.instruments import SinkNorms, find_sinks
from glassworks.instruments.base import pieces
from glassworks.instruments.sinks import acting_layers
from tests.families import VOCABULARY, tiny
from tests.families import subject as examined


class Planted(nn.Module):
    """A layer that adds a constant vector to token 3 only."""

    def __init__(self, layer: nn.Module, amount: float) -> None:
        super().__init__()
        self.layer, self.amount = layer, amount

    def forward(self, x: torch.Tensor, *given: object, **named: object) -> torch.Tensor:
        change = torch.zeros_like(x)
        change[..., 0] = self.amount * SINK[:, : x.shape[1]]
        return self.layer(x, *given, **named) + change


SINK = torch.zeros(1, 9)
SINK[0, 3] = 1.0
BATCH = TokenBatch(torch.arange(9)[None] + torch.tensor([[0], [11], [23]]))


def planted() -> Subject:
    """Layer 1 of five writes a sink at position 3, layer 3 erases it."""
    model = tiny("llama", layers=5)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(0.05)
            layer.mlp.down_proj.weight.mul_(0.05)
    model.model.layers[1] = Planted(model.model.layers[1], 1000.0)
    model.model.layers[3] = Planted(model.model.layers[3], -1000.0)
    return Subject.of(model, layers="model.layers")


def test_a_planted_sink_is_found_with_the_layers_that_write_and_erase_it() -> None:
    found = find_sinks(planted(), BATCH)
    assert (found.writers, found.erasers, found.protected) == ((1,), (3,), (1, 3))
    assert found.positions == ((3,),) * 3
    assert found.ratios.shape == (3, 6)
    assert (found.ratios[:, [0, 1, 4, 5]] < 3).all()
    assert (found.ratios[:, 2:4] > 50).all()


def test_a_sink_of_one_text_in_three_is_listed_but_no_layer_is_blamed() -> None:
    one_text = BATCH.ids.clone()
    subject = planted()
    plain = find_sinks(examined("llama"), one_text)
    assert plain.writers == plain.erasers == ()
    shorter = TokenBatch(one_text, torch.tensor([[True] * 9, [True] * 3 + [False] * 6, [True] * 2 + [False] * 7]))
    found = find_sinks(subject, shorter)
    assert found.positions == ((3,), (), ())
    assert found.writers == ()


def test_one_token_has_no_others_to_stand_out_from() -> None:
    found = find_sinks(examined("gpt2"), [5])
    assert found.writers == ()
    assert np.isnan(found.ratios).all()


def test_the_measurement_names_token_and_layers_and_does_not_depend_on_the_pieces(monkeypatch) -> None:
    subject = planted()
    whole = SinkNorms().read(subject, BATCH)
    assert acting_layers(whole) == ((1,), (3,))
    assert whole.columns["sink tokens"] == "3 (3/3)"
    assert SinkNorms().read(subject, TokenBatch(BATCH.ids[:1])).columns["sink tokens"] == "3 3"
    monkeypatch.setattr("glassworks.instruments.base.PIECE_TOKENS", 9)
    np.testing.assert_allclose(SinkNorms().read(subject, BATCH).values, whole.values, rtol=1e-5)
    assert "L1" in SinkNorms().draw(whole).svg()


@pytest.mark.parametrize("side", ["left", "right"])
def test_pieces_drop_the_padding_that_none_of_their_sequences_needs(side: str) -> None:
    mask = torch.arange(6)[None] < torch.tensor([[2], [3], [6]])
    mask = mask.flip(1) if side == "left" else mask
    batch = TokenBatch(torch.randint(0, VOCABULARY, (3, 6), generator=torch.Generator().manual_seed(0)), mask)
    parts = list(pieces(batch, tokens=12))
    assert [part.ids.shape for part in parts] == [(2, 3), (1, 6)]
    assert parts[1].mask is None
    for rows, part in ((slice(0, 2), parts[0]), (slice(2, 3), parts[1])):
        assert torch.equal(part.ids[part.real], batch.ids[rows][batch.real[rows]])
    assert list(pieces(batch, tokens=18)) == [batch]
