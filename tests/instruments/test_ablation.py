import weakref
from typing import Any

import numpy as np
import pytest
import torch

from glassworks.anatomy import Subject, TokenBatch
from glassworks.anatomy.tokens import padded
from glassworks.core.errors import InvalidInput
from glassworks.instruments import Ablation, replacing
from glassworks.instruments.ablation import _shuffled
from glassworks.instruments.scoring import divergences, log_probabilities, losses
from glassworks.tensors.seeds import Seed
from tests.families import subject as examined
from tests.families import tiny
from tests.planted.models import copying_layer

BATCH = TokenBatch(torch.tensor([[5, 9, 5, 9, 17, 30, 5, 9, 17]]))
SAME = TokenBatch(torch.full((1, 8), 7))  # what a copying model says is then what comes next


def test_without_the_layer_that_copies_the_answer_is_lost_and_without_the_empty_one_nothing() -> None:
    found = Ablation(what="layers", method="zero").read(Subject.of(copying_layer()), SAME)
    empty, copies = found.at(quantity="loss increase").values
    # A larger batch sums in another order, so the last bits may differ.
    assert abs(empty) < 1e-6
    assert copies > 2.0
    assert abs(found.at(quantity="divergence").values[0]) < 1e-6


@pytest.mark.parametrize("what", ["heads", "attention", "feedforward", "layers"])
def test_each_number_is_that_of_a_pass_with_only_that_part_replaced(what: str) -> None:
    subject = examined("llama")
    places = {"heads": "mixer.z", "attention": "mixer.out", "feedforward": "feedforward.out", "layers": "out"}
    _, cache = subject.run_with_cache(BATCH, ["layers.1.in"])

    def without(tensor: torch.Tensor, hook: object) -> torch.Tensor:
        if what == "layers":
            return cache["layers.1.in"]
        if what == "heads":
            tensor = tensor.clone()
            tensor[:, :, 2] = 0
            return tensor
        return torch.zeros_like(tensor)

    with torch.no_grad():
        plain = log_probabilities(subject.forward(BATCH))
        changed = log_probabilities(subject.run_with_hooks(BATCH, [(f"layers.1.{places[what]}", without)]))
    expected = np.nanmean(losses(changed, BATCH, True) - losses(plain, BATCH, True))
    found = Ablation(what=what, method="zero").read(subject, BATCH).at(layer=1, quantity="loss increase")
    assert (found.values[2] if what == "heads" else found.values) == pytest.approx(expected, abs=1e-6)


def test_a_head_taken_away_is_its_columns_of_the_projection_set_to_zero() -> None:
    model = tiny("llama")
    with torch.no_grad():
        plain = log_probabilities(model(BATCH.ids).logits)
        model.model.layers[0].self_attn.o_proj.weight[:, 8:16] = 0
        changed = log_probabilities(model(BATCH.ids).logits)
    expected = divergences(plain, changed, BATCH).mean()
    found = Ablation(method="zero").read(examined("llama"), BATCH).at(layer=0, head=1, quantity="divergence")
    assert float(found.values) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("method", ["zero", "mean", "resample"])
def test_padding_takes_no_part(method: str) -> None:
    subject = examined("llama")
    rows = [[5, 9, 5, 9, 17, 30], [1, 2, 3, 4]]
    wide = padded(rows)
    further = TokenBatch(
        torch.cat([wide.ids, torch.full((2, 3), 11)], 1), torch.cat([wide.real, torch.zeros(2, 3).bool()], 1)
    )
    first = Ablation(what="attention", method=method).read(subject, wide)
    second = Ablation(what="attention", method=method).read(subject, further)
    np.testing.assert_allclose(first.values, second.values, atol=1e-4)
    assert (first.at(quantity="count").values == 2).all()


def test_a_resampled_value_is_never_its_own() -> None:
    for count in (2, 3, 64):
        order = _shuffled(count, Seed(3))
        assert sorted(order.tolist()) == list(range(count))
        assert (order != torch.arange(count)).all()
    with pytest.raises(InvalidInput, match="one token"):
        Ablation().read(examined("gpt2"), TokenBatch(BATCH.ids[:, :1]))


def test_an_encoder_is_scored_on_the_token_that_stands_there_and_says_so() -> None:
    found = Ablation(what="layers").read(examined("bert"), BATCH)
    assert (found.at(quantity="count").values == 9).all()
    assert any("looks ahead" in caveat.en for caveat in found.caveats)


def test_the_attention_to_a_source_and_the_encoder_can_be_taken_away() -> None:
    subject = examined("t5")
    batch = TokenBatch(torch.tensor([[0, 7, 3, 9]]), source=BATCH)
    with torch.no_grad():
        plain = log_probabilities(subject.forward(batch))
        changed = log_probabilities(
            subject.run_with_hooks(batch, [("layers.2.cross.out", lambda tensor, hook: torch.zeros_like(tensor))])
        )
    expected = divergences(plain, changed, batch).mean()
    found = Ablation(what="cross", method="zero").read(subject, batch).at(layer=2, quantity="divergence")
    assert float(found.values) == pytest.approx(expected, rel=1e-3)
    encoder = Ablation(what="layers", stack="encoder").read(subject, batch)
    assert encoder.coords["layer"] == (0, 1, 2, 3)
    assert (encoder.at(quantity="divergence").values > 0).all()


def test_divergence_is_zero_for_equal_logits_and_right_by_hand() -> None:
    batch = TokenBatch(torch.tensor([[0, 1]]))
    logs = log_probabilities(torch.tensor([[[0.0, 0.0], [1.0, -1.0]]]))
    assert (divergences(logs, logs, batch) == 0).all()
    other = torch.log(torch.tensor([[[0.25, 0.75], [0.5, 0.5]]]))
    by_hand = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert divergences(logs, other, batch)[0, 0] == pytest.approx(by_hand, abs=1e-6)
    never = log_probabilities(torch.tensor([[[0.0, -torch.inf], [0.0, 0.0]]]))
    assert divergences(never, never, batch)[0, 0] == 0.0


def test_the_logits_of_one_pass_are_gone_before_the_next_pass_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = examined("llama")
    monkeypatch.setattr(replacing, "MOST_ROWS", 2)
    alive: list[int] = []
    passes: list[weakref.ref[torch.UntypedStorage]] = []

    def watched(model: object, args: object, output: Any) -> None:
        alive.append(sum(one() is not None for one in passes))
        passes.append(weakref.ref(output.logits.untyped_storage()))

    handle = subject.model.register_forward_hook(watched)
    expected = subject.forward(BATCH)[0]
    alive.clear()
    passes.clear()
    for logits in replacing.replaced_logits(subject, BATCH, [replacing.Row(0, ())] * 6):
        # Looked at until the next one comes, as every reader does.
        assert torch.allclose(logits, expected, atol=1e-6)
    handle.remove()
    assert alive == [0, 0, 0]
