import pytest
import torch
from torch.testing import assert_close

from glassworks.core.errors import InvalidSpec
from glassworks.tasks import TASKS, FewShot
from glassworks.tasks.preconditioning import PUBLISHED
from glassworks.tasks.solvers import half_squared_error, ridge_predictions
from glassworks.tensors.seeds import Seed


def test_a_plain_prompt_alternates_inputs_and_labels():
    batch = FewShot(length=7, dimension=3).sample(2, Seed(0))
    assert torch.equal(batch.inputs[:, 0::2], batch.examples[:, :4])
    assert torch.equal(batch.inputs[:, 1::2], batch.labels[:, :3])
    assert torch.equal(batch.targets[:, 0::2], batch.labels[:, :4])
    assert batch.pairs.tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert batch.scored["labels"][0].tolist() == [True, False] * 3 + [True]
    assert not batch.separators.any()


def test_a_separator_follows_each_pair_and_is_zero_until_replaced():
    batch = FewShot(length=8, dimension=3, separator="vector").sample(2, Seed(0))
    assert batch.separators.tolist() == [False, False, True] * 2 + [False, False]
    assert not batch.inputs[:, batch.separators].any()
    assert batch.pairs.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    vector = torch.arange(3.0, requires_grad=True)
    changed = batch.with_separator(vector)
    assert torch.equal(changed.inputs[0, 2], vector)
    assert torch.equal(changed.inputs[:, ~batch.separators], batch.inputs[:, ~batch.separators])
    changed.inputs.sum().backward()
    assert vector.grad is not None
    assert vector.grad.tolist() == [4.0] * 3


def test_labels_are_an_orthogonal_map_of_inputs_and_noise():
    batch = FewShot(noise=0.0).sample(5, Seed(1))
    assert_close(batch.labels.norm(dim=-1), batch.examples.norm(dim=-1))
    law = torch.linalg.lstsq(batch.examples.double(), batch.labels.double()).solution
    assert_close(law @ law.mT, torch.eye(10, dtype=torch.float64).expand(5, 10, 10), atol=1e-5, rtol=0)
    noisy = FewShot(noise=0.1).sample(50, Seed(1))
    fit = torch.linalg.lstsq(noisy.examples, noisy.labels).solution
    # Ten of 113 degrees of freedom go to the fit.
    assert float((noisy.labels - noisy.examples @ fit).square().mean()) == pytest.approx(0.01 * 103 / 113, rel=0.03)


def test_shared_noise_is_the_same_in_all_sequences():
    rest = []
    for shared in (True, False):
        batch = FewShot(noise=0.5, shared_noise=shared, dimension=1, length=40, start=1e-6).sample(2, Seed(2))
        rest.append(torch.allclose(batch.labels[0], batch.labels[1], atol=1e-4))
    assert rest == [True, False]


def test_the_second_task_has_a_law_of_its_own_and_starts_afresh():
    task = FewShot.two_tasks(12, noise=0.0, length=60)
    batch = task.sample(3, Seed(3))
    assert task.first == 24
    first, second = (
        torch.linalg.lstsq(batch.examples[:, rows].double(), batch.labels[:, rows].double())
        for rows in (slice(0, 12), slice(12, 31))
    )
    assert float((batch.examples[:, :12].double() @ first.solution - batch.labels[:, :12]).abs().max()) < 1e-4
    assert float((batch.examples[:, 12:].double() @ second.solution - batch.labels[:, 12:]).abs().max()) < 1e-4
    assert float((first.solution - second.solution).abs().max()) > 0.1
    assert torch.equal(batch.scored["labels"], batch.scored["labels_first"] | batch.scored["labels_second"])
    assert not (batch.scored["labels_first"] & batch.scored["labels_second"]).any()
    assert batch.scored["labels_second"][0].nonzero()[0].item() == 24


