"""Every mixer on the shelf keeps every promise of the room; its line there is enough to be tested."""

import pkgutil
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import glassworks.mixers
from glassworks.core.errors import InvalidInput
from glassworks.mixers import (
    MIXERS,
    Gates,
    Heads,
    Infini,
    Linear,
    Local,
    Memorizing,
    Memory,
    Mixer,
    MixerSpec,
    SlidingWindow,
    TransformerXL,
    attention_map,
)

# Rounding of float64 sums over at most 63 tokens; measured differences are below 1e-14.
CLOSE = {"rtol": 1e-9, "atol": 1e-11}
SIZES = [
    Heads(1, 1, 8, 8**-0.5),
    Heads(4, 4, 3, 1.0),
    Heads(6, 2, 4, 0.5, rotary_base=10000.0),
    Heads(4, 1, 5, 0.3),
]
# Beside the defaults, settings without which 63 tokens would not show what the spec is for.
VARIANTS: list[MixerSpec] = [
    Infini(segment=4),
    Infini(segment=5, write="delta", first="zero", gate_start=1.5),
    Linear(keep=True),
    Local(segment=6),
    TransformerXL(segment=6),
    TransformerXL(segment=4, segments=2, stop_gradient=False),
    Memorizing(segment=6, neighbours=3, capacity=10),
    SlidingWindow(window=4, sinks=2),
]


def named(spec: MixerSpec) -> str:
    changed = [value for name, value in spec if name != "kind" and value != type(spec).model_fields[name].default]
    return "-".join([spec.kind, *map(str, changed)])


# Segments and windows longer than any text here would only be softmax attention again.
SHOWN: set[type[MixerSpec]] = {type(spec) for spec in VARIANTS if spec.rotates_inside}
DEFAULTS = [variant() for variant in MIXERS if variant not in SHOWN]

pytestmark = pytest.mark.parametrize("spec", DEFAULTS + VARIANTS, ids=named)
# Heads of their own and grouped, turned ones at every turn; the others with the slow tests.
each_size = pytest.mark.parametrize(
    "heads",
    [
        pytest.param(h, id=f"{h.query_heads}q{h.kv_heads}kv", marks=() if h.kv_heads in (2, 4) else pytest.mark.slow)
        for h in SIZES
    ],
)


def reference(spec: MixerSpec, qkv: tuple[Tensor, Tensor, Tensor], heads: Heads) -> Tensor:
    """The slow version, which is told of the rotation where the mixer turns queries and keys itself."""
    slow: Any = spec.reference
    turning = {"rotary_base": heads.rotary_base} if spec.rotates_inside else {}
    return slow(*qkv, scale=heads.scale, **turning)


