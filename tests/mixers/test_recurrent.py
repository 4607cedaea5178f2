"""Mixers that read segment by segment: packed texts, sequences out of step, what is kept, and where gradients end."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from glassworks.core.errors import InvalidInput
from glassworks.mixers import Gates, Heads, Local, Memorizing, Memory, Mixer, MixerSpec, TransformerXL, attention_map
from glassworks.mixers.recurrent import RecurrentMemory

HEADS = Heads(4, 2, 6, 0.4, rotary_base=100.0)
CLOSE = {"rtol": 1e-9, "atol": 1e-11}
SPECS: list[MixerSpec] = [
    Local(segment=4),
    TransformerXL(segment=4),
    TransformerXL(segment=3, segments=2, stop_gradient=False),
    Memorizing(segment=3, neighbours=3, capacity=7),
]
each_spec = pytest.mark.parametrize("spec", SPECS, ids=str)


def drawn(batch: int, tokens: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    chance = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(batch, heads, tokens, 6, generator=chance, dtype=torch.float64) for heads in (4, 2, 2))
    return q, k, v


def read(mixer: Mixer, qkv: tuple[Tensor, ...], cuts: list[int], gates: Gates | None = None) -> Tensor:
    memory: Memory | None = None
    outs: list[Tensor] = []
    for begin, end in zip([0, *cuts], [*cuts, qkv[0].shape[2]], strict=True):
        here = gates if gates is None else gates.first(end).last(end - begin)
        mixed = mixer(*(x[:, :, begin:end] for x in qkv), memory, here)
        memory = mixed.memory
        outs.append(mixed.out)
    return torch.cat(outs, 2)


@each_spec
@pytest.mark.parametrize("cuts", [[], [1, 2, 9, 16]], ids=str)
def test_packed_texts_are_read_as_each_alone(spec: MixerSpec, cuts: list[int]) -> None:
    texts = [[13, 8], [3, 6, 12]]
    mixer, qkv = spec.build(HEADS), drawn(2, 21)
    starts = torch.zeros(2, 21, dtype=torch.bool)
    for row, lengths in enumerate(texts):
        for begin in torch.tensor(lengths).cumsum(0)[:-1]:
            starts[row, begin] = True
    together = read(mixer, qkv, cuts, Gates(starts=starts))
    for row, lengths in enumerate(texts):
        begin = 0
        for length in lengths:
            part = [x[row : row + 1, :, begin : begin + length] for x in qkv]
            assert_close(together[row : row + 1, :, begin : begin + length], mixer(*part).out, **CLOSE)
            begin += length


@each_spec
def test_sequences_out_of_step_go_on_as_each_alone(spec: MixerSpec) -> None:
    known, more = [2, 9, 14], 5
    mixer, qkv = spec.build(HEADS), drawn(3, 14 + more)
    real = torch.arange(14) >= 14 - torch.tensor(known)[:, None]
    gates = Gates(real=torch.cat([real, torch.ones(3, more, dtype=torch.bool)], 1))
    for cuts in ([5, 14, 17], list(range(14, 14 + more))):
        together = read(mixer, qkv, cuts, gates)
        for row, length in enumerate(known):
            alone = mixer(*(x[row : row + 1, :, 14 - length :] for x in qkv)).out
            assert_close(together[row : row + 1, :, 14 - length :], alone, **CLOSE)


@each_spec
def test_padding_between_tokens_is_no_place(spec: MixerSpec) -> None:
    mixer, qkv = spec.build(HEADS), drawn(1, 15)
    real = torch.tensor([[True, True, False, True, False, False] + [True] * 7 + [False, True]])
    alone = mixer(*(x[:, :, real[0]] for x in qkv)).out
    assert_close(read(mixer, qkv, [4, 6], Gates(real=real))[:, :, real[0]], alone, **CLOSE)


@pytest.mark.parametrize("spec", SPECS[:3], ids=str)
def test_places_are_distances_in_the_text(spec: MixerSpec) -> None:
    # All tokens equal: what one gives another depends on their distance, and on how many others it reads.
    q, k, _ = (x[:, :, :1].expand(-1, -1, 16, -1) for x in drawn(1, 1))
    seen = attention_map(spec.build(HEADS), q, k)[0, 0]
    plain = attention_map(spec.build(Heads(4, 2, 6, 0.4)), q, k)[0, 0]
    last = int((plain[15] > 0).sum())
    assert_close(plain[15, -last:], torch.full((last,), 1 / last, dtype=torch.float64))
    assert not torch.allclose(seen, plain)
    ratios = [float(seen[row, row - 1] / seen[row, row]) for row in range(16) if seen[row, row - 1] > 0 < row]
    assert_close(ratios, [ratios[0]] * len(ratios), **CLOSE)


@each_spec
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_works_under_autocast(spec: MixerSpec, kind: torch.dtype) -> None:
    mixer, (q, k, v) = spec.build(HEADS), (x.to(kind) for x in drawn(2, 19))
    exact = mixer(q.double(), k.double(), v.double()).out
    with torch.autocast("cpu", torch.bfloat16):
        out = read(mixer, (q, k, v), [3, 10, 11])
    # Which of two nearly equal neighbours is nearest may depend on rounding; all else is off by eight bits.
    share = ((out.double() - exact).abs() < 0.05).double().mean()
    assert share > 0.9 if isinstance(spec, Memorizing) else share == 1


def test_the_cache_holds_as_many_segments_as_it_reads_and_no_graph() -> None:
    q, k, v = (x.requires_grad_() for x in drawn(2, 23))
    memory = TransformerXL(segment=4, segments=2).build(HEADS)(q, k, v).memory
    assert isinstance(memory, RecurrentMemory)
    assert memory.past_keys.shape == (2, 2, 2, 4, 6)
    assert memory.keys.shape == (2, 2, 3, 6)
    assert not memory.past_keys.requires_grad
    assert memory.keys.requires_grad
    assert_close(memory.past_keys[:, 1], k[:, :, 16:20])


@pytest.mark.parametrize("stop", [True, False])
def test_gradients_end_at_the_segment_unless_told_otherwise(stop: bool) -> None:
    q, k, v = (x.requires_grad_() for x in drawn(1, 12))
    mixer = TransformerXL(segment=4, stop_gradient=stop).build(HEADS)
    out = read(mixer, (q, k, v), [5, 9])
    for gradient in torch.autograd.grad(out[:, :, 8:].sum(), (k, v)):
        assert bool(gradient[:, :, 8:].any())
        assert bool(gradient[:, :, 4:8].any()) is not stop
        assert not gradient[:, :, :4].any()


def test_each_layer_reaches_as_many_segments_back_as_it_keeps() -> None:
    q, k, _ = drawn(1, 12)
    seen = attention_map(TransformerXL(segment=3, segments=2).build(HEADS), q, k)[0, 0]
    reach = [int((row > 0).nonzero()[0]) for row in seen]
    assert reach == [0] * 9 + [3] * 3


def test_a_local_layer_never_looks_back_beyond_its_segment() -> None:
    q, k, _ = drawn(1, 11)
    seen = attention_map(Local(segment=4).build(HEADS), q, k)[0, 0] > 0
    same = torch.arange(11)[:, None] // 4 == torch.arange(11) // 4
    assert torch.equal(seen, same.tril())


def test_memories_of_related_mixers_are_told_apart() -> None:
    qkv = drawn(1, 5)
    for one, other in ((SPECS[0], SPECS[1]), (SPECS[1], SPECS[0]), (SPECS[3], SPECS[1]), (SPECS[1], SPECS[3])):
        with pytest.raises(InvalidInput, match="cannot go on from"):
            one.build(HEADS)(*qkv, other.build(HEADS)(*qkv).memory)
