import time

import pytest
import torch

from glassworks.anatomy import Subject
from glassworks.anatomy.replay import (
    feedforward_output,
    mixer_output,
    position_vectors,
    scores,
    token_vectors,
    unembedding_vectors,
)
from glassworks.core.errors import InvalidInput
from tests.families import EAGER_ONLY, FAMILIES, shared
from tests.families import subject as examined
from tests.planted.models import POSITIONS, induction_head

VECTORS = torch.randn(5, 32, generator=torch.Generator().manual_seed(5))


def test_a_llama_layer_writes_w_o_w_v_x() -> None:
    model = shared("llama")
    layer = model.model.layers[1]
    with torch.no_grad():
        for through_norm in (False, True):
            x = layer.input_layernorm(VECTORS) if through_norm else VECTORS
            values = layer.self_attn.v_proj(x).unflatten(1, (2, 8)).repeat_interleave(2, dim=1).flatten(1)
            expected = layer.self_attn.o_proj(values)
            found = mixer_output(Subject.of(model), 1, VECTORS, through_norm=through_norm)
            assert torch.allclose(found, expected, atol=1e-5)


def test_scores_are_the_scaled_products_of_queries_and_keys() -> None:
    model = shared("llama")
    attention = model.model.layers[2].self_attn
    with torch.no_grad():
        q = attention.q_proj(VECTORS[:2]).unflatten(1, (4, 8)).transpose(0, 1)
        k = attention.k_proj(VECTORS).unflatten(1, (2, 8)).transpose(0, 1).repeat_interleave(2, dim=0)
        expected = q @ k.transpose(-1, -2) / 8**0.5
    found = scores(Subject.of(model), 2, VECTORS[:2], VECTORS)
    assert found.shape == (4, 2, 5)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("family", [f for f in (*FAMILIES, "t5", "bart") if f not in EAGER_ONLY])
@pytest.mark.slow
def test_the_attention_implementation_makes_no_difference(family: str) -> None:
    fused, own = examined(family), examined(family, "eager")
    assert torch.allclose(scores(fused, 1, VECTORS, VECTORS), scores(own, 1, VECTORS, VECTORS), atol=1e-4)
    assert torch.allclose(mixer_output(fused, 1, VECTORS), mixer_output(own, 1, VECTORS), atol=1e-5)


def test_each_vector_stands_alone() -> None:
    subject = examined("bert")
    together = mixer_output(subject, 0, VECTORS)
    assert torch.allclose(together[3:4], mixer_output(subject, 0, VECTORS[3:4]), atol=1e-6)


def test_position_vectors_are_the_models_own() -> None:
    model = induction_head()
    found = position_vectors(Subject.of(model), POSITIONS)
    assert torch.allclose(found, model.places.vectors, atol=1e-6)
    gpt2 = shared("gpt2")
    assert torch.allclose(position_vectors(Subject.of(gpt2), 9), gpt2.transformer.wpe.weight[:9], atol=1e-6)
    with pytest.raises(InvalidInput, match="adds no position vectors"):
        position_vectors(examined("llama"), 9)
    with pytest.raises(InvalidInput, match="depend on the token"):
        position_vectors(examined("bert"), 9)


def test_token_and_unembedding_vectors_are_rows_of_the_weights() -> None:
    model = shared("neox")
    subject = Subject.of(model)
    assert torch.equal(token_vectors(subject), model.gpt_neox.embed_in.weight)
    assert torch.equal(unembedding_vectors(subject), model.lm_head.weight)


def test_the_feedforward_is_applied_without_the_residual() -> None:
    model = shared("gpt2")
    with torch.no_grad():
        expected = model.transformer.h[1].mlp(VECTORS)
    assert torch.allclose(feedforward_output(Subject.of(model), 1, VECTORS), expected, atol=1e-6)
    with pytest.raises(InvalidInput, match="no feed-forward in one module"):
        feedforward_output(examined("opt"), 1, VECTORS)


def test_probing_leaves_gradients_and_hooks_alone() -> None:
    model = induction_head()
    subject = Subject.of(model)
    mixer_output(subject, 1, torch.randn(3, 256))
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_probing_is_cheap_enough_for_every_tenth_training_step() -> None:
    subject = Subject.of(induction_head())
    vectors = torch.randn(321, 256)
    mixer_output(subject, 0, vectors)
    fastest = min(_seconds(lambda: mixer_output(subject, 0, vectors)) for _ in range(5))
    assert fastest < 0.05  # about 2 ms on an idle core; the margin is for a loaded machine


def _seconds(work: object) -> float:
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - start
