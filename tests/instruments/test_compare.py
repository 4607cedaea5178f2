import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from glassworks.anatomy import Alphabet, Subject, TokenBatch
from glassworks.anatomy.tokens import padded
from glassworks.core.errors import InvalidInput
from glassworks.instruments import pair
from glassworks.instruments.compare import Comparison, compare
from glassworks.instruments.likeness import _cka
from tests.families import VOCABULARY, tiny
from tests.families import subject as examined

IDS = torch.randint(0, VOCABULARY, (1, 17), generator=torch.Generator().manual_seed(0))
BATCH = TokenBatch(torch.cat([IDS, IDS[:, :9]], 1))
EVERY = {"predictions", "losses", "likeness", "stream_change", "head_scores", "repeated_tokens", "weight_change"}


def relative(found: Comparison, part: str, group: str = "whole") -> float:
    return found.value("weight_change", part=part, group=group, quantity="relative change")


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_model_beside_itself_differs_in_nothing(family: str) -> None:
    found = compare(Subject.of(tiny(family)), Subject.of(tiny(family)), BATCH)
    assert set(found.readings) == EVERY
    assert found.largest_logit_difference == 0.0
    assert found.apart["divergence"].mean == found.apart["loss_difference"].mean == 0.0
    assert found.apart["same_first_token"].mean == 1.0
    assert found.diagonal == [1.0] * 4
    assert (found.readings["stream_change"].measurement.at(quantity="relative change").values == 0).all()
    assert np.nanmax(found.readings["weight_change"].measurement.at(quantity="largest change").values) == 0
    assert all(fidelity.holds for fidelity in found.fidelity)
    told = [line.says.en for line in found.page().summary]
    assert "At every place their logits are equal, bit for bit." in told
    assert "Their weights are equal, bit for bit." in told


