import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from glassworks.core.errors import InvalidInput
from glassworks.mixers import Gates, Heads, Linear, Memory
from glassworks.mixers.linear import ADDED_AT_ONCE, CHUNK, KeyValueSum
from glassworks.models import TransformerSpec, build_model
from glassworks.tensors.seeds import Seed

HEADS = Heads(4, 2, 3, 0.7)
GATED = Linear(keep=True)


def drawn(tokens: int, batch: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    chance = torch.Generator().manual_seed(tokens)
    q, k, v = (torch.randn(batch, heads, tokens, 3, generator=chance, dtype=torch.float64) for heads in (4, 2, 2))
    return q, k, v, torch.rand(batch, 2, tokens, generator=chance, dtype=torch.float64)


@pytest.mark.parametrize("tokens", [1, 2 * CHUNK - 5])
def test_equals_the_reference_in_values_and_gradients(tokens: int) -> None:
    given = [x.requires_grad_() for x in drawn(tokens)]
    q, k, v, keep = given
    fast = GATED.build(HEADS)(q, k, v, gates=Gates(keep=keep)).out
    slow = GATED.reference(q, k, v, HEADS.scale, keep)
    assert_close(fast, slow, rtol=1e-9, atol=1e-10)
    towards = torch.randn(slow.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad(fast, given, towards), torch.autograd.grad(slow, given, towards), strict=True
    ):
        assert_close(one, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("cuts", [[5, 6, 70], list(range(1, 80, 3))], ids=len)
def test_may_be_cut_anywhere_with_padding(cuts: list[int]) -> None:
    q, k, v, keep = drawn(80)
    mixer, real = GATED.build(HEADS), torch.arange(80) >= torch.tensor([[0], [9]])
    whole = mixer(q, k, v, gates=Gates(real, keep)).out
    memory: Memory | None = None
    outs: list[Tensor] = []
    for begin, end in zip([0, *cuts], [*cuts, 80], strict=True):
        here = Gates(real, keep).first(end).last(end - begin)
        mixed = mixer(*(x[:, :, begin:end] for x in (q, k, v)), memory, here)
        memory = mixed.memory
        outs.append(mixed.out)
    assert_close(torch.cat(outs, 2), whole, rtol=1e-9, atol=1e-10)
    alone = mixer(*(x[1:, :, 9:] for x in (q, k, v)), gates=Gates(keep=keep[1:, :, 9:])).out
    assert_close(whole[1:, :, 9:], alone, rtol=1e-9, atol=1e-10)


def test_fewer_queries_than_keys_stand_at_the_last_tokens() -> None:
    q, k, v, keep = drawn(70)
    mixer = GATED.build(HEADS)
    whole = mixer(q, k, v, gates=Gates(keep=keep))
    last = mixer(q[:, :, -3:], k, v, gates=Gates(keep=keep))
    assert_close(last.out, whole.out[:, :, -3:], rtol=1e-9, atol=1e-10)
    assert isinstance(last.memory, KeyValueSum)
    assert isinstance(whole.memory, KeyValueSum)
    assert_close(last.memory.total, whole.memory.total)


def test_gates_of_one_are_the_plain_sum() -> None:
    q, k, v, keep = drawn(3 * CHUNK)
    plain = Linear().build(HEADS)(q, k, v)
    gated = GATED.build(HEADS)(q, k, v, gates=Gates(keep=torch.ones_like(keep)))
    assert_close(gated.out, plain.out, rtol=1e-9, atol=1e-9)
    assert_close(GATED.build(HEADS)(q, k, v).out, plain.out, rtol=0, atol=0)


@pytest.mark.parametrize("low", [1e-3, 1e-30, 0.0])
def test_gates_near_zero_forget_without_leaving_the_number_format(low: float) -> None:
    q, k, v, keep = (x.float() for x in drawn(2 * CHUNK + 9))
    # Products over a chunk are far below the smallest float32.
    keep = torch.where(keep < 0.7, low, 0.99).requires_grad_()
    out = GATED.build(HEADS)(q, k, v, gates=Gates(keep=keep)).out
    slow = GATED.reference(q, k, v, HEADS.scale, keep.detach())
    assert (out.double() - slow).abs().max() < 1e-4 * slow.abs().max()
    out.sum().backward()
    assert keep.grad is not None
    assert keep.grad.isfinite().all()


def test_a_long_memory_keeps_its_share_in_float32() -> None:
    tokens = CHUNK * (ADDED_AT_ONCE + 3)
    q, k, v = torch.zeros(1, 4, tokens, 3), torch.zeros(1, 2, tokens, 3), torch.zeros(1, 2, tokens, 3)
    k[:, :, 0], v[:, :, 0] = 1.0, 1.0
    keep = torch.full((1, 2, tokens), 0.9995)
    memory = GATED.build(HEADS)(q, k, v, gates=Gates(keep=keep)).memory
    assert isinstance(memory, KeyValueSum)
    expected = float(keep[0, 0, 0].double() ** (tokens - 1))
    assert memory.total.mean() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_works_under_autocast_with_the_sum_in_float32(kind: torch.dtype) -> None:
    q, k, v, keep = drawn(100)
    exact = GATED.reference(q, k, v, HEADS.scale, keep)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = GATED.build(HEADS)(q.to(kind), k.to(kind), v.to(kind), gates=Gates(keep=keep.float()))
    assert (mixed.out.double() - exact).abs().max() < 0.03 * exact.abs().max()
    assert isinstance(mixed.memory, KeyValueSum)
    assert mixed.memory.total.dtype == torch.float32


def test_the_plain_form_refuses_a_gate_and_keeps_its_digest() -> None:
    q, k, v, keep = drawn(5)
    with pytest.raises(InvalidInput, match="keep"):
        Linear().build(HEADS)(q, k, v, gates=Gates(keep=keep))
    # As before there was a choice.
    assert Linear().identity() == {"revision": 1, "kind": "linear"}
    assert GATED.identity() == {"revision": 1, "kind": "linear", "keep": True}


def test_a_decoder_finds_its_gates_in_the_stream_and_generates_as_it_reads() -> None:
    spec = TransformerSpec(
        vocabulary=11, width=8, depth=1, heads=2, mixers=(GATED,), positions="none", query_key_norm="l2"
    )
    model = build_model(spec, Seed(0), torch.float64).eval()
    attention = model.model.block(0).self_attn
    assert attention.keep_proj is not None
    assert attention.write_proj is None
    ids = torch.randint(1, 11, (2, 9), generator=torch.Generator().manual_seed(0))
    choices = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(model.generate(ids, **choices), model.generate(ids, use_cache=False, **choices))
    model(ids, labels=ids, use_cache=False).loss.backward()
    assert bool(attention.keep_proj.proj.weight.grad.any())
