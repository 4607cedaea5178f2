"""Tokens cut into segments: views where sequences are in step, a grid of whole segments where they are not."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from glassworks.mixers import Gates, Heads
from glassworks.mixers.rotation import Rotation
from glassworks.mixers.segments import Layout, SegmentMemory, attend, cut

HEADS = Heads(4, 2, 6, 0.5, rotary_base=100.0)


def counted(tokens: int, batch: int = 1, begin: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values that say which token they are."""
    number = torch.arange(begin, begin + tokens, dtype=torch.float64)[None, None, :, None]
    return number.expand(batch, 4, -1, 6), number.expand(batch, 2, -1, 6), number.expand(batch, 2, -1, 5)


def numbers(layout: Layout) -> list[list[list[float]]]:
    """The keys of the first sequence, by part and segment."""
    return [[segment[0, :, 0].tolist() for segment in part.k[0]] for part in layout.parts]


def test_sequences_in_step_are_cut_into_head_body_and_tail() -> None:
    first = cut(counted(6), 4)
    assert numbers(first) == [[[0, 1, 2, 3]], [[4, 5]]]
    assert [part.full for part in first.parts] == [True, False]
    second = cut(counted(11, begin=6), 4, first.open())
    assert numbers(second) == [[[4, 5, 6, 7]], [[8, 9, 10, 11], [12, 13, 14, 15]], [[16]]]
    assert [part.full for part in second.parts] == [True, True, False]
    assert [part.q.shape[3] for part in second.parts] == [2, 4, 1]
    assert second.open().keys[0, 0, :, 0].tolist() == [16]
    assert cut(counted(1, begin=17), 2, second.open()).open().keys.shape[2] == 0


def test_where_nothing_has_to_move_nothing_is_copied() -> None:
    q, k, v = (x.contiguous() for x in counted(12, batch=2))
    part = cut((q, k, v), 4).parts[0]
    assert [x.data_ptr() for x in (part.q, part.k, part.v)] == [x.data_ptr() for x in (q, k, v)]


def test_what_stays_open_does_not_keep_the_whole_text_alive() -> None:
    whole = counted(4001)
    rest = cut(tuple(x.contiguous() for x in whole), 4).open()
    assert rest.keys.untyped_storage().nbytes() == 2 * 6 * 8


def test_every_text_begins_with_a_segment() -> None:
    starts, real = torch.zeros(1, 10, dtype=torch.bool), torch.ones(1, 10, dtype=torch.bool)
    starts[0, 6] = True
    real[0, [0, 5]] = False
    layout = cut(counted(10), 3, gates=Gates(real=real, starts=starts))
    assert numbers(layout) == [[[1, 2, 3], [4, 0, 0], [6, 7, 8], [9, 0, 0]]]
    part = layout.parts[0]
    assert isinstance(part.full, Tensor)
    assert part.fresh is not None
    assert part.full.tolist() == [[True, False, True, False]]
    assert part.fresh.tolist() == [[False, False, True, False]]
    assert layout.open().keys[0, 0, :, 0].tolist() == [9]


def test_open_segments_of_different_lengths_grow_by_one_token_without_being_cut_anew() -> None:
    real = torch.tensor([[True] * 5, [False, False, True, True, True]])
    rest = cut(counted(5, batch=2), 4, gates=Gates(real=real)).open()
    assert rest.filled is not None
    assert rest.filled.tolist() == [1, 3]
    layout = cut(counted(1, batch=2, begin=5), 4, rest)
    (part,) = layout.parts
    assert part.k[:, 0, 0, :, 0].tolist() == [[4, 5, 0, 0], [2, 3, 4, 5]]
    assert part.q.shape == (2, 1, 4, 1, 6)
    after = layout.open()
    assert after.filled is not None
    assert after.filled.tolist() == [2, 0]


def test_a_level_memory_is_read_fast_again_after_padding() -> None:
    real = torch.tensor([[False, True, True], [False, True, True]])
    rest = cut(counted(3, batch=2), 4, gates=Gates(real=real)).open()
    assert rest.filled is None
    assert rest.keys[1, 0, :, 0].tolist() == [1, 2]


def test_strengths_stay_with_the_open_segment() -> None:
    write = torch.linspace(0, 1, 6, dtype=torch.float64).expand(1, 2, 6)
    rest = cut(counted(6), 4, gates=Gates(write=write)).open()
    assert_close(rest.write, write[:, :, 4:])
    grown = cut(counted(3, begin=6), 4, rest).parts[0].write
    assert grown is not None
    assert_close(grown[0, 0, 0], torch.tensor([0.8, 1, 1, 1], dtype=torch.float64))


@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("queries", [1, 2, 5])
def test_attention_inside_a_segment_is_softmax_over_what_came_before(group: int, queries: int) -> None:
    heads = Heads(2 * group, 2, 4, 0.7)
    chance = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, n, 5, 4, generator=chance, dtype=torch.float64) for n in (2 * group, 2, 2))
    before = 5 - queries
    memory = SegmentMemory(k[:, :, :before], v[:, :, :before], None, None) if before else None
    layout = cut((q[:, :, before:], k[:, :, before:], v[:, :, before:]), 8, memory)
    found = layout.joined([attend(part, heads) for part in layout.parts])
    scores = 0.7 * q @ k.repeat_interleave(group, 1).mT
    wanted = scores.masked_fill(torch.ones(5, 5).triu(1) > 0, -torch.inf).softmax(-1) @ v.repeat_interleave(group, 1)
    assert_close(found, wanted[:, :, before:], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_turning_at_once_is_turning(kind: torch.dtype) -> None:
    chance = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, 7, 6, generator=chance, dtype=torch.float64).to(kind).requires_grad_()
    rotation = Rotation.at(torch.arange(7)[None], 6, 100.0, torch.float64)
    towards = torch.randn(x.shape, generator=chance, dtype=torch.float64).to(kind)
    close = {"rtol": 1e-12, "atol": 1e-12} if kind == torch.float64 else {"rtol": 0.02, "atol": 0.02}
    assert_close(rotation.turn_at_once(x), rotation.turn(x), **close)
    found = [torch.autograd.grad(turn(x), x, towards)[0] for turn in (rotation.turn_at_once, rotation.turn)]
    assert_close(found[0], found[1], **close)
