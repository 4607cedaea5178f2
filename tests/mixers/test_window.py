import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import glassworks.mixers.window as window_module
from glassworks.core.errors import InvalidInput
from glassworks.mixers import Gates, Heads, Memory, SlidingWindow, Softmax, attention_map
from glassworks.mixers.window import WindowMemory

HEADS = Heads(4, 2, 6, 0.4, rotary_base=100.0)
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def drawn(batch: int, tokens: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    chance = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(batch, heads, tokens, 6, generator=chance, dtype=torch.float64) for heads in (4, 2, 2))
    return q, k, v


@pytest.fixture(params=[1, 5])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(window_module, "SHORTEST_BLOCK", request.param)
    return request.param


@pytest.mark.parametrize(("window", "sinks"), [(4, 2), (7, 0), (1, 3)])
def test_blocks_of_queries_equal_the_reference(block: int, window: int, sinks: int) -> None:
    spec, given = SlidingWindow(window=window, sinks=sinks), [x.requires_grad_() for x in drawn(1, 41)]
    mixer, (q, k, v) = spec.build(HEADS), given
    slow, fast = spec.reference(q, k, v, HEADS.scale, HEADS.rotary_base), mixer(q, k, v).out
    assert_close(fast, slow, **CLOSE)
    for one, other in zip(*(torch.autograd.grad(x.square().sum(), given) for x in (fast, slow)), strict=True):
        assert_close(one, other, **CLOSE)
    memory: Memory | None = None
    outs: list[Tensor] = []
    for begin, end in ((0, 2), (2, 19), (19, 20), (20, 34), (34, 41)):
        mixed = mixer(*(x[:, :, begin:end] for x in (q, k, v)), memory)
        memory = mixed.memory
        outs.append(mixed.out)
    assert_close(torch.cat(outs, 2), slow, **CLOSE)
    assert isinstance(memory, WindowMemory)
    assert memory.keys.shape[2] == window + sinks - 1
    assert memory.filled is None


def test_sequences_out_of_step_go_on_as_each_alone(block: int) -> None:
    known, more = [1, 6, 30], 9
    mixer, qkv = SlidingWindow(window=4, sinks=2).build(HEADS), drawn(3, 30 + more)
    real = torch.arange(30) >= 30 - torch.tensor(known)[:, None]
    first = mixer(*(x[:, :, :30] for x in qkv), gates=Gates(real=real))
    memory, outs = first.memory, [first.out]
    for place in range(30, 30 + more):
        mixed = mixer(*(x[:, :, place : place + 1] for x in qkv), memory)
        memory = mixed.memory
        outs.append(mixed.out)
    for row, length in enumerate(known):
        alone = mixer(*(x[row : row + 1, :, 30 - length :] for x in qkv)).out
        assert_close(torch.cat(outs, 2)[row : row + 1, :, 30 - length :], alone, **CLOSE)


def test_reads_the_window_and_the_sinks_and_nothing_else() -> None:
    q, k, _ = drawn(1, 20)
    seen = attention_map(SlidingWindow(window=4, sinks=2).build(HEADS), q, k)[0, 0] > 0
    place = torch.arange(20)
    expected = (place[:, None] - place < 4) | (place < 2)
    assert torch.equal(seen, expected.tril())


def test_a_window_longer_than_the_text_is_softmax_attention() -> None:
    q, k, v = drawn(2, 9)
    plain = Heads(4, 2, 6, 0.4)
    assert_close(
        SlidingWindow(window=9, sinks=0).build(plain)(q, k, v).out, Softmax().build(plain)(q, k, v).out, **CLOSE
    )


def test_a_token_cannot_tell_how_long_the_text_is() -> None:
    mixer, (q, k, v) = SlidingWindow(window=5, sinks=2).build(HEADS), drawn(1, 40)
    whole = mixer(q, k, v).out
    for cut_out in (1, 13, 30):
        rest = [torch.cat([x[:, :, :2], x[:, :, 2 + cut_out :]], 2) for x in (q, k, v)]
        assert_close(mixer(*rest).out[:, :, -3:], whole[:, :, -3:], **CLOSE)


def test_distances_to_the_sinks_stop_growing() -> None:
    # All tokens equal: what a late token gives a sink depends on their distance alone.
    q, k, _ = (x[:, :, :1].expand(-1, -1, 60, -1) for x in drawn(1, 1))
    seen = attention_map(SlidingWindow(window=6, sinks=3).build(HEADS), q, k)[0, 0]
    assert_close(seen[30:, :3], seen[29:30, :3].expand(30, -1), **CLOSE)
    assert not torch.allclose(seen[6, :3], seen[8, :3])


def test_packed_texts_are_refused() -> None:
    starts = torch.tensor([[False, True, False]])
    with pytest.raises(InvalidInput, match="packed"):
        SlidingWindow().build(HEADS)(*drawn(1, 3), gates=Gates(starts=starts))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_works_under_autocast(kind: torch.dtype) -> None:
    mixer, (q, k, v) = SlidingWindow(window=5, sinks=2).build(HEADS), (x.to(kind) for x in drawn(2, 30))
    exact = mixer(q.double(), k.double(), v.double()).out
    with torch.autocast("cpu", torch.bfloat16):
        out = mixer(q, k, v).out
    assert_close(out.double(), exact, rtol=0, atol=0.05)
