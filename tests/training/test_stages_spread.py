"""Stages over processes: shares of an update, answers that do not depend on who else is drawn, weights in shards."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from glassworks.core.errors import InvalidInput
from glassworks.tensors.seeds import Seed
from glassworks.training.ppo.models import critic_from
from glassworks.training.ppo.rollout import Looked, joined_looks
from glassworks.training.stages.drawing import ByChance, Drawing, chances, draw
from glassworks.training.stages.sharding import add_gradients, blocks_of, hollow, put_together
from glassworks.training.stages.spread import Share, most_processes, order_of, share_of
from tests.training.tuning import decoder, llama


@given(batch=st.integers(1, 64), accumulate=st.integers(1, 16), size=st.integers(1, 16))
def test_shares_make_up_the_update_or_the_refusal_names_numbers_that_would_do(
    batch: int, accumulate: int, size: int
) -> None:
    found = shared(batch, accumulate, size)
    if isinstance(found, Share):
        assert found.rows * found.passes * size == batch * accumulate
        return
    parts = size // math.gcd(accumulate, size)
    share_of(math.ceil(batch / parts) * parts, accumulate, size)
    share_of(batch, accumulate * parts, size)
    fits = most_processes(batch, accumulate, size)
    share_of(batch, accumulate, fits)
    assert 1 <= fits < size
    assert str(fits) in str(found.right)


def shared(batch: int, accumulate: int, size: int) -> Share | InvalidInput:
    try:
        return share_of(batch, accumulate, size)
    except InvalidInput as problem:
        return problem


def test_whole_passes_are_shared_before_passes_are_split() -> None:
    shares = [share_of(8, 4, size) for size in (1, 2, 4, 8)]
    assert [(share.rows, share.passes) for share in shares] == [(8, 4), (8, 2), (8, 1), (4, 1)]


def test_the_order_of_data_goes_once_over_all_before_it_begins_anew() -> None:
    order = order_of(7, 17, Seed(3))
    assert sorted(order[:7]) == sorted(order[7:14]) == list(range(7))
    assert list(order[:7]) != list(order[7:14])
    # A longer training begins with the same.
    assert list(order_of(7, 30, Seed(3))[:17]) == list(order)


def test_an_answer_does_not_depend_on_those_beside_it() -> None:
    policy, drawing = decoder().eval(), Drawing(longest=9, temperature=0.8, end=2, fill=0)
    prompts = [(1, 40 + n, *range(60, 60 + n)) for n in range(7)]
    together = draw(policy, prompts, drawing, Seed(5))
    assert draw(policy, prompts[3:5], drawing, Seed(5), first=3) == together[3:5]
    assert draw(policy, prompts[6:], drawing, Seed(5), first=6) == together[6:]
    assert draw(policy, prompts, drawing, Seed(6)) != together


def test_tokens_come_as_often_as_the_policy_says() -> None:
    scores = torch.tensor([0.0, 1.0, -torch.inf, 2.0, -1.0])
    count = 3000
    process = ByChance(chances(count, 1, Seed(0)), temperature=0.5)
    left = process(torch.zeros(count, 1, dtype=torch.long), scores.expand(count, -1))
    assert bool((left.isfinite().sum(1) == 1).all())
    found = left.argmax(1).bincount(minlength=5) / count
    wanted = (scores / 0.5).softmax(0)
    # Four standard errors of a share.
    assert bool(((found - wanted).abs() <= 4 * (wanted * (1 - wanted) / count).sqrt()).all())
    assert found[2] == 0


def test_the_ends_of_chance_draw_the_first_and_the_last_possible_token() -> None:
    scores = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]]).expand(2, -1)
    process = ByChance(torch.tensor([[0.0], [1 - 2**-53]], dtype=torch.float64), 1.0)
    assert process(torch.zeros(2, 1, dtype=torch.long), scores).argmax(1).tolist() == [1, 2]


def test_looks_of_several_processes_are_one_look() -> None:
    columns = [torch.arange(12.0).reshape(4, 3) + n for n in range(5)]
    parts = [Looked(*(column[:1, :2] for column in columns)), Looked(*(column[1:] for column in columns))]
    whole = joined_looks(parts, 3)
    assert_close(whole.values[1:], columns[2][1:])
    assert_close(whole.values[0], torch.tensor([2.0, 3.0, 0.0]))


@pytest.mark.parametrize("build", [decoder, llama])
def test_a_hollow_copy_takes_no_memory_and_is_filled_to_the_same_model(build: Callable[[], Any]) -> None:
    model = build().eval()
    assert len(blocks_of(model)) == 2
    bare = hollow(model)
    assert {tensor.device.type for tensor in (*bare.parameters(), *bare.buffers())} <= {"meta"}
    filled = put_together(bare, model)
    ids = torch.arange(5, 25).reshape(2, 10)
    assert torch.equal(filled(ids).logits, model(ids).logits)
    assert len(list(filled.parameters())) == len(list(model.parameters()))


def test_a_critic_is_hollowed_too() -> None:
    critic = critic_from(llama())
    filled = put_together(hollow(critic), critic)
    ids = torch.arange(5, 15)[None]
    assert torch.equal(filled(ids, ids > 0), critic(ids, ids > 0))


def test_one_process_has_no_gradients_to_add() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    add_gradients([weight])
    assert weight.grad.tolist() == [1, 1, 1]
