"""Every algorithm of the last stages reaches the optimum that is known in closed form."""

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glassworks.core.events import EventLog
from glassworks.models.transformer import build_model
from glassworks.tensors.seeds import Seed
from glassworks.training.answer_world import END, PAD, AnswerWorld, AnswerWorldSpec
from glassworks.training.overoptimisation import best_of_n_curve, divergence_of_best

WORLD = AnswerWorldSpec(letters=3, longest=2, spread=0.7)
ENOUGH = 0.95
"""Share of what can be gained over the reference."""


@pytest.fixture(scope="module")
def world() -> AnswerWorld:
    return AnswerWorld.of(WORLD)


def start(world: AnswerWorld) -> Any:
    return build_model(world.spec.model(32), Seed(0))


def test_the_chances_of_all_answers_sum_to_one(world: AnswerWorld) -> None:
    assert len(world.answers) == 1 + 7 + 7 * 7
    assert len(set(world.answers)) == len(world.answers)
    torch.testing.assert_close(world.log_probs(start(world)).exp().sum(1), torch.ones(2, dtype=torch.float64))


def test_no_policy_does_better_than_the_closed_form(world: AnswerWorld) -> None:
    reference, beta = world.log_probs(start(world)), 0.3
    best = world.best_policy(reference, beta)
    assert world.objective(best, reference, beta) == pytest.approx(world.optimum(reference, beta), abs=1e-9)
    assert world.gained(best, reference, beta) == pytest.approx(1)
    assert world.gained(reference, reference, beta) == 0
    chance = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = (best + 0.1 * torch.randn(best.shape, generator=chance, dtype=torch.float64)).log_softmax(-1)
        assert world.objective(other, reference, beta) < world.optimum(reference, beta)


def test_the_chances_are_those_of_drawing(world: AnswerWorld) -> None:
    from glassworks.training.ppo.rollout import Drawing, sample

    model = start(world)
    drawn = sample(model, [world.prompts[0]] * 4000, Drawing(2, 1.0, END, PAD), Seed(3))
    counts = np.array([drawn.answers.count(answer) for answer in world.answers]) / 4000
    assert counts.sum() == pytest.approx(1)
    assert np.abs(counts - world.log_probs(model)[0].exp().numpy()).max() < 0.03


def test_the_best_of_n_is_nearly_as_good_as_any_policy_so_far_away(world: AnswerWorld) -> None:
    reference = world.log_probs(start(world))[:1]
    rewards = world.rewards[:1]
    order = rewards[0].argsort()
    below = torch.cat([torch.zeros(1, dtype=torch.float64), reference[0, order].exp().cumsum(0)])
    floor = float((reference.exp() * rewards).sum())
    for count in (4, 8, 16, 64):
        chance = (below[1:] ** count - below[:-1] ** count).clamp(min=0)
        reached = float(chance @ rewards[0, order])
        divergence = float(torch.special.xlogy(chance, chance / reference[0, order].exp()).sum())
        # Ties in no reward here, but answers are few: the formula bounds the divergence from above (Beirami et al. 2024).
        assert divergence <= divergence_of_best(count) + 1e-9
        best = _reward_at(reference, rewards, divergence)
        assert (reached - floor) / (best - floor) >= 0.9
    chance = (below[1:] ** 256 - below[:-1] ** 256).clamp(min=0)
    assert (float(chance @ rewards[0, order]) - floor) / (float(rewards.max()) - floor) >= ENOUGH


def _reward_at(reference: torch.Tensor, rewards: torch.Tensor, divergence: float) -> float:
    """The largest mean reward at a divergence: that of the tilted policy which has it."""
    low, high, policy = 1e-3, 1e3, reference
    for _ in range(80):
        beta = math.sqrt(low * high)
        policy = (reference + rewards / beta).log_softmax(-1)
        found = float((policy.exp() * (policy - reference)).sum())
        low, high = (low, beta) if found < divergence else (beta, high)
    return float((policy.exp() * rewards).sum())


