"""Infini-attention equals the loops of its reference: both rules, both beginnings, wherever it is cut or packed."""

import itertools
from collections.abc import Sequence

import pytest
import torch
from _pytest.mark import ParameterSet
from torch import Tensor
from torch.testing import assert_close

from glassworks.core.errors import InvalidInput
from glassworks.mixers import Gates, Heads, Infini, InfiniMemory, Memory
from glassworks.mixers.infini import InfiniMixer
from glassworks.mixers.infini_reference import by_segments

CLOSE = {"rtol": 1e-9, "atol": 1e-11}
HEADS = Heads(4, 2, 6, 0.6, rotary_base=100.0)
# The fast tier sees each choice once; the slow one all of them together.
FAST = [Infini(segment=4), Infini(segment=4, write="delta", first="zero")]
FORMS = [
    Infini(segment=n, write=write, first=first)
    for n in (4, 1)
    for write in ("linear", "delta")
    for first in ("local", "zero")
]


def slowly(values: Sequence[object], fast: Sequence[object]) -> list[ParameterSet]:
    return [pytest.param(x, marks=() if x in fast else pytest.mark.slow) for x in values]


each_form = pytest.mark.parametrize("spec", slowly(FORMS, FAST), ids=lambda s: f"{s.segment}-{s.write}-{s.first}")
each_rule = pytest.mark.parametrize("write", ["linear", "delta"])


def drawn(tokens: int, heads: Heads = HEADS, batch: int = 2, value_width: int = 5) -> list[Tensor]:
    chance = torch.Generator().manual_seed(tokens)
    sizes = ((heads.query_heads, heads.head_width), (heads.kv_heads, heads.head_width), (heads.kv_heads, value_width))
    return [torch.randn(batch, n, tokens, width, generator=chance, dtype=torch.float64) for n, width in sizes]


def learned(spec: Infini, heads: Heads = HEADS) -> InfiniMixer:
    """A mixer whose heads differ in their gates."""
    mixer = spec.build(heads).double()
    assert isinstance(mixer, InfiniMixer)
    with torch.no_grad():
        mixer.gate.copy_(torch.linspace(-2, 2, heads.query_heads))
    return mixer


def slow(mixer: InfiniMixer, qkv: list[Tensor], gates: Gates | None = None) -> Tensor:
    heads = mixer.heads
    rules = mixer.spec.rules(heads.head_width, heads.scale, heads.rotary_base)
    return by_segments((qkv[0], qkv[1], qkv[2]), mixer.gate, rules, gates)


def in_pieces(mixer: InfiniMixer, qkv: list[Tensor], cuts: list[int], gates: Gates | None = None) -> Tensor:
    memory: Memory | None = None
    outs: list[Tensor] = []
    for start, end in zip([0, *cuts], [*cuts, qkv[0].shape[2]], strict=True):
        some = None if gates is None else gates.first(end).last(end - start)
        mixed = mixer(*(x[:, :, start:end] for x in qkv), memory, some)
        memory = mixed.memory
        outs.append(mixed.out)
    return torch.cat(outs, 2)


def weights(tokens: int, batch: int = 2) -> Tensor:
    """Strengths from 0 to 3, some of them 0."""
    chance = torch.Generator().manual_seed(3)
    found = 3 * torch.rand(batch, HEADS.kv_heads, tokens, generator=chance, dtype=torch.float64)
    return found * (found > 0.5)


