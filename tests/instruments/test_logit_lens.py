import numpy as np
import pytest
import torch

from glassworks.anatomy import Subject, TokenBatch
from glassworks.anatomy.tokens import padded
from glassworks.instruments import LensDepth, LogitLens
from glassworks.instruments.logit_lens import MOST_ROWS
from tests.families import FAMILIES, tiny
from tests.families import subject as examined
from tests.planted.models import copying_layer

BATCH = TokenBatch(torch.tensor([[5, 9, 5, 9, 17, 30, 5, 9, 17]]))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_stage_says_what_the_model_says(family: str) -> None:
    subject = examined(family)
    with torch.no_grad():
        logits = subject.forward(BATCH)[0].double()
    found = LogitLens(top=2).read(subject, BATCH)
    last = found.at(stage="L2")
    np.testing.assert_array_equal(last.at(quantity="token 1").values, logits.argmax(-1).numpy())
    probabilities = logits.softmax(-1)
    entropy = -(probabilities * probabilities.log()).sum(-1)
    np.testing.assert_allclose(last.at(quantity="entropy").values, entropy.numpy(), atol=1e-4)
    np.testing.assert_array_equal(last.at(quantity="rank of final").values, 1)


def test_stages_after_attention_exist_where_the_block_is_not_parallel() -> None:
    assert LogitLens().read(examined("llama"), BATCH).coords["stage"] == (
        "embed", "L0 attention", "L0", "L1 attention", "L1", "L2 attention", "L2",
    )  # fmt: skip
    assert LogitLens().read(examined("neox"), BATCH).coords["stage"] == ("embed", "L0", "L1", "L2")


def test_a_copying_layer_speaks_up_at_its_layer_and_not_before() -> None:
    found = LogitLens(top=1).read(Subject.of(copying_layer()), BATCH)
    said = found.at(quantity="token 1").values
    assert (said[2] == BATCH.ids[0].numpy()).all()
    assert (said[1] == BATCH.ids[0].numpy()).mean() < 0.5
    entropy = found.at(quantity="entropy").values
    assert (entropy[2] < 0.1).all()
    assert (entropy[1] > 3.0).all()


def test_the_rank_of_the_true_token_counts_the_tokens_above_it() -> None:
    subject = examined("llama")
    with torch.no_grad():
        logits = subject.forward(BATCH)[0]
    found = LogitLens().read(subject, BATCH).at(stage="L2", quantity="rank of true").values
    for position in range(8):
        true = BATCH.ids[0, position + 1]
        assert found[position] == int((logits[position] > logits[position, true]).sum()) + 1
    assert np.isnan(found[8])


def test_a_model_that_looks_ahead_is_scored_on_the_token_that_stands_there() -> None:
    found = LogitLens().read(examined("bert"), BATCH).at(stage="L2", quantity="rank of true").values
    assert not np.isnan(found).any()


def test_the_lens_is_float32_on_a_bfloat16_model() -> None:
    model = tiny("llama").to(torch.bfloat16)
    subject = Subject.of(model)
    _, cache = subject.run_with_cache(BATCH, "layers.2.out")
    stream, exact = cache["layers.2.out"][0].float(), tiny("llama")
    with torch.no_grad():
        weight = model.lm_head.weight.float()
        exact.model.norm.weight.copy_(model.model.norm.weight.float())
        logs = (exact.model.norm(stream) @ weight.T).double().log_softmax(-1)
    entropy = LogitLens().read(subject, BATCH).at(stage="L2", quantity="entropy").values
    np.testing.assert_allclose(entropy, -(logs.exp() * logs).sum(-1).numpy(), atol=1e-5)
    assert model.lm_head.weight.dtype == torch.bfloat16


def test_padding_is_left_out_and_token_texts_are_stored() -> None:
    batch = padded([[5, 9, 5], [1, 2, 3, 4, 5]], side="left")
    found = LogitLens(top=1).read(examined("llama"), batch)
    assert len(found.coords["position"]) == 3
    tokens = {int(t) for t in found.at(quantity="token 1").values.ravel()}
    assert {f"token {t}" for t in tokens} <= set(found.columns)


def test_the_divergence_from_the_final_distribution_is_zero_at_the_end_and_right_before() -> None:
    subject = examined("gpt2")
    found = LogitLens().read(subject, BATCH)
    divergence = found.at(quantity="divergence from final").values
    np.testing.assert_allclose(divergence[-1], 0.0, atol=1e-6)
    _, cache = subject.run_with_cache(BATCH, ["layers.0.out", "layers.2.out"])
    with torch.no_grad():
        here, final = (subject.read_stream(cache[name]).log_softmax(-1)[0] for name in ("layers.0.out", "layers.2.out"))
    expected = (final.exp() * (final - here)).sum(-1)
    np.testing.assert_allclose(divergence[found.coords["stage"].index("L0")], expected.numpy(), rtol=1e-4)


def test_depth_is_the_lens_without_its_positions() -> None:
    lens, depth = LogitLens().read(examined("llama"), BATCH), LensDepth().read(examined("llama"), BATCH)
    ranks = lens.at(quantity="rank of true").values[:, :-1]
    np.testing.assert_allclose(depth.at(quantity="rank of true", spread="median").values, np.median(ranks, 1))
    np.testing.assert_array_equal(depth.at(quantity="rank of final", stage="L2").values, 1)
    alone = LensDepth().read(examined("llama"), TokenBatch(BATCH.ids[:, :1]))
    assert np.isnan(alone.at(quantity="rank of true").values).all()
    assert "the true token" not in LensDepth().draw(alone).svg()


def test_a_deep_model_is_drawn_in_as_many_rows_as_a_page_has_with_its_last_layer() -> None:
    subject = Subject.of(tiny("gpt2", layers=40))
    lens = LogitLens().read(subject, BATCH)
    figure = LogitLens().draw(lens)
    drawn = set(figure.table["layer"])
    assert len(lens.coords["stage"]) == 81
    assert MOST_ROWS / 2 < len(drawn) <= MOST_ROWS
    assert "L39 end" in drawn
    assert "of 81 stages" in figure.caption.en
