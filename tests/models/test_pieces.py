"""A sequence read in pieces has the loss and the gradients of one pass, whichever way they are taken."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from glassworks.core.errors import InvalidInput
from glassworks.mixers import Infini, Linear, Softmax
from glassworks.models import GlassworksForCausalLM, TransformerSpec, build_model
from glassworks.models.pieces import Reading, pieces_loss, read_in_pieces
from glassworks.tensors.seeds import Seed

SPEC = TransformerSpec(
    vocabulary=11,
    width=8,
    depth=2,
    heads=2,
    mixers=(Linear(), Infini(segment=3, write="delta")),
    positions="rotary",
)
CHANCE = torch.Generator().manual_seed(0)
IDS = torch.randint(0, 11, (2, 14), generator=CHANCE)
MASK = torch.rand(2, 14, generator=CHANCE) < 0.7
WRITTEN = 3 * torch.rand(2, 14, generator=CHANCE, dtype=torch.float64)


def loss(logits: Tensor, positions: slice) -> Tensor:
    each = F.cross_entropy(logits.mT, IDS[:, positions], reduction="none")
    return (each * MASK[:, positions]).sum()


def built(spec: TransformerSpec = SPEC) -> GlassworksForCausalLM:
    return build_model(spec, Seed(1), torch.float64)


def gradients(model: GlassworksForCausalLM) -> dict[str, Tensor]:
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("checkpoint", [True, False])
@pytest.mark.parametrize(
    "piece", [pytest.param(4, marks=pytest.mark.slow), 5, pytest.param(30, marks=pytest.mark.slow)]
)
def test_loss_and_gradients_are_those_of_one_pass(checkpoint: bool, piece: int) -> None:
    model = built()
    whole = loss(model(IDS, written=WRITTEN).logits, slice(None))
    whole.backward()
    expected = gradients(model)
    total = pieces_loss(model, IDS, Reading(piece, checkpoint), loss, WRITTEN)
    assert not total.requires_grad
    assert_close(total, whole.detach(), rtol=1e-9, atol=1e-11)
    found = gradients(model)
    assert found.keys() == expected.keys() == dict(model.named_parameters()).keys()
    for name, gradient in expected.items():
        assert_close(found[name], gradient, rtol=1e-9, atol=1e-11, msg=name)


def test_truncated_gradients_end_at_the_truncation() -> None:
    model = built()
    found = []
    for checkpoint in (True, False):
        pieces_loss(model, IDS, Reading(4, checkpoint, truncate_after=2), loss)
        found.append(gradients(model))
    for name, gradient in found[0].items():
        assert_close(found[1][name], gradient, rtol=1e-9, atol=1e-11, msg=name)
    # The same by hand: two pieces at a time, from memories that are numbers only.
    memories, seen = None, 0
    for start in range(0, 14, 8):
        share = torch.zeros(())
        for piece in read_in_pieces(model, IDS[:, start : start + 8], 4, memories, seen):
            positions = slice(start + piece.positions.start, start + piece.positions.stop)
            share, memories = share + loss(piece.logits, positions), piece.memories
        share.backward()
        assert memories is not None
        memories, seen = tuple(m and m.mapped(Tensor.detach) for m in memories), start + 8
    for name, gradient in gradients(model).items():
        assert_close(found[0][name], gradient, rtol=1e-9, atol=1e-11, msg=name)


def test_without_backward_nothing_is_added_and_pieces_hand_on_their_memories() -> None:
    model = built()
    with torch.no_grad():
        total = pieces_loss(model, IDS, Reading(4), loss, backward=False)
        whole = model(IDS).logits
        pieces = list(read_in_pieces(model, IDS, 4))
        assert_close(torch.cat([p.logits for p in pieces], 1), whole, rtol=1e-9, atol=1e-11)
        rest = list(read_in_pieces(model, IDS[:, 8:], 5, pieces[1].memories, seen=8))
    assert not gradients(model)
    assert_close(total, loss(whole, slice(None)), rtol=1e-9, atol=1e-11)
    assert_close(torch.cat([p.logits for p in rest], 1), whole[:, 8:], rtol=1e-9, atol=1e-11)
    assert [(p.positions.start, p.positions.stop) for p in rest] == [(0, 5), (5, 6)]


def test_each_piece_is_asked_for_its_loss_once_and_one_piece_of_activations_is_kept() -> None:
    model, asked = built(), []

    def counting(logits: Tensor, positions: slice) -> Tensor:
        asked.append(positions.start)
        return loss(logits, positions)

    pieces_loss(model, IDS, Reading(8), counting)
    assert asked == [8, 0]


def test_a_model_that_keeps_every_key_is_refused() -> None:
    keeps = built(SPEC.replaced("mixers", [Softmax().to_json()]))
    with pytest.raises(InvalidInput, match="keeps every key"):
        pieces_loss(keeps, IDS, Reading(8), loss)
    with pytest.raises(InvalidInput, match="0 tokens"):
        pieces_loss(built(), IDS, Reading(0), loss)
    with pytest.raises(InvalidInput, match="no tokens"):
        pieces_loss(built(), IDS[:, :0], Reading(4), loss)
    with pytest.raises(InvalidInput, match="0 pieces"):
        pieces_loss(built(), IDS, Reading(4, truncate_after=0), loss)