def drawn(heads: Heads, tokens: int, batch: int = 2, value_width: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    chance = torch.Generator().manual_seed(tokens)

    def numbers(count: int, width: int) -> Tensor:
        return torch.randn(batch, count, tokens, width, generator=chance, dtype=torch.float64, requires_grad=True)

    return (
        numbers(heads.query_heads, heads.head_width),
        numbers(heads.kv_heads, heads.head_width),
        numbers(heads.kv_heads, value_width or heads.head_width),
    )


def in_pieces(mixer: Mixer, qkv: tuple[Tensor, Tensor, Tensor], cuts: list[int]) -> Tensor:
    memory: Memory | None = None
    outs: list[Tensor] = []
    for start, end in zip([0, *cuts], [*cuts, qkv[0].shape[2]], strict=True):
        mixed = mixer(*(x[:, :, start:end] for x in qkv), memory)
        memory = mixed.memory
        outs.append(mixed.out)
    return torch.cat(outs, 2)


@each_size
@pytest.mark.parametrize("tokens", [1, 7, 63])
def test_equals_its_reference_in_values_and_gradients(spec: MixerSpec, heads: Heads, tokens: int) -> None:
    qkv = drawn(heads, tokens, value_width=6)
    fast = spec.build(heads)(*qkv).out
    slow = reference(spec, qkv, heads)
    assert_close(fast, slow, **CLOSE)
    towards = torch.randn(slow.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for quick, plain in zip(
        torch.autograd.grad(fast, qkv, towards), torch.autograd.grad(slow, qkv, towards), strict=True
    ):
        assert_close(quick, plain, **CLOSE)


@each_size
def test_is_linear_in_the_values(spec: MixerSpec, heads: Heads) -> None:
    q, k, v = drawn(heads, 7)
    other = drawn(heads, 8)[2][:, :, :7]
    mixer = spec.build(heads)
    assert_close(mixer(q, k, 2 * v - 3 * other).out, 2 * mixer(q, k, v).out - 3 * mixer(q, k, other).out, **CLOSE)


@each_size
def test_one_hot_values_show_the_attention_map(spec: MixerSpec, heads: Heads) -> None:
    q, k, v = drawn(heads, 9)
    mixer = spec.build(heads)
    seen = attention_map(mixer, q, k)
    assert seen.shape == (2, heads.query_heads, 9, 9)
    assert_close(seen @ v.repeat_interleave(heads.group, 1), mixer(q, k, v).out, **CLOSE)
    assert not seen.triu(1).any()
    assert (seen.diagonal(dim1=-2, dim2=-1) != 0).all()


@each_size
@pytest.mark.parametrize("cuts", [[1], [4, 5], [2, 7, 8, 12], list(range(1, 13))], ids=str)
def test_may_be_cut_anywhere_when_the_memory_is_handed_on(spec: MixerSpec, heads: Heads, cuts: list[int]) -> None:
    qkv = drawn(heads, 13)
    mixer = spec.build(heads)
    assert_close(in_pieces(mixer, qkv, cuts), mixer(*qkv).out, **CLOSE)


@each_size
def test_fewer_queries_than_keys_stand_at_the_last_tokens(spec: MixerSpec, heads: Heads) -> None:
    q, k, v = drawn(heads, 11)
    mixer = spec.build(heads)
    for last in (1, 4):
        assert_close(mixer(q[:, :, -last:], k, v).out, mixer(q, k, v).out[:, :, -last:], **CLOSE)


@each_size
def test_gradients_flow_through_the_memory(spec: MixerSpec, heads: Heads) -> None:
    qkv = drawn(heads, 6)
    mixer = spec.build(heads)
    whole = torch.autograd.grad(mixer(*qkv).out.square().sum(), qkv)
    for one, other in zip(torch.autograd.grad(in_pieces(mixer, qkv, [2, 3]).square().sum(), qkv), whole, strict=True):
        assert_close(one, other, **CLOSE)


@each_size
@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_padding_changes_no_real_token(spec: MixerSpec, heads: Heads, side: str) -> None:
    before, after = {"left": (3, 0), "right": (0, 3), "both": (2, 3)}[side]
    q, k, v = drawn(heads, 5, batch=1)
    padded = [torch.nn.functional.pad(x, (0, 0, before, after), value=50.0) for x in (q, k, v)]
    real = torch.zeros(1, 5 + before + after, dtype=torch.bool)
    real[:, before : before + 5] = True
    mixer = spec.build(heads)
    out = mixer(*padded, gates=Gates(real=real)).out
    assert_close(out[:, :, before : before + 5], mixer(q, k, v).out, **CLOSE)
    assert out.isfinite().all()


@each_size
def test_padding_leaks_neither_gradient_nor_memory(spec: MixerSpec, heads: Heads) -> None:
    q, k, v = drawn(heads, 8)
    real = torch.ones(2, 8, dtype=torch.bool)
    real[0, :3] = False
    mixer = spec.build(heads)
    first = mixer(*(x[:, :, :5] for x in (q, k, v)), gates=Gates(real=real[:, :5]))
    then = mixer(*(x[:, :, 5:] for x in (q, k, v)), first.memory)
    alone = mixer(*(x[:1, :, 3:] for x in (q, k, v))).out
    assert_close(then.out[:1], alone[:, :, 2:], **CLOSE)
    by_key, by_value = torch.autograd.grad(then.out.sum(), (k, v))
    for gradient in (by_key, by_value):
        assert not gradient[0, :, :3].any()
        assert gradient.isfinite().all()
        assert gradient[1, :, :3].any()


@each_size
def test_a_memory_follows_the_sequences_it_belongs_to(spec: MixerSpec, heads: Heads) -> None:
    qkv = drawn(heads, 6, batch=3)
    order = torch.tensor([2, 0, 0])
    mixer = spec.build(heads)
    memory = mixer(*(x[:, :, :4] for x in qkv)).memory
    assert memory is not None
    swapped = mixer(*(x[order, :, 4:] for x in qkv), memory.select(order).to("cpu")).out
    assert_close(swapped, mixer(*qkv).out[order][:, :, 4:], **CLOSE)


def test_the_memory_of_another_mixer_is_refused(spec: MixerSpec) -> None:
    class Foreign(Memory): ...

    qkv = drawn(SIZES[0], 3)
    with pytest.raises(InvalidInput, match="Foreign"):
        spec.build(SIZES[0])(*qkv, Foreign())


def test_a_gate_that_the_spec_does_not_name_is_refused(spec: MixerSpec) -> None:
    mixer, qkv = spec.build(SIZES[0]), drawn(SIZES[0], 3)
    some = torch.full((2, 1, 3), 0.5, dtype=torch.float64)
    for name, gates in (("keep", Gates(keep=some)), ("write", Gates(write=some))):
        if name not in spec.gate_names and not (name == "write" and spec.adds_up):
            with pytest.raises(InvalidInput, match=name):
                mixer(*qkv, gates=gates)


def test_no_memory_is_made_when_none_is_asked_for(spec: MixerSpec) -> None:
    mixer, qkv = spec.build(SIZES[0]), drawn(SIZES[0], 3)
    assert mixer(*qkv, remember=False).memory is None
    assert_close(mixer(*qkv, remember=False).out, mixer(*qkv).out, rtol=0, atol=0)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_lower_precision_stays_near_the_reference(spec: MixerSpec, kind: torch.dtype) -> None:
    heads = SIZES[2]
    q, k, v = (x.detach().to(kind) for x in drawn(heads, 33))
    qkv = q, k, v
    out = spec.build(heads)(*qkv).out
    assert out.dtype == kind
    # bfloat16 keeps 8 bits; sums of some ten values of size 1 lose a few units in the last place.
    limit = {torch.float32: 1e-5, torch.bfloat16: 5e-2}[kind]
    slow = reference(spec, qkv, heads)
    assert (out.double() - slow).abs().max() < limit * slow.abs().max()


def test_every_spec_of_the_room_stands_on_the_shelf(spec: MixerSpec) -> None:
    for module in pkgutil.iter_modules(glassworks.mixers.__path__, "glassworks.mixers."):
        import_module(module.name)
    assert set(MIXERS) == set(MixerSpec.__subclasses__())
    assert MIXERS.parse(spec.to_json()) == spec
