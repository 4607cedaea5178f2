from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glassworks.anatomy import Subject, TokenBatch
from glassworks.core.errors import BrokenFile, InvalidInput
from glassworks.instruments import TunedLens, train_tuned_lens
from glassworks.instruments.states import digest_of, held_out_documents
from glassworks.instruments.translators import Translators
from glassworks.tensors.files import save_tensors
from glassworks.tensors.seeds import Seed
from tests.families import VOCABULARY, tiny
from tests.families import subject as examined


class Turned(nn.Module):
    """A layer that reads a stream turned by one matrix and leaves it turned by another."""

    def __init__(self, layer: nn.Module, before: Tensor, after: Tensor) -> None:
        super().__init__()
        self.layer, self.before, self.after = layer, before, after

    def forward(self, x: Tensor, *given: object, **named: object) -> Tensor:
        return self.layer(x @ self.before, *given, **named) @ self.after


def turned() -> Subject:
    """Between layers 1 and 2 the stream is turned, so that only a translator can read it there."""
    model = tiny("llama")
    turn = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(0))).Q
    nothing = torch.eye(32)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(0.1)
            layer.mlp.down_proj.weight.mul_(0.1)
    model.model.layers[1] = Turned(model.model.layers[1], nothing, turn)
    model.model.layers[2] = Turned(model.model.layers[2], turn.T, nothing)
    return Subject.of(model, layers="model.layers")


DOCUMENTS = TokenBatch(torch.randint(0, VOCABULARY, (40, 16), generator=torch.Generator().manual_seed(1)))
FEW = TokenBatch(DOCUMENTS.ids[:6])


def test_a_turned_stream_is_read_by_the_tuned_lens_alone_on_documents_it_has_not_seen() -> None:
    found = TunedLens().read(turned(), DOCUMENTS).at(quantity="divergence")
    # States: embedding, layers 0 to 2; layer 1 leaves the stream turned.
    logit, tuned = (found.at(lens=lens).values for lens in ("logit lens", "tuned lens"))
    assert logit[2, 0] > 1.0
    assert tuned[2, 0] < 0.1 * logit[2, 0]
    assert tuned[2, 1] < tuned[2, 0] < tuned[2, 2]
    np.testing.assert_allclose(found.values[:, -1, 0], 0.0, atol=1e-6)


@pytest.mark.parametrize("words", [2048, 12])
def test_steps_come_nearer_than_the_regression_and_leave_no_gradient_in_the_model(monkeypatch, words: int) -> None:
    # With twelve words compared in full and twelve drawn, most of the vocabulary is only ever sampled.
    monkeypatch.setattr("glassworks.instruments.translators.HEAD_WORDS", words)
    monkeypatch.setattr("glassworks.instruments.translators.DRAWN_WORDS", words)
    subject = turned()
    values = [
        TunedLens(steps=steps).read(subject, DOCUMENTS).at(lens="tuned lens", quantity="divergence", spread="value")
        for steps in (0, 30)
    ]
    assert (values[1].values[:3] < values[0].values[:3]).all()
    assert all(parameter.grad is None for parameter in subject.model.parameters())


def test_cross_entropy_at_the_end_is_the_models_own_on_the_held_out_documents() -> None:
    subject = examined("gpt2")
    settings = TunedLens(steps=0, measured=10_000)
    found = settings.read(subject, DOCUMENTS)
    seed = Seed(0).child("tuned lens").child("held out")
    held = held_out_documents([digest_of(ids) for ids in DOCUMENTS.ids], seed, 0.25)
    assert int(held.sum()) == 10
    ids = DOCUMENTS.ids[held]
    with torch.no_grad():
        logs = subject.forward(TokenBatch(ids)).log_softmax(-1)
    own = -logs[:, :-1].gather(-1, ids[:, 1:, None]).mean()
    np.testing.assert_allclose(found.at(state=2, quantity="cross-entropy", spread="value").values, own, rtol=1e-4)


def test_equal_seeds_give_equal_lenses_and_a_kept_lens_reads_the_same(tmp_path: Path) -> None:
    subject = examined("llama")
    path = tmp_path / "lens.safetensors"
    kept = TunedLens(steps=3, keep=str(path)).read(subject, FEW)
    np.testing.assert_array_equal(TunedLens(steps=3).read(subject, FEW).values, kept.values)
    again = TunedLens(load=str(path)).read(subject, FEW)
    np.testing.assert_allclose(again.values, kept.values, rtol=1e-6)
    assert again.columns["held-out documents"] == kept.columns["held-out documents"]
    assert "loaded from" in again.caveats[0].en


def test_what_a_lens_was_trained_on_is_never_held_out(tmp_path: Path) -> None:
    subject = examined("llama")
    path = tmp_path / "lens.safetensors"
    train_tuned_lens(subject, FEW, TunedLens(steps=0)).save(path)
    with pytest.raises(InvalidInput, match="trained on all"):
        TunedLens(load=str(path)).read(subject, FEW)
    fresh = TunedLens(load=str(path)).read(subject, TokenBatch(DOCUMENTS.ids[:8]))
    assert fresh.columns["held-out documents"] == "2"


def test_a_lens_of_another_model_or_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lens.safetensors"
    train_tuned_lens(Subject.of(tiny("llama", layers=2)), FEW, TunedLens(steps=0)).save(path)
    with pytest.raises(InvalidInput, match="another model"):
        TunedLens(load=str(path)).read(examined("llama"), FEW)
    save_tensors(path, {"other": torch.zeros(2)})
    with pytest.raises(BrokenFile, match="no tuned lens"):
        Translators.load(path)


def test_one_document_cannot_be_split_and_equal_ones_stay_together() -> None:
    with pytest.raises(InvalidInput, match="nothing to hold out"):
        TunedLens().read(examined("llama"), TokenBatch(FEW.ids[:1].repeat(3, 1)))
    names = ["a", "b", "a", "c", "b", "a"]
    for seed in range(5):
        held = held_out_documents(names, Seed(seed), 0.3)
        assert held[0] == held[2] == held[5]
        assert held[1] == held[4]
        assert 0 < held.sum() < 6


def test_the_limit_leaves_out_whole_documents_and_says_so() -> None:
    found = TunedLens(steps=0, tokens=50).read(examined("llama"), FEW)
    assert any("3 documents were left out" in caveat.en for caveat in found.caveats)
    assert any("trained on 32 tokens" in caveat.en for caveat in found.caveats)
