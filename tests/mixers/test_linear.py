import pytest
import torch
from torch.testing import assert_close

from glassworks.mixers import Heads, Linear
from glassworks.mixers.linear import CHUNK, KeyValueSum

HEADS = Heads(4, 2, 3, 0.7)


@pytest.mark.parametrize("tokens", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 7])
def test_chunks_equal_one_masked_product(tokens: int) -> None:
    chance = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, tokens, 3, generator=chance, dtype=torch.float64) for heads in (4, 2, 2))
    keys, values = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    expected = 0.7 * torch.tril(q @ keys.mT) @ values
    mixed = Linear().build(HEADS)(q, k, v)
    assert_close(mixed.out, expected, rtol=1e-9, atol=1e-9)
    assert isinstance(mixed.memory, KeyValueSum)
    assert_close(mixed.memory.total, k.mT @ v)


def test_the_memory_of_bfloat16_tokens_keeps_growing() -> None:
    ones = [torch.ones(1, heads, 1, 3, dtype=torch.bfloat16) for heads in (4, 2, 2)]
    mixer, memory = Linear().build(HEADS), None
    for _ in range(300):
        memory = mixer(*ones, memory).memory
    assert isinstance(memory, KeyValueSum)
    # A bfloat16 sum of ones stops at 256.
    assert memory.total.eq(300).all()


def test_sums_over_chunks_are_not_rounded_to_bfloat16_by_autocast() -> None:
    # Six chunks of 63: the last starts from 315, which is no bfloat16.
    tokens = 6 * (CHUNK - 1)
    ones = [torch.ones(1, heads, tokens, 3) for heads in (4, 2, 2)]
    with torch.autocast("cpu", torch.bfloat16):
        memory = Linear().build(HEADS)(*ones).memory
    assert isinstance(memory, KeyValueSum)
    assert memory.total.eq(tokens).all()


def test_the_memory_does_not_grow_with_the_tokens() -> None:
    mixer = Linear().build(HEADS)
    sizes: set[torch.Size] = set()
    for tokens in (1, 40):
        memory = mixer(*(torch.ones(1, heads, tokens, 3) for heads in (4, 2, 2))).memory
        assert isinstance(memory, KeyValueSum)
        sizes.add(memory.total.shape)
    assert sizes == {torch.Size((1, 2, 3, 3))}
