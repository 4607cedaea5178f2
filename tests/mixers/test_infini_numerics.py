"""The running sums of Infini-attention stay right where those in half precision, or without rescaling, do not (infini.md 4.3)."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from glassworks.mixers import Heads, Infini, InfiniMemory, Memory
from glassworks.mixers.infini import InfiniMixer
from glassworks.mixers.infini_products import affine_scan, features

ONE = Heads(1, 1, 4, 0.5)


def memory_after(mixer: InfiniMixer, qkv: list[Tensor], pieces: int = 1) -> InfiniMemory:
    memory: Memory | None = None
    for part in zip(*(x.chunk(pieces, 2) for x in qkv), strict=True):
        memory = mixer(*part, memory).memory
    assert isinstance(memory, InfiniMemory)
    return memory


def built(spec: Infini, heads: Heads = ONE) -> InfiniMixer:
    mixer = spec.build(heads)
    assert isinstance(mixer, InfiniMixer)
    return mixer


def true_sums(memory: InfiniMemory) -> tuple[Tensor, Tensor]:
    factor = torch.exp2(memory.exponent.double())
    return memory.total.double() * factor[..., None, None], memory.normaliser.double() * factor[..., None]


def drawn(tokens: int, seed: int = 0, width: int = 4) -> list[Tensor]:
    chance = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 1, tokens, width, generator=chance) for _ in range(3)]


def test_sums_grow_on_where_those_in_half_precision_stop_or_overflow() -> None:
    segments, length = 900, 64
    q, k, v = (x.bfloat16() for x in drawn(segments * length))
    found = true_sums(memory_after(built(Infini(segment=length)), [q, k, v], pieces=9))[1]
    keys = k.double()
    each = torch.where(keys > 0, keys + 1, keys.exp()).unflatten(2, (segments, length)).sum(3)
    exact = each.sum(2)
    assert (found / exact - 1).abs().max() < 1e-5
    coarse = torch.zeros(1, 1, 4, dtype=torch.bfloat16)
    for segment in range(segments):
        coarse = coarse + each[:, :, segment].bfloat16()
    assert (coarse / exact - 1).abs().min() > 0.4
    # Of 2048 tokens each, as published: 28 segments are 57344 tokens, about as many as here.
    half = each.half().unflatten(2, (-1, 20)).sum(3)
    assert half.cumsum(2).isinf().any()
    assert memory_after(built(Infini(segment=length)), [q.half(), k.half(), v.half()]).normaliser.isfinite().all()


@pytest.mark.parametrize("write", ["linear", "delta"])
def test_thousands_of_segments_with_huge_sums_neither_overflow_nor_lose_the_mean(write: str) -> None:
    q, k, v = drawn(4000)
    mixer = built(Infini(segment=1, write=write, gate_start=60.0))
    # The sum of sigma(k) v alone would be 4000 times 1e38.
    huge = 1e36
    found = mixer(q, 100 * k.abs(), huge * v).out
    assert found.isfinite().all()
    exact = built(Infini(segment=1, write=write, gate_start=60.0)).double()(
        q.double(), 100 * k.double().abs(), v.double()
    )
    assert_close(found[:, :, 1:].double() / huge, exact.out[:, :, 1:], rtol=2e-3, atol=2e-3)
    pieces = memory_after(mixer, [q, 100 * k.abs(), huge * v], pieces=40)
    assert pieces.total.isfinite().all()
    assert 0.5 <= float(pieces.normaliser.max()) < 1
    assert int(pieces.exponent) >= 17


def test_the_power_of_two_changes_no_digit() -> None:
    mixer = built(Infini(segment=4))
    whole = true_sums(memory_after(mixer, drawn(64)))
    for pieces in (4, 16):
        for one, other in zip(true_sums(memory_after(mixer, drawn(64), pieces)), whole, strict=True):
            assert_close(one, other, rtol=1e-6, atol=1e-6)
    exact = true_sums(memory_after(mixer.double(), [x.double() for x in drawn(64)]))
    assert_close(whole[1], exact[1], rtol=1e-6, atol=0)


def test_small_features_keep_their_digits() -> None:
    x = torch.tensor([-60.0, -20.0, -1.0, 0.0, 2.0]).reshape(1, 1, 1, 5, 1).requires_grad_()
    found = features(x)
    assert_close(
        found.detach().flatten().double(),
        torch.tensor([-60.0, -20, -1, 0, 2])
        .double()
        .exp()
        .where(torch.tensor([True] * 4 + [False]), torch.tensor(3.0).double()),
        rtol=1e-6,
        atol=0,
    )
    (slope,) = torch.autograd.grad(found.sum(), x)
    assert_close(slope.flatten(), found.detach().flatten().clamp(max=1))
    # Which is where the usual form gives up.
    assert (torch.nn.functional.elu(x) + 1).flatten()[1] == 0


def test_a_needle_among_silent_tokens_is_read_as_it_is() -> None:
    # Filler whose features are e^-18 each, one pair in the middle: infini.md 4.3 asks for at most 1e-6.
    tokens = 4096
    k, v = torch.full((1, 1, tokens, 4), -18.0), torch.ones(1, 1, tokens, 4)
    k[:, :, 2000], v[:, :, 2000] = 2.0, -7.0
    q = torch.ones(1, 1, tokens, 4)
    out = built(Infini(segment=64, gate_start=60.0))(q, k, v).out
    assert_close(out[0, 0, -1], torch.full((4,), -7.0), rtol=1e-4, atol=0)


def test_neither_autocast_nor_a_lowered_precision_reaches_the_sums() -> None:
    mixer = built(Infini(segment=8, write="delta"), Heads(1, 1, 32, 0.2))
    qkv = [x.requires_grad_() for x in drawn(64, width=32)]
    plain = memory_after(mixer, qkv)
    slopes = torch.autograd.grad(plain.total.square().sum(), qkv[1:])
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            lowered = memory_after(mixer, qkv)
            others = torch.autograd.grad(lowered.total.square().sum(), qkv[1:])
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(lowered.total, plain.total)
    assert torch.equal(lowered.normaliser, plain.normaliser)
    for one, other in zip(others, slopes, strict=True):
        assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_stored_in_full(kind: torch.dtype) -> None:
    mixer = built(Infini(segment=4, write="delta"))
    q, k, v = (x.to(kind) for x in drawn(33))
    mixed = mixer(q, k, v)
    assert mixed.out.dtype == kind
    assert isinstance(mixed.memory, InfiniMemory)
    assert mixed.memory.total.dtype == mixed.memory.normaliser.dtype == torch.float32
    assert mixed.memory.keys.dtype == kind
    exact = memory_after(mixer.double(), [q.double(), k.double(), v.double()])
    for one, other in zip(true_sums(mixed.memory), true_sums(exact), strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_the_affine_scan_is_its_recursion_with_its_gradients() -> None:
    chance = torch.Generator().manual_seed(0)
    first, taken, written = (
        torch.randn(*shape, generator=chance, dtype=torch.float64).requires_grad_()
        for shape in ((2, 3, 4), (2, 5, 3, 3), (2, 5, 3, 4))
    )
    states = affine_scan(first, taken, written)
    state = first
    for step in range(5):
        assert_close(states[:, step], state)
        state = state - taken[:, step] @ state + written[:, step]
    assert_close(states[:, 5], state)
    assert torch.autograd.gradcheck(affine_scan, (first, taken, written))
