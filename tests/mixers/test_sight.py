"""What softmax attention sees beside the past, asked of one query and one key at a time, in float64."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from glassworks.core.errors import InvalidInput
from glassworks.mixers import MIXERS, Gates, Heads, Sight, Softmax, attention_map
from glassworks.mixers.softmax import Kernel, KeyValues

HEADS = Heads(4, 2, 3, 0.6)
CLOSE = {"rtol": 1e-9, "atol": 1e-11}
CHANCE = torch.Generator().manual_seed(0)
Q, K, V = (torch.randn(3, heads, 9, 3, generator=CHANCE, dtype=torch.float64) for heads in (4, 2, 2))
BIAS = torch.randn(1, 4, 9, 9, generator=CHANCE, dtype=torch.float64)
# A row without padding, one with padding in front, one with padding behind and in the middle.
REAL = torch.tensor([[1] * 9, [0, 0, 0, 1, 1, 1, 1, 1, 1], [1, 1, 0, 1, 1, 1, 1, 0, 0]]).bool()
STARTS = torch.tensor([[0, 0, 1, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1, 0, 0], [0] * 9]).bool()
PREFIX = torch.tensor([4, 2, 3])

GATES = {
    "ahead": Gates(sight=Sight(ahead=True)),
    "ahead, padded": Gates(real=REAL, sight=Sight(ahead=True)),
    "prefix": Gates(sight=Sight(prefix=PREFIX)),
    "prefix, padded": Gates(real=REAL, sight=Sight(prefix=PREFIX)),
    "bias": Gates(sight=Sight(bias=BIAS)),
    "bias of each, padded": Gates(real=REAL, sight=Sight(bias=BIAS + PREFIX[:, None, None, None])),
    "bias, ahead": Gates(sight=Sight(ahead=True, bias=BIAS)),
    "packed": Gates(starts=STARTS),
    "packed, padded, bias": Gates(real=REAL, starts=STARTS, sight=Sight(bias=BIAS)),
    "packed, ahead": Gates(starts=STARTS, sight=Sight(ahead=True)),
}
each_gates = pytest.mark.parametrize("gates", GATES.values(), ids=GATES)


def looks(gates: Gates, row: int, query: int, key: int) -> bool:
    sight = gates.sight or Sight()
    real = REAL[row] if gates.real is not None else torch.ones(9, dtype=torch.bool)
    seen = sight.ahead or key <= query
    if sight.prefix is not None:
        seen = seen or all(real[: place + 1].sum() <= sight.prefix[row] for place in (query, key))
    if gates.starts is not None:
        low, high = sorted((query, key))
        seen = seen and not STARTS[row, low + 1 : high + 1].any()
    return bool(seen and real[key])


def slow(q: Tensor, k: Tensor, v: Tensor, gates: Gates) -> Tensor:
    bias = torch.zeros(1, dtype=q.dtype)
    if gates.sight is not None and gates.sight.bias is not None:
        bias = gates.sight.bias
    seen = torch.tensor([[[looks(gates, row, i, j) for j in range(9)] for i in range(9)] for row in range(3)])
    seen |= ~seen.any(-1, keepdim=True)
    k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    weights = torch.exp(0.6 * (q[:, :, :, None] * k[:, :, None]).sum(-1) + bias) * seen[:, None]
    return weights / weights.sum(-1, keepdim=True) @ v


@each_gates
def test_both_kernels_see_what_a_question_for_each_pair_says(gates: Gates) -> None:
    real = REAL if gates.real is not None else torch.ones_like(REAL)
    expected = slow(Q, K, V, gates)
    for kernel in ("sdpa", "plain"):
        mixer = Softmax(kernel=kernel).build(HEADS)
        out = mixer(Q, K, V, gates=gates).out
        assert out.isfinite().all()
        assert_close(out.transpose(1, 2)[real], expected.transpose(1, 2)[real], **CLOSE)
        seen = attention_map(mixer, Q, K, gates)
        assert_close(seen @ V.repeat_interleave(2, 1), out, **CLOSE)


@pytest.mark.parametrize("kernel", ["sdpa", "plain"])
def test_a_bias_is_learned(kernel: Kernel) -> None:
    bias = BIAS.clone().requires_grad_()
    towards = torch.randn(V.shape[0], 4, 9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gates = Gates(sight=Sight(bias=bias))
    (quick,) = torch.autograd.grad(Softmax(kernel=kernel).build(HEADS)(Q, K, V, gates=gates).out, bias, towards)
    (plain,) = torch.autograd.grad(slow(Q, K, V, gates), bias, towards)
    assert_close(quick, plain, **CLOSE)
    assert not plain.triu(1).any()


@pytest.mark.parametrize("gates", [GATES["packed"], Gates(real=REAL, starts=STARTS)], ids=["packed", "padded"])
def test_packed_texts_may_be_cut_anywhere(gates: Gates) -> None:
    mixer, memory, outs = Softmax().build(HEADS), None, []
    for part in (slice(0, 3), slice(3, 4), slice(4, 9)):
        some = Gates(None if gates.real is None else gates.real[:, part], starts=STARTS[:, part])
        # A piece in which no text begins need not say so.
        some = some if STARTS[:, part].any() else Gates(some.real)
        mixed = mixer(*(x[:, :, part] for x in (Q, K, V)), memory, some)
        memory = mixed.memory
        outs.append(mixed.out)
    assert_close(torch.cat(outs, 2), mixer(Q, K, V, gates=gates).out, **CLOSE)
    assert isinstance(memory, KeyValues)
    assert torch.equal(memory.starts if memory.starts is not None else STARTS, STARTS)


def test_a_look_across_reads_another_text_of_any_length() -> None:
    real = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]]).bool()
    k, v = K[:, :, :4], V[:, :, :4]
    for kernel in ("sdpa", "plain"):
        mixer = Softmax(kernel=kernel).build(HEADS)
        out = mixer(Q, k, v, gates=Gates(real=real, sight=Sight(ahead=True)), remember=False).out
        alone = mixer(Q[:1], k[:1, :, :3], v[:1, :, :3], gates=Gates(sight=Sight(ahead=True)), remember=False).out
        assert_close(out[:1], alone, **CLOSE)
        scores = 0.6 * Q[1] @ k[1].repeat_interleave(2, 0).mT
        assert_close(out[1], torch.softmax(scores, -1) @ v[1].repeat_interleave(2, 0), **CLOSE)
        # Of a source that is padding alone something finite is read.
        assert out[2].isfinite().all()


def test_every_other_mixer_refuses_to_look_ahead() -> None:
    for kind in MIXERS:
        mixer = kind().build(HEADS)
        if not isinstance(kind(), Softmax):
            with pytest.raises(InvalidInput, match="reads the past only"):
                mixer(Q, K, V, gates=Gates(sight=Sight(ahead=True)))


def test_no_mask_is_made_where_only_the_past_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, object]] = []
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        "glassworks.mixers.softmax.F.scaled_dot_product_attention",
        lambda *args, **kwargs: (calls.append(kwargs), fused(*args, **kwargs))[1],
    )
    mixer = Softmax(kernel="sdpa").build(HEADS)
    for gates in (None, Gates(), Gates(sight=Sight(ahead=True))):
        mixer(Q, K, V, gates=gates)
    assert [(call["attn_mask"], call["is_causal"]) for call in calls] == [(None, True), (None, True), (None, False)]
    assert math.isclose(float(calls[0]["scale"]), 0.6)
