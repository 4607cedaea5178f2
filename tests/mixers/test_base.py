import pytest

from glassworks.core.errors import InvalidInput
from glassworks.mixers import Heads


@pytest.mark.parametrize("sizes", [(4, 3, 8), (0, 1, 8), (2, 4, 8), (1, 1, 0)])
def test_heads_that_cannot_share_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidInput, match="cannot share") as caught:
        Heads(*sizes, scale=1.0)
    assert "multiple" in str(caught.value)


def test_the_group_counts_query_heads_for_each_key_value_head() -> None:
    assert [Heads(6, kv, 1, 1.0).group for kv in (1, 2, 3, 6)] == [6, 3, 2, 1]
