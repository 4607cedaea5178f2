"""Decoders with Infini-attention: read whole, in pieces or token by token, padded or packed, they say the same."""

import pytest
import torch
from torch.testing import assert_close
from transformers import DynamicCache

from glassworks.mixers import Infini, InfiniMemory, Local
from glassworks.models import GlassworksForCausalLM, TransformerSpec, build_model
from glassworks.models.cache import MemoryLayer
from glassworks.tensors.seeds import Seed
from tests.models import test_hub as promises

SPEC = TransformerSpec(
    vocabulary=13,
    width=8,
    depth=2,
    heads=4,
    kv_heads=2,
    head_width=4,
    norm="rms",
    mixers=(Infini(segment=4), Infini(segment=3, write="delta", first="zero")),
    positions="rotary",
)
CLOSE = {"rtol": 1e-9, "atol": 1e-11}
IDS = torch.randint(1, 13, (2, 17), generator=torch.Generator().manual_seed(0))


def built(spec: TransformerSpec = SPEC) -> GlassworksForCausalLM:
    return build_model(spec, Seed(2), torch.float64).eval()


@pytest.mark.parametrize(
    "cuts",
    [pytest.param([9], marks=pytest.mark.slow), [4, 5, 13], pytest.param([*range(1, 17)], marks=pytest.mark.slow)],
    ids=str,
)
@torch.no_grad()
def test_a_prompt_of_many_segments_reads_the_same_in_any_pieces(cuts: list[int]) -> None:
    model = built()
    cache, found = DynamicCache(config=model.config), []
    for start, end in zip([0, *cuts], [*cuts, 17], strict=True):
        found.append(model(IDS[:, start:end], past_key_values=cache).logits)
    assert_close(torch.cat(found, 1), model(IDS).logits, **CLOSE)
    places = [layer for layer in cache.layers if isinstance(layer, MemoryLayer)]
    assert [p.tokens for p in places] == [17, 17]
    memories = [p.memory for p in places]
    assert all(isinstance(m, InfiniMemory) for m in memories)
    assert [m.keys.shape[2] for m in memories if isinstance(m, InfiniMemory)] == [1, 2]


@torch.no_grad()
def test_generation_goes_past_segments_and_reads_all_of_a_long_prompt() -> None:
    model = built()
    continued = model.generate(IDS, max_new_tokens=4, do_sample=False, pad_token_id=0)
    for place in range(17, 21):
        expected = model(continued[:, :place], use_cache=False).logits[:, -1].argmax(-1)
        assert torch.equal(continued[:, place], expected)
    other = IDS.clone()
    other[:, 0] = IDS[:, 0] % 12 + 1
    assert not torch.allclose(model(other).logits[:, -1], model(IDS).logits[:, -1], rtol=1e-6)


@torch.no_grad()
def test_left_padded_prompts_of_many_segments_are_continued_as_if_alone() -> None:
    model = built()
    ids, mask = torch.zeros(2, 13, dtype=torch.long), torch.zeros(2, 13, dtype=torch.long)
    lengths = (13, 7)
    for row, length in enumerate(lengths):
        ids[row, 13 - length :], mask[row, 13 - length :] = IDS[row, :length], 1
    together = model.generate(ids, attention_mask=mask, max_new_tokens=3, do_sample=False, pad_token_id=0)
    for row, length in enumerate(lengths):
        alone = model.generate(IDS[row : row + 1, :length], max_new_tokens=3, do_sample=False, pad_token_id=0)
        assert torch.equal(together[row, 13 - length :], alone[0])


@torch.no_grad()
def test_packed_texts_are_read_as_if_alone() -> None:
    model = built()
    places = torch.tensor([[*range(9), *range(8)], [*range(4), *range(13)]])
    packed = model(IDS, position_ids=places).logits
    for row, length in enumerate((9, 4)):
        for span in (slice(0, length), slice(length, 17)):
            assert_close(packed[row : row + 1, span], model(IDS[row : row + 1, span]).logits, **CLOSE)


@torch.no_grad()
def test_how_often_tokens_count_is_for_memories_that_add_up() -> None:
    written = torch.ones(2, 17, dtype=torch.float64)
    written[:, 4:8] = 50
    model = built()
    assert_close(model(IDS, written=torch.ones_like(written)).logits, model(IDS).logits, **CLOSE)
    weighed = model(IDS, written=written).logits
    assert_close(weighed[:, :6], model(IDS).logits[:, :6], **CLOSE)
    assert not torch.allclose(weighed[:, 8:], model(IDS).logits[:, 8:], rtol=1e-3)
    local = built(SPEC.replaced("mixers", [Local(segment=4).to_json()]))
    assert_close(local(IDS, written=written).logits, local(IDS).logits, rtol=0, atol=0)


def test_gates_start_as_the_spec_says_and_are_trained() -> None:
    model = build_model(SPEC.replaced("mixers", [Infini(segment=4, gate_start=-1.5).to_json()]), Seed(0))
    gates = [p for name, p in model.named_parameters() if name.endswith("mixer.gate")]
    assert [g.tolist() for g in gates] == [[-1.5] * 4] * 2
    model(IDS, labels=IDS).loss.backward()
    assert all(bool((g.grad != 0).all()) for g in gates if g.grad is not None)
    assert all(g.grad is not None for g in gates)


@pytest.mark.slow
def test_the_library_s_promises_hold() -> None:
    for beams in (1, 3):
        for cache in ("dynamic", "static"):
            promises.test_generation_with_a_cache_equals_generation_without(SPEC, beams, cache)
    for side in ("left", "right"):
        promises.test_padded_prompts_are_continued_as_if_alone(SPEC, side)
        promises.test_padding_changes_no_logit_of_a_real_token(SPEC, side)
    promises.test_several_continuations_of_one_prompt_and_a_second_turn(SPEC)
    promises.test_a_cache_filled_in_chunks_is_the_same_cache(SPEC)
    promises.test_checkpointed_gradients_are_bit_equal(SPEC)
    promises.test_maps_and_streams_can_be_asked_for(SPEC)