@each_form
@pytest.mark.parametrize("tokens", slowly([1, 3, 4, 5, 23], [23]))
def test_equals_the_loops_in_values_and_in_every_gradient(spec: Infini, tokens: int) -> None:
    mixer = learned(spec)
    qkv, write = [x.requires_grad_() for x in drawn(tokens)], weights(tokens).requires_grad_()
    gates = Gates(write=write)
    fast, plain = mixer(*qkv, gates=gates).out, slow(mixer, qkv, gates)
    assert_close(fast, plain, **CLOSE)
    towards = torch.randn(plain.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inputs = [*qkv, write, mixer.gate]
    found = [
        torch.autograd.grad(out, inputs, towards, materialize_grads=True, allow_unused=True) for out in (fast, plain)
    ]
    for one, other in zip(*found, strict=True):
        assert_close(one, other, **CLOSE)


@each_form
@pytest.mark.parametrize(
    "cuts", slowly([[1], [3], [4], [7, 8], [2, 11, 12], list(range(1, 14))], [[2, 11, 12]]), ids=str
)
def test_may_be_cut_anywhere_under_its_strengths(spec: Infini, cuts: list[int]) -> None:
    mixer, qkv, gates = learned(spec), drawn(14), Gates(write=weights(14))
    assert_close(in_pieces(mixer, qkv, cuts, gates), mixer(*qkv, gates=gates).out, **CLOSE)


@each_form
@pytest.mark.parametrize("cuts", slowly([[], [5], [6, 9], list(range(1, 15))], [[6, 9]]), ids=str)
def test_padding_on_either_side_is_as_if_each_text_stood_alone(spec: Infini, cuts: list[int]) -> None:
    mixer, qkv, write = learned(spec), drawn(15, batch=3), weights(15, batch=3)
    spans = [(5, 15), (0, 11), (3, 13)]
    real = torch.zeros(3, 15, dtype=torch.bool)
    for row, (begin, end) in enumerate(spans):
        real[row, begin:end] = True
    broken = [x.masked_fill(~real[:, None, :, None], torch.nan) for x in qkv]
    out = in_pieces(mixer, broken, cuts, Gates(real=real, write=write))
    for row, (begin, end) in enumerate(spans):
        alone = [x[row : row + 1, :, begin:end] for x in (*qkv, write[..., None])]
        expected = slow(mixer, alone[:3], Gates(write=alone[3][..., 0]))
        assert_close(out[row : row + 1, :, begin:end], expected, **CLOSE)


@each_form
@pytest.mark.parametrize("cuts", slowly([[], [4], [7, 8], list(range(1, 17))], [[7, 8]]), ids=str)
def test_packed_texts_are_as_if_each_stood_alone(spec: Infini, cuts: list[int]) -> None:
    mixer, qkv = learned(spec), drawn(17)
    starts = torch.zeros(2, 17, dtype=torch.bool)
    texts = [[0, 3, 4, 12, 17], [0, 8, 17]]
    for row, begins in enumerate(texts):
        starts[row, begins[1:-1]] = True
    out = in_pieces(mixer, qkv, cuts, Gates(starts=starts))
    for row, begins in enumerate(texts):
        for begin, end in itertools.pairwise(begins):
            expected = slow(mixer, [x[row : row + 1, :, begin:end] for x in qkv])
            assert_close(out[row : row + 1, :, begin:end], expected, **CLOSE)
    assert_close(out, slow(mixer, qkv, Gates(starts=starts)), **CLOSE)


@each_rule
def test_gradients_through_padding_and_packing_are_those_of_the_loops(write: str) -> None:
    mixer, qkv = learned(Infini(segment=3, write=write)), [x.requires_grad_() for x in drawn(16)]
    real = torch.ones(2, 16, dtype=torch.bool)
    real[0, :4] = real[1, 14:] = real[1, 5] = False
    starts = torch.zeros(2, 16, dtype=torch.bool)
    starts[0, 9] = starts[1, 7] = True
    gates = Gates(real=real, starts=starts)
    towards = torch.randn(2, 4, 16, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    towards = towards * real[:, None, :, None]
    found = [
        torch.autograd.grad(out, [*qkv, mixer.gate], towards)
        for out in (mixer(*qkv, gates=gates).out, slow(mixer, qkv, gates))
    ]
    for one, other in zip(*found, strict=True):
        assert_close(one, other, **CLOSE)


@pytest.mark.slow
@each_rule
def test_its_gradients_are_the_slopes_of_its_outputs(write: str) -> None:
    heads = Heads(2, 1, 2, 0.7, rotary_base=10.0)
    mixer = learned(Infini(segment=2, write=write), heads)
    qkv = [x.requires_grad_() for x in drawn(7, heads, batch=1, value_width=2)]
    strengths = torch.linspace(0.2, 2, 7, dtype=torch.float64).expand(1, 1, 7).clone().requires_grad_()

    def out(q: Tensor, k: Tensor, v: Tensor, w: Tensor, gate: Tensor) -> Tensor:
        values = {"gate": gate}
        return torch.func.functional_call(mixer, values, (q, k, v, None, Gates(write=w))).out

    assert torch.autograd.gradcheck(out, (*qkv, strengths, mixer.gate.detach().clone().requires_grad_()))


@each_rule
def test_no_token_reads_a_later_one(write: str) -> None:
    mixer, qkv = learned(Infini(segment=4, write=write)), drawn(19)
    whole = mixer(*qkv).out
    for t in (3, 4, 11, 18):
        changed = [x.clone() for x in qkv]
        for x in changed:
            x[:, :, t:] += 1
        assert torch.equal(mixer(*changed).out[:, :, :t], whole[:, :, :t])


def test_a_whole_number_of_repeats_is_that_strength_under_the_linear_rule() -> None:
    mixer = learned(Infini(segment=4))
    q, k, v = drawn(12)
    strengths = torch.ones(2, 2, 12, dtype=torch.float64)
    strengths[:, :, 4:8] = 7
    weighed = mixer(q, k, v, gates=Gates(write=strengths)).out[:, :, 8:]
    again = [torch.cat([x[:, :, :4], *[x[:, :, 4:8]] * 7, x[:, :, 8:]], 2) for x in (q, k, v)]
    assert_close(weighed, mixer(*again).out[:, :, 32:], **CLOSE)
    strengths[:, :, 4:8] = 0
    skipped = [torch.cat([x[:, :, :4], x[:, :, 8:]], 2) for x in (q, k, v)]
    assert_close(mixer(q, k, v, gates=Gates(write=strengths)).out[:, :, 8:], mixer(*skipped).out[:, :, 4:], **CLOSE)


def test_a_pair_stored_in_every_segment_reads_as_itself_or_by_the_delta_rule_as_half() -> None:
    key, value = torch.randn(2, 3, 1, 1, 1, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)[:, 0]
    for write, expected in (("linear", [1, 1, 1, 1]), ("delta", [1, 0.5, 0.5, 0.5])):
        mixer = Infini(segment=1, write=write, gate_start=60.0).build(Heads(1, 1, 6, 1.0)).double()
        repeated = [x.expand(1, 1, 5, 6) for x in (key, key, value)]
        out = mixer(*repeated).out[0, 0, 1:]
        # A gate of 60 lets 1e-26 of the local half through.
        assert_close(out, torch.tensor(expected, dtype=torch.float64)[:, None] * value[0, 0], **CLOSE)


@each_rule
def test_what_is_read_by_the_linear_rule_is_a_mean_of_earlier_values(write: str) -> None:
    mixer = Infini(segment=3, write=write, gate_start=60.0).build(Heads(2, 1, 4, 1.0)).double()
    q, k, _ = drawn(13, Heads(2, 1, 4, 1.0))
    shares = mixer(q, k, torch.eye(13, dtype=torch.float64).expand(2, 1, 13, 13)).out[:, :, 3:]
    segment = torch.arange(13) // 3
    assert not (shares * (segment >= segment[None, 3:].T)).abs().gt(1e-20).any()
    if write == "linear":
        assert (shares >= 0).all()
        assert_close(shares.sum(-1), torch.ones(2, 2, 10, dtype=torch.float64), **CLOSE)


@each_rule
def test_its_memory_has_one_size(write: str) -> None:
    mixer, memory = learned(Infini(segment=4, write=write)), None
    sizes: set[tuple[int, ...]] = set()
    for t in range(9):
        memory = mixer(*drawn(1), memory).memory
        assert isinstance(memory, InfiniMemory)
        assert memory.keys.shape[2] == (t + 1) % 4
        sizes.add((*memory.total.shape, *memory.normaliser.shape, *memory.exponent.shape))
    assert sizes == {(2, 2, 6, 5, 2, 2, 6, 2, 2)}


def test_places_are_told_apart_by_whatever_turns_in_place_of_the_rotation() -> None:
    mixer, qkv = learned(Infini(segment=4)), drawn(11)
    seen: list[list[int]] = []

    def turn(x: Tensor, places: Tensor) -> Tensor:
        seen.append(places[0].tolist())
        return x * (1 + places[:, None, :, None])

    mixer.turn = turn
    assert not torch.allclose(mixer(*qkv).out, learned(Infini(segment=4))(*qkv).out)
    assert seen == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2], [0, 1, 2]]