def test_the_published_two_tasks_switch_at_81():
    for separator, pairs in (("vector", 27), ("none", 41)):
        batch = FewShot(tasks=2, separator=separator).sample(2, Seed(0))
        assert int(batch.pairs[81]) == pairs
        assert torch.equal(batch.inputs[:, 81], batch.examples[:, pairs])
    # Without separators the 41st label is cut off: the position before the switch asks for none.
    assert not batch.scored["labels"][0, 80]


def test_the_floor_knows_pairs_but_not_what_comes_next():
    task = FewShot(separator="vector")
    batch = task.sample(400, Seed(4))
    floor = task.ideal(batch)
    labels = floor[:, 0::3].mean(0)
    # mesa.md 6: a ridge on pairs only, after n = 5, 9, 10, 11, 12, 14, 19, 59 of them; heavy tails near ten pairs.
    for pairs, expected, share in (
        (5, 0.84, 0.05),
        (9, 0.175, 0.2),
        (14, 0.0019, 0.15),
        (19, 0.0011, 0.1),
        (59, 0.0006, 0.1),
    ):
        assert float(labels[pairs]) == pytest.approx(expected, rel=share)
    assert float(labels[0]) == pytest.approx(10 / 6, rel=0.03)
    assert not floor[:, 1::3].any()
    assert float(floor[:, 2::3].mean()) == pytest.approx(10 / 6, rel=0.02)


@pytest.mark.slow
def test_regression_on_all_transitions_rises_before_it_falls_and_stalls():
    # mesa.md 6, the control "LSQ" by pairs. Its peak is that of the six-step iteration, one pair late: exact ridge has
    # a far higher one, where pairs are as many as dimensions, and meets the control only late. Between 5 and 14 pairs few
    # sequences decide the mean: there nothing is compared.
    recorded = {0: 1.65, 1: 1.51, 2: 1.61, 3: 1.92, 4: 2.16, 19: 0.845, 29: 0.684, 39: 0.592, 59: 0.527}
    batch = FewShot(length=120).sample(1000, Seed(5))
    predictions = PUBLISHED["linear"].predictions(batch.observations, lag=1)
    iterated = half_squared_error(predictions, batch.targets)[:, 0::2].mean(0)
    for pairs, expected in recorded.items():
        assert float(iterated[pairs]) == pytest.approx(expected, rel=0.08), pairs
    exact = half_squared_error(ridge_predictions(batch.observations, 0.001, lag=1), batch.targets)[:, 0::2].mean(0)
    assert float(exact[5]) > 4.0
    for pairs in (19, 29, 39, 59):
        assert float(exact[pairs]) == pytest.approx(recorded[pairs], rel=0.08), pairs


def test_the_floor_of_the_second_task_forgets_the_first():
    task = FewShot.two_tasks(20, length=120)
    labels = task.ideal(task.sample(200, Seed(6))).mean(0)
    assert float(labels[38]) < 0.01
    assert float(labels[40]) == pytest.approx(10 / 6, rel=0.05)


@pytest.mark.parametrize(
    "task", [FewShot(length=1, dimension=1), FewShot(length=2, dimension=60), FewShot(tasks=2, first=1)]
)
def test_the_smallest_prompts_are_finite(task):
    batch = task.sample(2, Seed(0))
    assert batch.inputs.shape == (2, task.length, task.dimension)
    assert bool(task.ideal(batch).isfinite().all())


@pytest.mark.parametrize("fields", [{"length": 0}, {"dimension": 0}, {"tasks": 3}, {"first": 0}, {"noise": -1.0}])
def test_impossible_sizes_are_refused(fields):
    with pytest.raises(InvalidSpec):
        FewShot(**fields)


def test_a_switch_beyond_the_prompt_is_refused():
    with pytest.raises(InvalidSpec, match="would start at 224 of 224"):
        FewShot(tasks=2, first=224)


def test_prompts_survive_json():
    task = FewShot.two_tasks(separator="vector")
    assert TASKS.parse(task.to_json()) == task
