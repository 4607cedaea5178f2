import math

import numpy as np
import pytest

from glassworks.core.errors import InvalidInput
from glassworks.models.transformer import build_model
from glassworks.tensors.seeds import Seed
from glassworks.training.answer_world import AnswerWorld, AnswerWorldSpec
from glassworks.training.overoptimisation import Law, Point, best_of_n_curve, fit_law, ppo_curve
from glassworks.training.store import History


@pytest.mark.parametrize("law", ["best_of_n", "reinforced"])
def test_a_law_is_found_again_in_what_it_made(law: Law) -> None:
    alpha, beta, start = 2.0, 0.7, 0.5
    distances = np.linspace(0.3, 3, 9)
    falls = distances if law == "best_of_n" else np.log(distances)
    gold = start + distances * (alpha - beta * falls)
    points = [Point(float(d), 0.0, float(g)) for d, g in zip(distances, gold, strict=True)]
    found = fit_law(points, law, start)
    assert (found.alpha, found.beta, found.residual) == pytest.approx((alpha, beta, 0), abs=1e-9)
    assert found.at(0.0) == start
    # At the peak the curve is flat, and lower on both sides.
    assert found.at(found.peak) > max(found.at(0.9 * found.peak), found.at(1.1 * found.peak))


def test_a_law_without_a_fall_has_no_peak() -> None:
    points = [Point(d, d, d) for d in (1.0, 2.0)]
    assert math.isinf(fit_law(points, "best_of_n", 0.0).peak)


def test_too_little_to_go_on_is_said() -> None:
    with pytest.raises(InvalidInput, match="needs two distances"):
        fit_law([Point(0.0, 0.0, 0.0), Point(1.0, 1.0, 1.0)], "reinforced", 0.0)
    with pytest.raises(InvalidInput, match="best of 9 cannot be told from 4 samples"):
        best_of_n_curve(np.zeros((1, 4)), np.zeros((1, 4)), [9])
    history = History()
    history.append(0, {"reward": 1.0, "kl": 0.0})
    with pytest.raises(InvalidInput, match="lacks gold"):
        ppo_curve(history)


def test_the_way_of_a_training_is_read_from_its_history() -> None:
    history = History()
    for step, divergence in enumerate((0.0, 1.0, 4.0, 16.0)):
        history.append(step, {"reward": float(step), "gold": -float(step), "kl": divergence})
    points = ppo_curve(history, "run", smooth=2)
    assert [point.distance for point in points] == pytest.approx([math.sqrt(0.5), math.sqrt(10)])
    assert [(point.proxy, point.gold, point.label) for point in points] == [(0.5, -0.5, "run"), (2.5, -2.5, "run")]


def test_the_best_policy_for_a_wrong_reward_first_gains_and_then_loses() -> None:
    world = AnswerWorld.of(AnswerWorldSpec(letters=3, longest=2, spread=0.7))
    reference = world.log_probs(build_model(world.spec.model(16), Seed(0)))
    # A stand-in that is right but for one answer among the worst, which it takes for the best of all.
    wrong = AnswerWorld(world.spec, world.answers, world.rewards.clone())
    for question in range(2):
        wrong.rewards[question, int(world.rewards[question].argmin())] = world.rewards[question].max() + 0.3
    golds, proxies = [], []
    for beta in (100.0, 2.0, 1.0, 0.5, 0.2, 0.1):
        chance = wrong.best_policy(reference, beta).exp()
        golds.append(float((chance * world.rewards).sum(1).mean()))
        proxies.append(float((chance * wrong.rewards).sum(1).mean()))
    assert proxies == sorted(proxies)
    assert max(golds) > golds[0]
    assert golds[-1] < golds[0]
