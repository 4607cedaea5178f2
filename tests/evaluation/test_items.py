import numpy as np
import pytest
import torch

from glassworks.evaluation import Item, batches, read_scores, score_items
from glassworks.evaluation.items import pool_vectors
from tests.families import VOCABULARY, subject


def drawn_items(lengths, targets_each=2):
    chance = np.random.default_rng(3)
    made = []
    for length in lengths:
        ids = tuple(int(token) for token in chance.integers(1, VOCABULARY, length))
        places = tuple(sorted(int(p) for p in chance.integers(0, length, min(length, targets_each))))
        made.append(Item(ids, places, tuple(int(t) for t in chance.integers(0, VOCABULARY, len(places)))))
    return made


LENGTHS = (7, 1, 23, 2, 1, 16, 9)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "bloom"])
def test_scores_do_not_depend_on_how_items_are_batched(family):
    items = drawn_items(LENGTHS)
    alone, together = score_items(subject(family), items, 1), score_items(subject(family), items, 10_000)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=2e-5)
        np.testing.assert_array_equal(one.top, other.top)


def test_a_score_is_the_log_softmax_at_its_position():
    items = drawn_items(LENGTHS)
    model = subject("llama").model
    for item, scored in zip(items, score_items(subject("llama"), items, 64), strict=True):
        with torch.no_grad():
            logs = model(torch.tensor([item.ids])).logits[0].log_softmax(-1)
        expected = [float(logs[place, target]) for place, target in zip(item.positions, item.targets, strict=True)]
        np.testing.assert_allclose(scored.logprobs, expected, atol=2e-5)
        assert scored.logprob == pytest.approx(sum(expected), abs=1e-4)
        best = [int(logs[place].argmax()) == target for place, target in zip(item.positions, item.targets, strict=True)]
        assert scored.is_greedy == all(best)


def test_every_item_is_run_once_and_a_batch_holds_no_more_than_it_may():
    items = drawn_items(LENGTHS)
    groups = batches(items, 32)
    assert sorted(number for group in groups for number in group.items) == list(range(len(items)))
    assert all(group.batch.ids.numel() <= 32 or len(group.items) == 1 for group in groups)
    assert [group.batch.ids.shape[1] for group in groups] == sorted(
        (g.batch.ids.shape[1] for g in groups), reverse=True
    )


def test_padding_is_masked_where_it_can_be_seen():
    items = drawn_items((5, 3))
    [causal], [looking] = batches(items, 100, causal=True), batches(items, 100, causal=False)
    assert causal.batch.mask is None
    assert looking.batch.real.sum(1).tolist() == [5, 3]


def test_several_targets_at_one_position_are_compared():
    item = Item((4, 9), (1, 1, 1), (7, 8, 9))
    [scored] = score_items(subject("llama"), [item])
    with torch.no_grad():
        logs = subject("llama").model(torch.tensor([[4, 9]])).logits[0, -1].log_softmax(-1)
    np.testing.assert_allclose(scored.logprobs, logs[7:10].numpy(), atol=1e-5)


def test_scores_are_taken_in_float32_from_half_precision_logits():
    [group] = batches([Item((1, 2, 3), (0, 2), (5, 6))], 100)
    logits = torch.randn(2, VOCABULARY, generator=torch.Generator().manual_seed(0)).bfloat16()
    [scored] = read_scores(logits, group)
    exact = logits.float().log_softmax(-1)
    np.testing.assert_allclose(scored.logprobs, [float(exact[0, 5]), float(exact[1, 6])], atol=1e-6)


def test_a_vector_is_the_mean_over_its_own_items_positions():
    items = [Item((1, 2, 3), (0, 1, 2), (1, 2, 3)), Item((4, 5), (0, 1), (4, 5))]
    [group] = batches(items, 100)
    stream = torch.arange(12.0).reshape(2, 3, 2)
    vectors = pool_vectors(group.read(stream), group)
    np.testing.assert_allclose(vectors, [stream[0].mean(0).numpy(), stream[1, :2].mean(0).numpy()])