def test_the_curve_of_the_best_of_n_counts_every_choice_of_n() -> None:
    chance = np.random.default_rng(0)
    proxy, gold = chance.normal(size=(3, 7)), chance.normal(size=(3, 7))
    for point, size in zip(best_of_n_curve(proxy, gold, [1, 2, 3, 7]), [1, 2, 3, 7], strict=True):
        picked = [max(some, key=lambda i: row[i]) for row in proxy for some in itertools.combinations(range(7), size)]
        rows = np.repeat(np.arange(3), len(picked) // 3)
        assert point.proxy == pytest.approx(proxy[rows, picked].mean())
        assert point.gold == pytest.approx(gold[rows, picked].mean())
        assert point.distance**2 == pytest.approx(math.log(size) - (size - 1) / size)


@pytest.mark.slow
def test_ppo_reaches_the_optimum(world: AnswerWorld) -> None:
    from accelerate import Accelerator

    from glassworks.training.ppo.loop import PpoTrainer, World
    from glassworks.training.ppo.models import networks_of
    from glassworks.training.ppo.rollout import Drawing, Rollout
    from glassworks.training.ppo.spec import PpoSpec

    policy = start(world)
    reference, beta = world.log_probs(policy), 0.3
    spec = PpoSpec(
        steps=60, answers=128, batch=32, rate=3e-3, critic_rate=1e-2, beta=beta, answer_length=2, precision="float32",
        schedule="linear",
    )  # fmt: skip

    def reward(rollout: Rollout) -> torch.Tensor:
        return torch.tensor([world.reward(p, a) for p, a in zip(rollout.prompts, rollout.answers, strict=True)])

    arena = World(lambda seed, count: [world.prompts[i % 2] for i in range(count)], reward)
    trainer = PpoTrainer(networks_of(policy), arena, spec, Drawing(2, 1.0, END, PAD), Accelerator(cpu=True))
    rows = [trainer.round(step) for step in range(spec.steps)]
    assert world.gained(world.log_probs(trainer.policy), reference, beta) >= ENOUGH
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-5)
    last = world.log_probs(trainer.policy)
    exact = float((last.exp() * (last - reference)).sum(1).mean())
    assert trainer.measure(Seed(5))["kl"] == pytest.approx(exact, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["grpo", pytest.param("rloo", marks=pytest.mark.nightly)])
def test_groups_reach_the_optimum(world: AnswerWorld, kind: str, tmp_path: Path) -> None:
    from glassworks.training.stages.base import Desk, StageOptions
    from glassworks.training.stages.chat import Chat
    from glassworks.training.stages.grpo import GrpoSpec, RlooSpec, group_trainer
    from glassworks.training.stages.opened import Opened
    from glassworks.training.stages.quiet_trainers import quiet_library
    from glassworks.training.stages.trainer import fit

    policy = start(world)
    reference, beta = world.log_probs(policy), 0.3
    spec = {"grpo": GrpoSpec, "rloo": RlooSpec}[kind](
        steps=140, answers=128, batch=128, group=64, rate=1e-2, beta=beta, answer_length=2, length=8, warmup=0,
        precision="float32", schedule="linear", log_every=10,
    )  # fmt: skip
    desk = Desk(spec, "toy", StageOptions(tmp_path), EventLog())
    desk.path.mkdir()
    questions = {f"<bos> q{place}": prompt for place, prompt in enumerate(world.prompts)}

    def judge(prompts: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [world.reward(questions[p], tuple(a)) for p, a in zip(prompts, completion_ids, strict=True)]

    rows = [{"prompt": question} for question in questions] * 64
    with quiet_library():
        fit(group_trainer(spec, desk, Opened(policy, Chat(world.tokenizer())), judge, rows), desk)
    assert world.gained(world.log_probs(policy), reference, beta) >= ENOUGH
    assert desk.history.curve("reward")[-1] > desk.history.curve("reward")[0] + 1


@pytest.mark.slow
@pytest.mark.nightly
def test_dpo_reaches_the_optimum(world: AnswerWorld, tmp_path: Path) -> None:
    from glassworks.training.stages.base import Desk, StageOptions
    from glassworks.training.stages.chat import Chat, Encoded
    from glassworks.training.stages.dpo import DpoSpec, dpo_trainer
    from glassworks.training.stages.quiet_trainers import quiet_library
    from glassworks.training.stages.trainer import fit

    policy = start(world)
    reference, beta = world.log_probs(policy), 0.5
    spec = DpoSpec(
        steps=200, batch=256, rate=1e-2, beta=beta, length=8, warmup=0, precision="float32", schedule="linear",
        log_every=20,
    )  # fmt: skip
    desk = Desk(spec, "toy", StageOptions(tmp_path), EventLog())
    desk.path.mkdir()

    def row(question: int, answer: int) -> Encoded:
        prompt, said = world.prompts[question], world.answers[answer]
        return Encoded((*prompt, *said), (False,) * len(prompt) + (True,) * len(said))

    drawn = zip(*(column.tolist() for column in world.pairs(51200, Seed(1))), strict=True)
    pairs = [(row(question, chosen), row(question, rejected)) for question, chosen, rejected in drawn]
    with quiet_library():
        fit(dpo_trainer(spec, desk, policy, copy.deepcopy(policy).eval(), Chat(world.tokenizer()), pairs), desk)
    assert world.gained(world.log_probs(policy), reference, beta) >= ENOUGH
