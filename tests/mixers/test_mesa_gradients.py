"""The closed-form gradients of the mesa layer, against finite differences and against autograd of the reference."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from glassworks.mixers import Gates, Heads, Mesa
from glassworks.mixers.chunks import Part, cut
from glassworks.mixers.mesa import MesaMixer, NormalEquations
from glassworks.mixers.mesa_exact import exact

ALL_DIGITS = {"tolerance": 1e-14, "iterations": 200}
FORMS = {
    "scalar": Mesa(),
    "fading": Mesa(keep="with_regulariser", write=True),
    "MesaNet": Mesa(regulariser="diagonal", floor=0.25, keep="data_only", write=True, **ALL_DIGITS),
    "conjugate gradient": Mesa(solver="conjugate_gradient", **ALL_DIGITS),
}
each_form = pytest.mark.parametrize("spec", FORMS.values(), ids=FORMS.keys())
HEADS = Heads(2, 1, 3, 0.8)


def numbers(*shape: int, seed: int = 0, low: float | None = None) -> Tensor:
    chance = torch.Generator().manual_seed(seed)
    if low is None:
        return torch.randn(*shape, generator=chance, dtype=torch.float64).requires_grad_()
    return (low + (0.95 - low) * torch.rand(*shape, generator=chance, dtype=torch.float64)).requires_grad_()


def leaves(spec: Mesa, tokens: int, kv_heads: int = 1) -> list[Tensor]:
    """Queries, keys, values, the two gates, the memory's two sums, the regulariser's root."""
    mixer = spec.build(HEADS)
    assert isinstance(mixer, MesaMixer)
    return [
        numbers(2, 2 * kv_heads, tokens, 3, seed=1),
        numbers(2, kv_heads, tokens, 3, seed=2),
        numbers(2, kv_heads, tokens, 2, seed=3),
        numbers(2, kv_heads, tokens, seed=4, low=0.5),
        numbers(2, kv_heads, tokens, seed=5, low=0.1),
        numbers(2, kv_heads, 3, 4, seed=6),
        numbers(2, kv_heads, 3, 2, seed=7),
        mixer.root.detach().double().requires_grad_(),
    ]


def mixed(spec: Mesa, given: tuple[Tensor, ...], cut_at: int | None = None) -> tuple[Tensor, ...]:
    """Outputs and final sums; the memory before is what some tokens of keys `past` wrote, plus the regulariser."""
    q, k, v, keep, write, past, cross, root = given
    mixer = spec.build(HEADS)
    assert isinstance(mixer, MesaMixer)
    mixer.double()
    del mixer.root
    mixer.root = root  # a plain tensor here, so that its gradient reaches the leaf
    normal = past @ past.mT
    if spec.keep != "data_only":
        normal = normal + torch.diag_embed(mixer.regulariser())
    gates = Gates(keep=keep if "keep" in spec.gate_names else None, write=write if "write" in spec.gate_names else None)
    found = mixer(q, k, v, NormalEquations(normal, cross), gates)
    assert isinstance(found.memory, NormalEquations)
    return found.out, found.memory.normal, found.memory.cross


@each_form
@pytest.mark.parametrize("tokens", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_gradients_equal_finite_differences(spec: Mesa, tokens: int) -> None:
    def work(*given: Tensor) -> tuple[Tensor, ...]:
        out, normal, cross = mixed(spec, given)
        # Every number counts differently.
        return out, normal @ torch.arange(1.0, 4, dtype=torch.float64), cross

    assert torch.autograd.gradcheck(work, leaves(spec, tokens), eps=1e-6, atol=2e-6, rtol=1e-5)


@each_form
def test_gradients_over_several_chunks_equal_those_of_the_reference(spec: Mesa) -> None:
    q, k, v, keep, write, _, _, _ = leaves(spec, 75)
    mixer = spec.build(HEADS)
    assert isinstance(mixer, MesaMixer)
    mixer.double()
    gates = Gates(keep=keep if "keep" in spec.gate_names else None, write=write if "write" in spec.gate_names else None)
    wanted = [q, k, v] + [gate for gate in (gates.keep, gates.write) if gate is not None] + [mixer.root]
    fast = mixer(q, k, v, gates=gates).out
    slow = spec.reference(q, k, v, scale=0.8, gates=gates, regulariser=mixer.regulariser())
    towards = numbers(*fast.shape, seed=9).detach()
    for one, other in zip(
        torch.autograd.grad(fast, wanted, towards), torch.autograd.grad(slow, wanted, towards), strict=True
    ):
        assert_close(one, other, rtol=1e-8, atol=1e-9)


def test_a_pair_that_is_not_written_still_tells_its_gate_what_writing_would_do() -> None:
    spec = Mesa(keep="with_regulariser", write=True)
    q, k, v, keep, write, *_ = leaves(spec, 9)
    with torch.no_grad():
        write[:, :, 4] = 0
    found = []
    for work in (
        lambda: spec.build(HEADS)(q, k, v, gates=Gates(keep=keep, write=write)).out,
        lambda: spec.reference(q, k, v, scale=0.8, gates=Gates(keep=keep, write=write)),
    ):
        found.append(torch.autograd.grad(work().square().sum(), (k, v, write)))
    for one, other in zip(*found, strict=True):
        assert_close(one, other, rtol=1e-8, atol=1e-9)
    assert not found[0][0][:, :, 4].any()
    assert found[0][2][:, :, 4].all()


@pytest.mark.parametrize("strength", [1.0, 100.0, 1e3, 1e6])
def test_float32_gradients_stay_near_float64_at_any_strength(strength: float) -> None:
    heads = Heads(2, 2, 16, 1.0)
    q, k, v = (torch.randn(1, 2, 100, 16, generator=torch.Generator().manual_seed(i)) for i in range(3))
    # Also the ill-conditioned case: no more than three directions are ever seen.
    k[:, 1] = k[:, 1, :, :3] @ torch.randn(3, 16, generator=torch.Generator().manual_seed(4))
    results = []
    for kind in (torch.float32, torch.float64):
        given = [x.to(kind).requires_grad_() for x in (q, k, v)]
        out = Mesa(strength=strength).build(heads)(*given).out
        gradients = torch.autograd.grad(out, given, torch.ones_like(out))
        results.append([x.double() for x in (out.detach(), *gradients)])
    for coarse, fine in zip(*results, strict=True):
        for head in range(2):
            worst = (coarse[:, head] - fine[:, head]).abs().max() / fine[:, head].abs().max()
            assert worst < 1e-3, f"{strength} {head} {worst}"


def test_results_that_nobody_uses_need_no_gradient() -> None:
    q, k, v = (numbers(1, 1, 6, 3, seed=i) for i in range(3))
    normal, cross = torch.eye(3, dtype=torch.float64)[None].requires_grad_(), numbers(1, 3, 3, seed=4)
    part = Part(cut(q, 1, 3), cut(k, 1, 3), cut(v, 1, 3), None, None, normal, cross)
    _, last, _ = exact(part)
    by_k, by_normal = torch.autograd.grad(last.diagonal(dim1=1, dim2=2).sum(), (k, normal))
    assert_close(by_k, 2 * k)
    assert_close(by_normal[0], torch.eye(3, dtype=torch.float64))
