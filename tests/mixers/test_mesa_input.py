"""What the mesa layer does with input it cannot work with, or only just."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from glassworks.core.errors import InvalidInput, InvalidSpec
from glassworks.mixers import Gates, Heads, Memory, Mesa
from glassworks.mixers.mesa import MesaMixer

HEADS = Heads(2, 2, 4, 1.0)
FADING = Mesa(keep="with_regulariser", write=True)
MESANET = Mesa(regulariser="diagonal", floor=0.25, keep="data_only", write=True)


def drawn(tokens: int, width: int = 4, batch: int = 3, kind: torch.dtype = torch.float32) -> list[Tensor]:
    chance = torch.Generator().manual_seed(tokens)
    return [torch.randn(batch, 2, tokens, width, generator=chance, dtype=torch.float64).to(kind) for _ in range(3)]


def close_to_reference(spec: Mesa, qkv: list[Tensor], gates: Gates | None = None, limit: float = 1e-4) -> None:
    out = spec.build(Heads(2, 2, qkv[0].shape[3], 1.0))(*qkv, gates=gates).out
    slow = spec.reference(*qkv, scale=1.0, gates=gates)
    assert out.isfinite().all()
    assert (out.double() - slow).abs().max() <= limit * slow.abs().max() + 1e-12


@pytest.mark.parametrize("strength", [1e-12, 1e-6, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("case", ["repeated", "zeros", "few directions", "huge", "tiny"])
def test_hard_contexts_are_solved_at_any_strength(strength: float, case: str) -> None:
    q, k, v = drawn(70)
    match case:
        case "repeated":
            k = k[:, :, :1].expand_as(k).contiguous()
        case "zeros":
            k, v = torch.zeros_like(k), torch.zeros_like(v)
        case "few directions":
            k[..., 2:] = 0
        case "huge":
            k = 1e3 * k
        case _:
            k = 1e-3 * k
    mixer = Mesa(strength=strength).build(HEADS)
    if (case, strength) == ("huge", 1e6):
        # Keys a thousand long against a ridge of 1e-6: not even float64 could answer to three digits.
        with pytest.raises(InvalidInput, match="float64"):
            mixer(q, k, v)
        return
    out = mixer(q, k, v).out
    # The recursion of the reference itself loses digits here; a plain solve is the judge.
    ridge = torch.eye(4, dtype=torch.float64) / strength
    sums = (k.double()[..., :, None] * k.double()[..., None, :]).cumsum(2) + ridge
    cross = (k.double()[..., :, None] * v.double()[..., None, :]).cumsum(2)
    slow = (torch.linalg.solve(sums, q.double()[..., None]).mT @ cross)[..., 0, :]
    # What float32 keys far from the data can cost: see the table in docs/papers/mesa-layer.md.
    assert out.isfinite().all()
    assert (out - slow).abs().max() <= 1e-3 * slow.abs().max() + 1e-12


@pytest.mark.parametrize("spec", [Mesa(), FADING, MESANET], ids=["original", "fading", "MesaNet"])
@pytest.mark.parametrize(("tokens", "width"), [(1, 4), (1, 1), (70, 1), (2, 6)])
def test_one_token_and_one_dimension_work(spec: Mesa, tokens: int, width: int) -> None:
    half = torch.full((3, 2, tokens), 0.5)
    gates = Gates(keep=half if "keep" in spec.gate_names else None, write=half if spec.write else None)
    close_to_reference(spec, drawn(tokens, width), gates, limit=1e-3)


def test_float32_is_redone_in_float64_where_it_is_too_coarse() -> None:
    heads = Heads(1, 1, 32, 1.0)
    chance = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 1, 200, 32, generator=chance) for _ in range(3))
    for strength in (1.0, 100.0, 1000.0, 1e5):
        out = Mesa(strength=strength).build(heads)(q, k, v).out
        fine = Mesa(strength=strength).build(heads)(q.double(), k.double(), v.double()).out
        assert (out - fine).abs().max() < 2e-5 * fine.abs().max()


def test_where_float64_is_too_coarse_as_well_one_error_says_so() -> None:
    mixer = Mesa(strength=1e18).build(HEADS)
    q, k, v = drawn(30)
    k = k[:, :, :1].expand_as(k)
    with pytest.raises(InvalidInput, match="singular even in float64") as caught:
        mixer(q, k, v)
    assert "regulariser" in str(caught.value)
    with pytest.raises(InvalidInput, match="singular even in float64"):
        mixer(q[:, :, -1:], k, v)


@pytest.mark.parametrize("strength", [1.0, 100.0])
def test_token_by_token_refuses_where_all_at_once_does(strength: float) -> None:
    # One key only, while the regulariser fades: in all other directions the sums halve at every token.
    heads, tokens = Heads(1, 1, 16, 1.0), 45
    mixer = Mesa(keep="with_regulariser", strength=strength).build(heads)
    q, k, v = (x[:1, :1] for x in drawn(tokens, 16, kind=torch.float64))
    k = k[:, :, :1].expand_as(k)
    half = torch.full((1, 1, tokens), 0.5, dtype=torch.float64)
    memory: Memory | None = None
    outs: list[Tensor] = []

    def stream() -> None:
        nonlocal memory
        for t in range(tokens):
            here = slice(t, t + 1)
            mixed = mixer(q[:, :, here], k[:, :, here], v[:, :, here], memory, Gates(keep=half[:, :, here]))
            memory = mixed.memory
            outs.append(mixed.out)

    with pytest.raises(InvalidInput, match="singular even in float64"):
        stream()
    good = len(outs)
    assert 25 < good < 40
    out = mixer(q[:, :, :good], k[:, :, :good], v[:, :, :good], gates=Gates(keep=half[:, :, :good])).out
    assert_close(torch.cat(outs, 2), out, rtol=1e-3, atol=1e-3)
    with pytest.raises(InvalidInput, match="singular even in float64"):
        mixer(*(x[:, :, : good + 1] for x in (q, k, v)), gates=Gates(keep=half[:, :, : good + 1]))


@pytest.mark.parametrize("tokens", [1, 30])
def test_what_is_not_finite_does_not_hide_that_another_sequence_is_singular(tokens: int) -> None:
    q, k, v = drawn(tokens, kind=torch.float64)
    k[1] = torch.nan
    mixer = Mesa(strength=1e18).build(HEADS)
    with pytest.raises(InvalidInput, match="singular even in float64"):
        mixer(q, k[:, :, :1].expand_as(k), v)


def test_a_gate_that_is_not_finite_leaves_strong_forgetting_elsewhere_exact() -> None:
    qkv = drawn(64)
    keep = torch.full((3, 2, 64), 0.2)
    alone = FADING.build(HEADS)(*qkv, gates=Gates(keep=keep)).out
    keep[1] = torch.nan
    out = FADING.build(HEADS)(*qkv, gates=Gates(keep=keep)).out
    assert out[1].isnan().all()
    assert_close(out[[0, 2]], alone[[0, 2]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spec", [Mesa(), FADING, MESANET], ids=["original", "fading", "MesaNet"])
@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("strange", [float("nan"), float("inf")])
@pytest.mark.parametrize("tokens", [1, 40])
def test_what_is_not_finite_shows_in_its_own_sequence_only(spec: Mesa, where: int, strange: float, tokens: int) -> None:
    qkv = drawn(tokens)
    clean = spec.build(HEADS)(*qkv).out
    qkv[where][1, :, tokens // 2, 2] = strange
    given = [x.requires_grad_() for x in qkv]
    out = spec.build(HEADS)(*given).out
    assert not out[1, :, tokens // 2].isfinite().all(-1).any()
    assert_close(out[[0, 2]], clean[[0, 2]], rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(out[[0, 2]].sum(), given[:1])
    assert gradient[[0, 2]].isfinite().all()


@pytest.mark.parametrize("spec", [FADING, MESANET], ids=["fading", "MesaNet"])
@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize("wrong", [0.0, -0.1, 1.01])
def test_a_keep_gate_outside_its_range_is_refused(spec: Mesa, tokens: int, wrong: float) -> None:
    keep = torch.full((3, 2, tokens), 0.9)
    keep[0, 1, -1] = wrong
    with pytest.raises(InvalidInput, match=r"keep gate outside \(0, 1\]") as caught:
        spec.build(HEADS)(*drawn(tokens), gates=Gates(keep=keep))
    assert "given" in str(caught.value)


@pytest.mark.parametrize("wrong", [-0.1, 1.01])
def test_a_write_gate_outside_its_range_is_refused(wrong: float) -> None:
    with pytest.raises(InvalidInput, match=r"write gate outside \[0, 1\]"):
        Mesa(write=True).build(HEADS)(*drawn(5), gates=Gates(write=torch.full((3, 2, 5), wrong)))


@pytest.mark.parametrize("kept", [0.99, 0.5, 0.05])
def test_strong_forgetting_takes_shorter_chunks_and_stays_exact(kept: float) -> None:
    qkv = drawn(66, kind=torch.float64)
    keep = torch.full((3, 2, 66), kept, dtype=torch.float64)
    out = FADING.build(HEADS)(*qkv, gates=Gates(keep=keep)).out
    # Weights of the last dozen pairs: what is older weighs less than rounding, and the regulariser nothing.
    first = 40
    weights = kept ** torch.arange(66, dtype=torch.float64).flip(0)[None, None, :, None]
    if kept == 0.99:
        slow = FADING.reference(*qkv, scale=1.0, gates=Gates(keep=keep))
        assert_close(out, slow, rtol=1e-8, atol=1e-9)
        return
    q, k, v = qkv
    normal, cross = (weights * k)[:, :, first:].mT @ k[:, :, first:], (weights * k)[:, :, first:].mT @ v[:, :, first:]
    expected = (torch.linalg.solve(normal, q[:, :, -1, :, None]).mT @ cross)[:, :, 0]
    # Each step back costs a factor `kept` of conditioning in four directions.
    assert_close(out[:, :, -1], expected, rtol=1e-4, atol=1e-4 / kept)


def test_forgetting_all_but_a_thousandth_at_each_token_is_refused_not_rounded() -> None:
    with pytest.raises(InvalidInput, match="singular even in float64"):
        FADING.build(HEADS)(*drawn(66), gates=Gates(keep=torch.full((3, 2, 66), 1e-3)))


def test_one_token_that_forgets_everything_is_a_new_start() -> None:
    qkv = drawn(40, kind=torch.float64)
    keep = torch.ones(3, 2, 40, dtype=torch.float64)
    keep[:, :, 21] = 1e-9
    out = (
        MESANET.replaced("tolerance", 1e-13).replaced("iterations", 100).build(HEADS)(*qkv, gates=Gates(keep=keep)).out
    )
    alone = MESANET.replaced("tolerance", 1e-13).build(HEADS)(*(x[:, :, 21:] for x in qkv)).out
    assert_close(out[:, :, 21:], alone, rtol=1e-6, atol=1e-6)


def test_a_solve_that_does_not_converge_says_so() -> None:
    heads = Heads(1, 1, 32, 1.0)
    chance = torch.Generator().manual_seed(0)
    qkv = [torch.randn(1, 1, 100, 32, generator=chance) for _ in range(3)]
    hard = Mesa(strength=1e4, solver="conjugate_gradient", iterations=8).build(heads)
    easy = Mesa(solver="conjugate_gradient", strength=0.01).build(heads)
    assert isinstance(hard, MesaMixer)
    assert isinstance(easy, MesaMixer)
    hard(*qkv)
    easy(*qkv)
    assert hard.last_solve is not None
    assert easy.last_solve is not None
    assert not hard.last_solve.converged
    assert hard.last_solve.iterations == 8
    assert hard.last_solve.residual > 1e-2
    assert easy.last_solve.converged
    assert easy.last_solve.iterations < 30
    assert easy.last_solve.residual < 1e-4
    exact = Mesa().build(heads)
    assert isinstance(exact, MesaMixer)
    exact(*qkv)
    assert exact.last_solve is None


@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize("strange", [float("nan"), float("inf")])
def test_what_is_not_finite_is_no_solved_residual(where: int, strange: float) -> None:
    mixer = MESANET.build(HEADS)
    assert isinstance(mixer, MesaMixer)
    qkv = drawn(20)
    # Even a query of zeros is not answered by a matrix that is not finite.
    qkv[0][0, :, 3] = 0
    qkv[where][1, 0, 5, 2] = strange
    mixer(*qkv)
    assert mixer.last_solve is not None
    assert math.isnan(mixer.last_solve.residual)
    assert not mixer.last_solve.converged


def test_the_worse_of_the_solve_and_that_of_its_gradient_is_told() -> None:
    mixer = Mesa(strength=100.0, solver="conjugate_gradient", iterations=40, tolerance=1e-3).build(HEADS)
    assert isinstance(mixer, MesaMixer)
    # The queries meet a diagonal matrix, which the first guess solves; what the values owe in the other directions waits.
    q, k, v = drawn(50)
    q[..., 1:], k[..., 0] = 0, 0
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    out = mixer(q, k, v).out
    before = mixer.last_solve
    assert before is not None
    assert (before.iterations, before.converged) == (0, True)
    torch.autograd.grad(out, v, torch.ones_like(out))
    after = mixer.last_solve
    assert after is not None
    assert after.iterations > 0
    assert after.residual > before.residual
    assert after.residual < 1e-2


def test_a_gradient_that_does_not_converge_says_so() -> None:
    mixer = Mesa(strength=1e4, solver="conjugate_gradient", iterations=1, tolerance=1e-6).build(HEADS)
    assert isinstance(mixer, MesaMixer)
    q, k, v = drawn(50)
    q[..., 1:], k[..., 0] = 0, 0
    k.requires_grad_()
    out = mixer(q, k, v).out
    assert mixer.last_solve is not None
    assert mixer.last_solve.converged
    torch.autograd.grad(out, k, v)
    assert mixer.last_solve is not None
    assert not mixer.last_solve.converged
    mixer(q, k, v)
    assert mixer.last_solve.converged


@pytest.mark.parametrize(
    "fields",
    [
        {"keep": "data_only", "solver": "exact"},
        {"floor": 0.25},
        {"floor": 1.0, "regulariser": "diagonal"},
        {"strength": 0.0},
        {"iterations": 0},
        {"tolerance": 0.0},
    ],
)
def test_impossible_choices_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidSpec):
        Mesa(**fields)


@pytest.mark.parametrize("spec", [Mesa(), FADING, MESANET], ids=["original", "fading", "MesaNet"])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_solved_in_float32(spec: Mesa, kind: torch.dtype) -> None:
    qkv = drawn(70, kind=kind)
    out = spec.build(HEADS)(*qkv).out
    assert out.dtype == kind
    slow = spec.reference(*qkv, scale=1.0)
    # Only the last rounding, to 8 or 11 bits, and conjugate gradient's tolerance.
    assert (out.double() - slow).abs().max() < 5e-3 * slow.abs().max()


def test_autocast_and_lowered_products_do_not_reach_the_solve() -> None:
    qkv = [x.requires_grad_() for x in drawn(70)]
    mixer = Mesa().build(HEADS)
    plain = mixer(*qkv).out
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            lowered = mixer(*qkv).out
            gradients = torch.autograd.grad(lowered.sum(), qkv)
    finally:
        torch.set_float32_matmul_precision(before)
    assert_close(lowered, plain, rtol=1e-5, atol=1e-6)
    for one, other in zip(gradients, torch.autograd.grad(plain.sum(), qkv), strict=True):
        assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_forgetting_beyond_what_a_number_can_hold_loses_nothing_that_follows() -> None:
    # 0.2 to the power of 64 tokens is no float32; the last tokens still count.
    spec = MESANET.replaced("tolerance", 1e-6)
    qkv = drawn(200)
    keep, write = torch.full((3, 2, 200), 0.2), torch.full((3, 2, 200), 0.9)
    close_to_reference(spec, qkv, Gates(keep=keep, write=write))
