"""The mesa layer equals its token-by-token reference, in both forms, wherever it is cut."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from glassworks.mixers import Gates, Heads, Linear, Memory, Mesa
from glassworks.mixers.mesa import MesaMixer, NormalEquations

HEADS = Heads(4, 2, 5, 0.6)
# Conjugate gradient is held to the reference where it is asked for all digits.
ALL_DIGITS = {"tolerance": 1e-13, "iterations": 200}
FORMS = {
    "scalar": Mesa(strength=2.5),
    "scalar, written": Mesa(write=True),
    "scalar, fading": Mesa(keep="with_regulariser", write=True),
    "diagonal": Mesa(regulariser="diagonal", floor=0.25),
    "diagonal, fading": Mesa(regulariser="diagonal", floor=0.25, keep="with_regulariser"),
    "MesaNet": Mesa(regulariser="diagonal", floor=0.25, keep="data_only", write=True, **ALL_DIGITS),
    "MesaNet, scalar": Mesa(keep="data_only", **ALL_DIGITS),
    "conjugate gradient": Mesa(solver="conjugate_gradient", **ALL_DIGITS),
    "conjugate gradient, fading": Mesa(keep="with_regulariser", solver="conjugate_gradient", **ALL_DIGITS),
}
each_form = pytest.mark.parametrize("spec", FORMS.values(), ids=FORMS.keys())


def drawn(tokens: int, heads: Heads = HEADS, batch: int = 2, kind: torch.dtype = torch.float64) -> list[Tensor]:
    chance = torch.Generator().manual_seed(tokens)
    counts = (heads.query_heads, heads.kv_heads, heads.kv_heads)
    return [
        torch.randn(batch, n, tokens, heads.head_width, generator=chance, dtype=torch.float64).to(kind) for n in counts
    ]


def gates_of(spec: Mesa, tokens: int, lowest: float = 0.7, batch: int = 2, kv_heads: int = 2) -> Gates:
    chance = torch.Generator().manual_seed(tokens + 1)
    keep, write = (torch.rand(batch, kv_heads, tokens, generator=chance, dtype=torch.float64) for _ in range(2))
    return Gates(
        keep=lowest + (1 - lowest) * keep if "keep" in spec.gate_names else None,
        write=write if "write" in spec.gate_names else None,
    )


def built(spec: Mesa, heads: Heads = HEADS) -> MesaMixer:
    mixer = spec.build(heads)
    assert isinstance(mixer, MesaMixer)
    return mixer


def learned(spec: Mesa, heads: Heads = HEADS) -> MesaMixer:
    """A mixer whose heads and entries no longer share one regulariser."""
    mixer = built(spec, heads)
    with torch.no_grad():
        mixer.root += torch.linspace(-0.5, 1.5, mixer.root.numel()).view_as(mixer.root)
    return mixer


@each_form
@pytest.mark.parametrize("tokens", [1, 7, 63, 64, 65, 130])
def test_equals_its_reference_at_any_length(spec: Mesa, tokens: int) -> None:
    mixer, qkv, gates = learned(spec), drawn(tokens), gates_of(spec, tokens)
    slow = spec.reference(*qkv, scale=0.6, gates=gates, regulariser=mixer.regulariser().detach())
    assert_close(mixer(*qkv, gates=gates).out, slow, rtol=1e-9, atol=1e-10)


@each_form
def test_equals_its_reference_in_float32(spec: Mesa) -> None:
    spec = spec.replaced("tolerance", 1e-6)
    mixer, qkv, gates = learned(spec), drawn(130, kind=torch.float32), gates_of(spec, 130)
    out = mixer(*qkv, gates=gates).out
    slow = spec.reference(*qkv, scale=0.6, gates=gates, regulariser=mixer.regulariser().detach())
    assert out.dtype == torch.float32
    assert (out - slow).abs().max() < 1e-4 * slow.abs().max()


@each_form
@pytest.mark.parametrize("cuts", [[1], [64], [3, 40, 41, 99], [100, 129]], ids=str)
def test_may_be_cut_anywhere_under_its_gates(spec: Mesa, cuts: list[int]) -> None:
    mixer, qkv, gates = learned(spec), drawn(130), gates_of(spec, 130)
    memory: Memory | None = None
    outs: list[Tensor] = []
    for start, end in zip([0, *cuts], [*cuts, 130], strict=True):
        mixed = mixer(*(x[:, :, start:end] for x in qkv), memory, gates.first(end).last(end - start))
        memory = mixed.memory
        outs.append(mixed.out)
    assert_close(torch.cat(outs, 2), mixer(*qkv, gates=gates).out, rtol=1e-9, atol=1e-10)


@each_form
def test_token_by_token_equals_all_at_once_with_a_memory_of_one_size(spec: Mesa) -> None:
    mixer, qkv, gates = learned(spec), drawn(40), gates_of(spec, 40)
    memory: Memory | None = None
    outs: list[Tensor] = []
    sizes: set[int] = set()
    for t in range(40):
        mixed = mixer(*(x[:, :, t : t + 1] for x in qkv), memory, gates.first(t + 1).last(1))
        memory = mixed.memory
        assert isinstance(memory, NormalEquations)
        sizes.add(memory.normal.numel() + memory.cross.numel())
        outs.append(mixed.out)
    assert_close(torch.cat(outs, 2), mixer(*qkv, gates=gates).out, rtol=1e-9, atol=1e-10)
    assert sizes == {2 * 2 * 5 * (5 + 5)}


@each_form
def test_fewer_queries_than_keys_and_padding_go_with_gates(spec: Mesa) -> None:
    mixer, (q, k, v), gates = learned(spec), drawn(30), gates_of(spec, 30)
    whole = mixer(q, k, v, gates=gates).out
    for last in (1, 9):
        assert_close(mixer(q[:, :, -last:], k, v, gates=gates).out, whole[:, :, -last:], rtol=1e-9, atol=1e-10)
    real = torch.ones(2, 30, dtype=torch.bool)
    real[0, :11] = False
    padded = Gates(real=real, keep=gates.keep, write=gates.write)
    out = mixer(q, k, v, gates=padded).out
    alone = mixer(q[:1, :, 11:], k[:1, :, 11:], v[:1, :, 11:], gates=_first_sequence(gates.last(19))).out
    assert_close(out[:1, :, 11:], alone, rtol=1e-9, atol=1e-10)
    assert_close(out[1:], whole[1:], rtol=1e-9, atol=1e-10)
    slow = spec.reference(q, k, v, scale=0.6, gates=padded, regulariser=mixer.regulariser().detach())
    assert_close(out[:1, :, 11:], slow[:1, :, 11:], rtol=1e-9, atol=1e-10)


def _first_sequence(gates: Gates) -> Gates:
    return Gates(*(None if gate is None else gate[:1] for gate in (gates.real, gates.keep, gates.write)))


def test_every_output_is_the_ridge_regression_of_the_values_on_the_keys() -> None:
    q, k, v = drawn(20, Heads(1, 1, 5, 1.0), batch=1)
    out = built(Mesa(strength=4.0), Heads(1, 1, 5, 1.0))(q, k, v).out
    for t in (0, 3, 19):
        keys, values = k[0, 0, : t + 1], v[0, 0, : t + 1]
        # Least squares with the ridge 1/4 as five more observations of 0.
        design = torch.cat([keys, 0.5 * torch.eye(5, dtype=keys.dtype)])
        wanted = torch.cat([values, torch.zeros(5, 5, dtype=keys.dtype)])
        weights = torch.linalg.lstsq(design, wanted).solution
        assert_close(out[0, 0, t], q[0, 0, t] @ weights, rtol=1e-6, atol=1e-7)


def test_a_write_of_two_halves_is_one_write_and_a_write_of_zero_is_none() -> None:
    q, k, v = drawn(6)
    mixer = built(Mesa(write=True))
    twice = [x.repeat_interleave(2, 2) for x in (q, k, v)]
    half = torch.full((2, 2, 12), 0.5, dtype=torch.float64)
    one = torch.ones(2, 2, 6, dtype=torch.float64)
    assert_close(mixer(*twice, gates=Gates(write=half)).out[:, :, 1::2], mixer(q, k, v, gates=Gates(write=one)).out)
    none = one.clone()
    none[:, :, 2] = 0
    without = [x[:, :, [0, 1, 3, 4, 5]] for x in (q, k, v)]
    skipped = mixer(q, k, v, gates=Gates(write=none)).out[:, :, [0, 1, 3, 4, 5]]
    assert_close(skipped, mixer(*without).out)


def test_with_a_large_ridge_mesa_becomes_linear_attention() -> None:
    qkv = drawn(50)
    # A ridge of 1e6 leaves R = 1e-6 (1 - O(1e-4)).
    mixer = built(Mesa(strength=1e-6))
    out = mixer(*qkv).out / mixer.regulariser()[0, 0].reciprocal().detach()
    assert_close(out, Linear().build(HEADS)(*qkv).out, rtol=1e-3, atol=1e-3)


def test_both_solvers_agree_where_both_hold() -> None:
    for keep in ("none", "with_regulariser"):
        exact = Mesa(keep=keep)
        iterated = Mesa(keep=keep, solver="conjugate_gradient", **ALL_DIGITS)
        qkv, gates = drawn(70), gates_of(exact, 70)
        assert_close(built(exact)(*qkv, gates=gates).out, built(iterated)(*qkv, gates=gates).out, rtol=1e-9, atol=1e-10)


def test_without_forgetting_a_constant_regulariser_is_the_same() -> None:
    qkv = drawn(40)
    constant = built(Mesa(keep="data_only", **ALL_DIGITS))(*qkv).out
    assert_close(constant, built(Mesa())(*qkv).out, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("regulariser", ["scalar", "diagonal"])
def test_training_starts_at_the_strength_whatever_was_there(regulariser: str) -> None:
    mixer = built(Mesa(regulariser=regulariser, strength=3.0))
    expected = 1 / 3 if regulariser == "scalar" else 3.0
    with torch.no_grad():
        mixer.root.fill_(7.0)
    mixer.start()
    assert_close(mixer.regulariser(), torch.full((2, 5), expected, dtype=torch.float64), rtol=1e-6, atol=0)
    with torch.device("meta"):
        hollow = built(Mesa(regulariser=regulariser, strength=3.0))
    hollow = hollow.to_empty(device="cpu")
    hollow.start()
    assert torch.equal(hollow.root, mixer.root)


def test_the_diagonal_never_falls_below_its_floor() -> None:
    mixer = built(Mesa(regulariser="diagonal", floor=0.25))
    with torch.no_grad():
        mixer.root.fill_(-200.0)
    assert_close(mixer.regulariser(), torch.full((2, 5), 0.25, dtype=torch.float64))


# Slow, because the fast tier's shape checks do not let the compiler through.
@pytest.mark.slow
@each_form
def test_compiled_it_gives_the_same(spec: Mesa) -> None:
    torch.compiler.reset()
    mixer, qkv, gates = learned(spec), drawn(70), gates_of(spec, 70)
    qkv = [x.requires_grad_() for x in qkv]
    plain = mixer(*qkv, gates=gates).out
    compiled = torch.compile(lambda q, k, v: mixer(q, k, v, gates=gates).out, backend="aot_eager", fullgraph=True)(*qkv)
    assert_close(compiled, plain, rtol=1e-9, atol=1e-10)
    towards = torch.ones_like(plain)
    for one, other in zip(
        torch.autograd.grad(compiled, qkv, towards), torch.autograd.grad(plain, qkv, towards), strict=True
    ):
        assert_close(one, other, rtol=1e-8, atol=1e-9)
