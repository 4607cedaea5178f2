import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from glassworks.mixers.cholesky import inverse_cholesky
from glassworks.mixers.chunks import Scratch, chunk_length, cut, joined, scan, scan_back


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_by_one(first: Tensor, written: Tensor, decay: Tensor | None) -> tuple[Tensor, Tensor]:
    left = None if decay is None else decay.exp()
    starts: list[Tensor] = []
    for chunk in range(written.shape[1]):
        starts.append(first)
        first = (first if left is None else first * left[:, chunk, None, None]) + written[:, chunk]
    return torch.stack(starts, 1), first


@pytest.mark.parametrize("chunks", [1, 16, 17, 40])
@pytest.mark.parametrize("forgetting", ["none", "some", "all at one chunk"])
def test_sums_over_chunks_and_their_gradients_equal_adding_one_by_one(chunks: int, forgetting: str) -> None:
    first, written = numbers(2, 3, 4).requires_grad_(), numbers(2, chunks, 3, 4, seed=1).requires_grad_()
    decay = None if forgetting == "none" else -numbers(2, chunks, seed=2).abs()
    if decay is not None and forgetting != "some":
        # Less than any number format can hold is left.
        decay[:, chunks // 2] = -1e4
    starts, last = one_by_one(first, written, decay)
    with torch.no_grad():
        found, final = scan(first, written, decay)
    assert_close(found, starts)
    assert_close(final, last)
    due, due_last = numbers(2, chunks, 3, 4, seed=3), numbers(2, 3, 4, seed=4)
    by_first, by_written = torch.autograd.grad((starts, last), (first, written), (due, due_last))
    found_written, found_first = scan_back(due_last, due, decay)
    assert_close(found_written, by_written)
    assert_close(found_first, by_first)


@pytest.mark.parametrize("size", [1, 5, 16, 17, 40, 64])
def test_the_inverse_factor_undoes_the_matrix_and_is_zero_above_the_diagonal(size: int) -> None:
    half = numbers(3, size, size)
    matrices = half @ half.mT + torch.eye(size, dtype=half.dtype)
    inverses, failed = inverse_cholesky(matrices, torch.zeros_like(matrices))
    assert not failed.any()
    eye = torch.eye(size, dtype=half.dtype).expand(3, -1, -1)
    assert_close(inverses @ matrices @ inverses.mT, eye, rtol=0, atol=1e-10)
    assert not inverses.triu(1).any()


@pytest.mark.parametrize("where", [0, 20, 39])
def test_a_matrix_without_a_factor_is_named_and_no_other(where: int) -> None:
    matrices = torch.eye(40, dtype=torch.float64).repeat(3, 1, 1)
    matrices[1, where, where] = -1.0
    failed = inverse_cholesky(matrices, torch.zeros_like(matrices))[1]
    assert (failed > 0).tolist() == [False, True, False]


@pytest.mark.parametrize(("tokens", "length"), [(1, 1), (7, 4), (12, 4)])
def test_cutting_and_joining_gives_the_same_back(tokens: int, length: int) -> None:
    x = numbers(2, 6, tokens, 5)
    pieces = cut(x, 4, length)
    assert pieces.shape == (4, -(-tokens // length), 3 * length, 5)
    assert_close(joined(pieces, 2, length, tokens), x)
    # The first query head of the second key-value head follows those of the first.
    assert_close(pieces[1, 0, 0], x[0, 3, 0])


@pytest.mark.parametrize("width", [8, 64])
def test_chunks_hold_all_tokens_and_little_else(width: int) -> None:
    for tokens in (1, 31, 50, 64, 65, 130, 1000):
        length = chunk_length(tokens, width)
        count = -(-tokens // length)
        assert length <= max(32, min(width, 64))
        assert count * length - tokens < count


def test_scratch_is_handed_out_again_for_fewer_rows_and_made_anew_for_other_shapes() -> None:
    room, like = Scratch(), numbers(1)
    first = room.take("a", (4, 3), like)
    assert not first.any()
    assert room.take("a", (2, 3), like).data_ptr() == first.data_ptr()
    assert room.take("b", (4, 3), like).data_ptr() != first.data_ptr()
    assert room.take("a", (4, 5), like).shape == (4, 5)
    assert room.take("a", (4, 5), like.float()).dtype == torch.float32
