import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import glassworks.mixers.memorizing as memorizing
from glassworks.mixers import Heads, Memorizing, TransformerXL, attention_map
from glassworks.mixers.memorizing import MemorizingMemory, MemorizingMixer
from glassworks.models import TransformerSpec, build_model
from glassworks.tensors.seeds import Seed

HEADS = Heads(2, 1, 4, 0.5)


def drawn(tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    chance = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(1, heads, tokens, 4, generator=chance, dtype=torch.float64) for heads in (2, 1, 1))
    return q, k, v


def built(**choices: float) -> MemorizingMixer:
    mixer = Memorizing(segment=4, **choices).build(HEADS)
    assert isinstance(mixer, MemorizingMixer)
    return mixer


def test_finds_one_stored_pair_among_many_wherever_it_stands() -> None:
    for place in (0, 7, 30, 55):
        q, k, v = drawn(64)
        # The last token asks for one key that was stored long before; all other keys point elsewhere.
        k = k.abs()
        k[:, :, place] = -k[:, :, place]
        q[:, :, 63] = k[:, :, place]
        mixer = built(neighbours=1, capacity=1000)
        near = TransformerXL(segment=4).build(HEADS)(q, k, v).out
        assert_close(2 * mixer(q, k, v).out[:, :, 63] - near[:, :, 63], v[:, :, place].expand(-1, 2, -1))


def test_each_query_reads_its_nearest_stored_keys_and_no_others() -> None:
    q, k, _ = drawn(30)
    mixer = built(neighbours=3, capacity=1000)
    far = 2 * attention_map(mixer, q, k) - attention_map(TransformerXL(segment=4).build(HEADS), q, k)
    angle = torch.nn.functional.normalize(q, dim=-1) @ torch.nn.functional.normalize(k, dim=-1).mT
    for head in (0, 1):
        # Token 29 stands in segment 7: pairs of segments 0 to 5 are stored.
        nearest = angle[0, head, 29, :24].topk(3).indices
        weights = torch.softmax(20.0 * angle[0, head, 29, nearest], 0)
        expected = torch.zeros(30, dtype=torch.float64).scatter(0, nearest, weights)
        assert_close(far[0, head, 29], expected, rtol=1e-9, atol=1e-12)


def test_until_something_is_stored_it_is_the_near_part_alone() -> None:
    q, k, v = drawn(8)
    assert_close(built(neighbours=2)(q, k, v).out, TransformerXL(segment=4).build(HEADS)(q, k, v).out, rtol=0, atol=0)


def test_the_oldest_pairs_are_dropped_beyond_the_capacity() -> None:
    q, k, v = drawn(26)
    mixed = built(neighbours=50, capacity=6)(q, k, v)
    assert isinstance(mixed.memory, MemorizingMemory)
    # Of 24 tokens in whole segments the last 4 are the previous segment.
    assert_close(mixed.memory.stored_values, v[:, :, 14:20])
    assert_close(mixed.memory.stored_keys, torch.nn.functional.normalize(k[:, :, 14:20], dim=-1))
    seen = attention_map(built(neighbours=50, capacity=6), q, k)[0, 0, 25] > 0
    assert seen.nonzero()[:, 0].tolist() == [*range(14, 26)]


def test_searching_in_parts_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = drawn(60)
    whole = built(neighbours=5)(q, k, v).out
    monkeypatch.setattr(memorizing, "SEARCHED", 7)
    assert_close(built(neighbours=5)(q, k, v).out, whole, rtol=1e-12, atol=1e-12)


def test_gates_weigh_the_memory_and_learn_with_the_factor_while_stored_pairs_do_not() -> None:
    q, k, v = (x.requires_grad_() for x in drawn(13))
    mixer = built(neighbours=2).double()
    near = TransformerXL(segment=4).build(HEADS)(q, k, v).out
    with torch.no_grad():
        mixer.gate.copy_(torch.tensor([-50.0, 50.0]))
    out = mixer(q, k, v).out
    assert_close(out[:, 0], near[:, 0])
    assert not torch.allclose(out[:, 1, 12], near[:, 1, 12])
    with torch.no_grad():
        mixer.gate.zero_()
    found = torch.autograd.grad(mixer(q, k, v).out[:, :, 12].sum(), (q, k, v, mixer.gate, mixer.sharpness))
    assert all(bool(each.any()) for each in found)
    assert not found[1][:, :, :12].any()
    assert not found[2][:, :, :12].any()


def test_one_layer_of_a_stack_searches_and_starts_from_even_gates() -> None:
    spec = TransformerSpec(
        vocabulary=11, width=8, depth=2, heads=2, positions="rotary",
        mixers=(TransformerXL(segment=4), Memorizing(segment=4, neighbours=2, capacity=20)),
    )  # fmt: skip
    model = build_model(spec, Seed(0), torch.float64).eval()
    mixer = model.model.block(1).self_attn.mixer
    assert not mixer.gate.any()
    assert not mixer.sharpness.any()
    ids = torch.randint(1, 11, (2, 13), generator=torch.Generator().manual_seed(0))
    made = model.generate(ids, max_new_tokens=9, do_sample=False, pad_token_id=0)
    assert torch.equal(made, model.generate(ids, max_new_tokens=9, do_sample=False, pad_token_id=0, use_cache=False))