@pytest.fixture(scope="module")
def tuned() -> Comparison:
    """A model beside itself with the feed-forward of layer 1 changed, as a fine-tune would."""
    model = tiny("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.mul_(1.5)
    return compare(examined("llama"), Subject.of(model), BATCH)


def test_the_weights_that_a_fine_tune_changed_are_found_where_they_are(tuned: Comparison) -> None:
    weights = tiny("llama").model.layers[1].mlp
    before = sum(float(p.detach().square().sum()) for p in weights.parameters())
    expected = math.sqrt(0.25 * float(weights.down_proj.weight.detach().square().sum()) / before)
    assert relative(tuned, "L1", "feed-forward") == pytest.approx(expected, rel=1e-6)
    assert relative(tuned, "L1", "attention") == relative(tuned, "L0") == relative(tuned, "embedding") == 0.0
    assert any("most in L1" in line.says.en for line in tuned.page().summary)


def test_the_streams_part_where_the_weights_do(tuned: Comparison) -> None:
    change = tuned.readings["stream_change"].measurement.at(quantity="relative change").values
    assert (change[:2] == 0).all()
    assert (change[2:] > 0.01).all()
    assert tuned.diagonal[:2] == [1.0, 1.0]
    assert max(tuned.diagonal[2:]) < 1.0


def test_predictions_and_losses_are_those_of_the_plain_models(tuned: Comparison) -> None:
    with torch.no_grad():
        logits = [subject.model(BATCH.ids).logits[0].double() for subject in tuned.pair.subjects]
    logs = [one.log_softmax(-1) for one in logits]
    table = tuned.readings["predictions"].measurement
    assert tuned.largest_logit_difference == float((logits[0] - logits[1]).abs().max())
    expected = (logs[0].exp() * (logs[0] - logs[1])).sum(-1).numpy()
    np.testing.assert_allclose(table.at(quantity="divergence").values, expected, atol=1e-9)
    for letter, log in zip("AB", logs, strict=True):
        loss = -log[:-1].gather(1, BATCH.ids[0, 1:, None])[:, 0]
        np.testing.assert_allclose(table.at(quantity=f"loss of {letter}").values[:-1], loss.numpy(), atol=1e-5)
        found = tuned.value("losses", model=letter, quantity="loss per token")
        assert found == pytest.approx(float(loss.mean()), abs=1e-5)


@pytest.mark.slow
def test_the_report_puts_the_fidelity_of_both_first_and_is_whole_in_both_languages(tuned: Comparison) -> None:
    page = tuned.html()
    first, second = page.index("A: logits while watched"), page.index("B: logits while watched")
    assert first < second < page.index("What both predict along the text")
    assert "两个模型的各层有多相似" in page
    assert tuned.to_json()["max_abs_logit_difference"] == tuned.largest_logit_difference
    json.dumps(tuned.to_json(), allow_nan=False)
    assert set(tuned.to_pandas()["metric"]) == EVERY


def test_models_of_other_shapes_and_vocabularies_are_compared_in_what_they_share() -> None:
    text = "the cat sat on the mat, the cat sat on the hat."
    letters = Alphabet(tuple(sorted(set(text))))
    first = replace(
        Subject.of(tiny("llama")), tokenizer=Alphabet(letters.characters + ("#",) * (VOCABULARY - len(letters)))
    )
    second = replace(Subject.of(tiny("gpt2", layers=2)), tokenizer=Alphabet(first.tokenizer.characters[::-1]))
    found = compare(first, second, text)
    assert not found.pair.alignment.same_tokens
    assert set(found.skipped) == {"predictions", "stream_change", "weight_change"}
    assert found.readings["likeness"].measurement.values.shape == (2, 4, 3)
    assert found.diagonal == []
    spread = [found.value("losses", model=model, quantity="characters") for model in "AB"]
    assert spread == [len(text.replace(" ", "")) - 1] * 2
    assert any("their tokens differ" in line.says.en for line in found.page().summary)


def test_how_many_texts_share_a_pass_changes_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = padded([BATCH.ids[0].tolist(), IDS[0, :5].tolist(), IDS[0, 3:9].tolist()])
    together = compare(examined("llama"), examined("mistral"), batch)
    monkeypatch.setattr(pair, "PIECE_TOKENS", 1)
    alone = compare(examined("llama"), examined("mistral"), batch)
    for name, reading in together.readings.items():
        np.testing.assert_allclose(alone.readings[name].measurement.values, reading.measurement.values, atol=1e-5)
    assert together.pair.alignment.count == 26 + 5 + 6
    assert "2.0 " in str(together.readings["predictions"].measurement.coords["place"][31])


def test_a_decoder_beside_an_encoder_and_one_token_alone() -> None:
    found = compare(examined("gpt2"), examined("bert"), BATCH)
    assert {"repeated_tokens", "weight_change"} == set(found.skipped)
    told = [line.says.en for line in found.page().summary]
    assert not any(line.startswith("Loss on the text") for line in told), "they answer different questions"
    alone = compare(examined("llama"), examined("llama"), TokenBatch(IDS[:, :1]))
    assert "at least 4 places" in str(alone.skipped["likeness"])
    assert alone.page().limits


def test_cka_does_not_see_a_rotation_and_expects_nothing_of_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(1, 300, 8, generator=generator, dtype=torch.float64)
    turned = 3 * states @ torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64)).Q
    assert _cka(states, turned)[0, 0] == pytest.approx(1.0)
    others = torch.randn(40, 300, 200, generator=generator, dtype=torch.float64)
    # The biased estimator would give 0.4 here.
    assert abs(_cka(states, others).mean()) < 0.02


def test_an_encoder_decoder_is_compared_with_another_one_only() -> None:
    subject = examined("t5")
    batch = TokenBatch(BATCH.ids[:, :7], source=TokenBatch(BATCH.ids))
    found = compare(subject, subject, batch)
    assert found.largest_logit_difference == 0.0
    assert (found.readings["likeness_encoder"].measurement.values.diagonal(axis1=1, axis2=2) == 1).all()
    assert found.diagonal == [1.0] * 4
    with pytest.raises(InvalidInput, match="two texts"):
        compare(subject, examined("llama"), batch)
