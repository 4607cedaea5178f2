import pytest
import torch

from glassworks.core.errors import InvalidInput
from glassworks.mixers import Gates, Heads


@pytest.mark.parametrize("sizes", [(4, 3, 8), (0, 1, 8), (2, 4, 8), (1, 1, 0)])
def test_heads_that_cannot_share_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidInput, match="cannot share") as caught:
        Heads(*sizes, scale=1.0)
    assert "multiple" in str(caught.value)


def test_the_group_counts_query_heads_for_each_key_value_head() -> None:
    assert [Heads(6, kv, 1, 1.0).group for kv in (1, 2, 3, 6)] == [6, 3, 2, 1]


def test_the_last_gates_belong_to_the_last_tokens() -> None:
    gates = Gates(real=torch.tensor([[False, True, True]]), write=torch.tensor([[[0.1, 0.2, 0.3]]]))
    last = gates.last(2)
    assert last.real is not None
    assert last.write is not None
    assert last.keep is None
    assert last.real.tolist() == [[True, True]]
    assert torch.equal(last.write, torch.tensor([[[0.2, 0.3]]]))
