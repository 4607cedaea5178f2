"""The arithmetic of PPO against loops that follow the papers line by line, in float64."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from glassworks.models.spec import TransformerSpec
from glassworks.models.transformer import build_model
from glassworks.tensors.seeds import Seed
from glassworks.training.ppo.advantages import advantages_of, penalised_rewards, whitened
from glassworks.training.ppo.losses import entropy, policy_loss, token_log_probs, value_loss
from glassworks.training.ppo.rollout import Drawing, rollout_of, sample


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stretches() -> Tensor:
    """Answers that begin and end at different places."""
    return torch.tensor([[0, 1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 0]]).bool()


def naive_advantages(rewards: list[float], values: list[float], gamma: float, decay: float) -> list[float]:
    """A_t = sum over l of (gamma x decay)^l x delta_{t+l}, written out."""
    deltas = [
        reward + gamma * (values[place + 1] if place + 1 < len(values) else 0.0) - values[place]
        for place, reward in enumerate(rewards)
    ]
    return [
        sum((gamma * decay) ** ahead * delta for ahead, delta in enumerate(deltas[place:]))
        for place in range(len(deltas))
    ]


@pytest.mark.parametrize(("gamma", "decay"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.99, 0.0)])
def test_advantages_are_the_discounted_sum_of_surprises(gamma: float, decay: float) -> None:
    rewards, values, mask = drawn(3, 7), drawn(3, 7, seed=1), stretches()
    found = advantages_of(rewards, values, mask, gamma, decay)
    for row in range(3):
        said = mask[row]
        wanted = naive_advantages(rewards[row, said].tolist(), values[row, said].tolist(), gamma, decay)
        assert_close(found[row, said], torch.tensor(wanted, dtype=torch.float64))
        assert not bool(found[row, ~said].any())


def test_what_lies_outside_an_answer_changes_no_advantage() -> None:
    rewards, values, mask = drawn(3, 7), drawn(3, 7, seed=1), stretches()
    noise = 100 * drawn(3, 7, seed=2) * ~mask
    assert_close(advantages_of(rewards + noise, values + noise, mask), advantages_of(rewards, values, mask))


def test_the_rewards_of_an_answer_sum_to_its_score_less_the_price_of_divergence() -> None:
    scores, ratios, mask = drawn(3), drawn(3, 7, seed=3), stretches()
    rewards = penalised_rewards(scores, ratios, mask, beta=0.3)
    assert_close(rewards.sum(1), scores - 0.3 * (ratios * mask).sum(1))
    # The score stands at the last token, where the answer is whole.
    assert_close(rewards[1, 4], scores[1] - 0.3 * ratios[1, 4])
    assert not bool(rewards[~mask].any())


def test_whitened_advantages_have_mean_0_and_variance_1_over_the_answers() -> None:
    mask = stretches()
    found = whitened(5 + 3 * drawn(3, 7), mask)[mask]
    assert_close(found.mean(), torch.tensor(0.0, dtype=torch.float64), atol=1e-12, rtol=0)
    assert_close(found.var(unbiased=False), torch.tensor(1.0, dtype=torch.float64), atol=1e-6, rtol=0)


def test_the_policy_loss_is_the_smaller_of_two_gains_token_by_token() -> None:
    new, old, advantages, mask = drawn(3, 7), drawn(3, 7, seed=1), drawn(3, 7, seed=2), stretches()
    found = policy_loss(new, old, advantages, mask, clip=0.2)
    gains, cut = [], []
    for row, place in mask.nonzero().tolist():
        ratio = math.exp(float(new[row, place] - old[row, place]))
        gain = float(advantages[row, place])
        bounded = min(max(ratio, 0.8), 1.2)
        gains.append(min(ratio * gain, bounded * gain))
        cut.append(bounded * gain < ratio * gain)
    assert float(found.loss) == pytest.approx(-sum(gains) / len(gains), abs=1e-12)
    assert float(found.clipped) == pytest.approx(sum(cut) / len(cut))
    assert 0 < sum(cut) < len(cut)


def test_a_policy_that_has_not_moved_has_the_plain_gradient_of_reinforce() -> None:
    logits = drawn(2, 3, 5).requires_grad_()
    ids = torch.tensor([[0, 3, 1], [2, 2, 4]])
    advantages, mask = drawn(2, 3, seed=4), torch.ones(2, 3).bool()
    log_probs = logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    policy_loss(log_probs, log_probs.detach(), advantages, mask).loss.backward()
    chances = logits.detach().softmax(-1)
    wanted = -(torch.nn.functional.one_hot(ids, 5) - chances) * advantages[..., None] / 6
    assert logits.grad is not None
    assert_close(logits.grad, wanted)


def test_the_value_loss_takes_the_worse_of_the_free_and_the_bounded_value() -> None:
    values, before, returns, mask = drawn(3, 7), drawn(3, 7, seed=1), drawn(3, 7, seed=2), stretches()
    wanted = []
    for row, place in mask.nonzero().tolist():
        value, old, goal = (float(x[row, place]) for x in (values, before, returns))
        bounded = old + min(max(value - old, -0.2), 0.2)
        wanted.append(max((value - goal) ** 2, (bounded - goal) ** 2))
    assert float(value_loss(values, before, returns, mask)) == pytest.approx(0.5 * sum(wanted) / len(wanted), abs=1e-12)


def test_log_probs_and_entropy_are_those_of_the_softmax() -> None:
    logits = drawn(2, 3, 5).float()
    ids = torch.tensor([[0, 3, 1], [2, 2, 4]])
    chances = (logits / 0.7).softmax(-1)
    assert_close(token_log_probs(logits, ids, 0.7), chances.gather(-1, ids[..., None])[..., 0].log())
    plain = logits.softmax(-1)
    assert_close(entropy(logits), -(plain * plain.log()).sum(-1))


def test_an_answer_is_marked_from_its_first_token_to_its_end() -> None:
    rollout = rollout_of([(1, 5), (1, 6, 7)], [(8, 9, 2), (2,)], [True, True], fill=0)
    assert rollout.ids.tolist() == [[1, 5, 8, 9, 2], [1, 6, 7, 2, 0]]
    assert rollout.real.int().tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    # Column t tells of token t + 1.
    assert rollout.said.int().tolist() == [[0, 1, 1, 1], [0, 0, 1, 0]]
    assert rollout.lengths.tolist() == [3, 1]


def test_answers_are_drawn_without_the_habits_that_a_model_brings() -> None:
    model = build_model(TransformerSpec(vocabulary=12, width=8, depth=1, heads=2, context=16), Seed(0))
    prompts, drawing = [(1, 5), (1, 6)], Drawing(longest=8, temperature=1.0, end=2, fill=0)
    plain = sample(model, prompts, drawing, Seed(0)).answers
    habits = model.generation_config
    habits.repetition_penalty, habits.min_p, habits.no_repeat_ngram_size, habits.top_k = 50.0, 0.9, 1, 1
    assert sample(model, prompts, drawing, Seed(0)).answers == plain