def test_bad_input_is_named() -> None:
    mixer, qkv = learned(Infini(segment=4)), drawn(9)
    with pytest.raises(InvalidInput, match="negative number of times"):
        mixer(*qkv, gates=Gates(write=-weights(9)))
    memory = mixer(*qkv).memory
    assert memory is not None
    with pytest.raises(InvalidInput, match="sizes"):
        mixer(*(x[:1] for x in qkv), memory)
    with pytest.raises(InvalidInput, match="sizes"):
        Infini(segment=1).build(HEADS).double()(*qkv, memory)
    nothing = mixer(*(x[:, :, :0] for x in qkv), memory)
    assert nothing.out.shape == (2, 4, 0, 5)
    assert nothing.memory is not None
    assert_close(mixer(*qkv, nothing.memory).out, mixer(*qkv, memory).out)


# Slow, because the fast tier's shape checks do not let the compiler through, which itself does what torch warns of.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@each_rule
def test_compiled_it_gives_the_same(write: str) -> None:
    torch.compiler.reset()
    mixer, qkv = learned(Infini(segment=4, write=write)), [x.requires_grad_() for x in drawn(14)]
    plain = mixer(*qkv, remember=False).out
    work = torch.compile(lambda q, k, v: mixer(q, k, v, remember=False).out, backend="aot_eager", fullgraph=True)
    compiled = work(*qkv)
    assert_close(compiled, plain, **CLOSE)
    towards = torch.ones_like(plain)
    found = [torch.autograd.grad(out, [*qkv, mixer.gate], towards) for out in (compiled, plain)]
    for one, other in zip(*found, strict=True):
        assert_close(one, other, **CLOSE)
