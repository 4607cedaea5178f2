import pytest
import torch
from torch.testing import assert_close

from glassworks.core.errors import InvalidSpec
from glassworks.tasks import TASKS, Dynamics
from glassworks.tasks.dynamics import haar, stacked
from glassworks.tasks.solvers import half_squared_error
from glassworks.tensors.seeds import Seed


def loss_of_zero(batch):
    return half_squared_error(torch.zeros_like(batch.targets), batch.targets)


@pytest.mark.parametrize("size", [1, 2, 7, 10, 60])
def test_laws_are_orthogonal_to_float32(size):
    law = Dynamics(hidden=size, length=1).sample(31, Seed(0)).law
    assert_close(law @ law.mT, torch.eye(size).expand_as(law), atol=4e-6, rtol=0)


def test_orthogonal_matrices_are_uniform():
    found = haar(torch.randn(40_000, 4, 4, generator=Seed(0).generator()))
    trace = found.diagonal(dim1=-2, dim2=-1).sum(-1)
    # Moments of the trace under the uniform law (Diaconis and Shahshahani 1994): 0, 1, 3; five standard errors.
    assert float(trace.mean()) == pytest.approx(0.0, abs=0.025)
    assert float(trace.square().mean()) == pytest.approx(1.0, abs=0.04)
    assert float(trace.pow(4).mean()) == pytest.approx(3.0, abs=0.25)
    assert float(torch.linalg.det(found).mean()) == pytest.approx(0.0, abs=0.025)
    assert_close(found.square().mean(0), torch.full((4, 4), 0.25), atol=0.01, rtol=0)


def test_reflections_taken_at_once_are_reflections_taken_one_after_the_other():
    gaussian = torch.randn(6, 6, generator=Seed(1).generator(), dtype=torch.float64)
    one_by_one = torch.eye(6, dtype=torch.float64)
    for k in range(6):
        mirror = gaussian.tril()[:, k].clone()
        side = -1.0 if mirror[k] < 0 else 1.0
        mirror[k] += side * gaussian[k:, k].norm()
        reflection = torch.eye(6, dtype=torch.float64) - 2 * torch.outer(mirror, mirror) / mirror.square().sum()
        one_by_one = one_by_one @ reflection
    signs = torch.where(gaussian.diagonal() < 0, 1.0, -1.0)
    assert_close(haar(gaussian[None])[0], one_by_one * signs)


def test_an_empty_column_still_gives_an_orthogonal_matrix():
    gaussian = torch.randn(1, 3, 3, generator=Seed(2).generator())
    gaussian[0, 2, 2] = 0.0
    found = haar(gaussian)
    assert_close(found @ found.mT, torch.eye(3)[None])


def test_what_the_law_leaves_over_is_noise_of_the_stated_size():
    batch = Dynamics(noise=0.03).sample(500, Seed(1))
    rest = batch.targets - (batch.law @ batch.observations[:, :-1].mT).mT
    assert float(rest.std()) == pytest.approx(0.03, rel=0.01)
    assert float(rest.mean()) == pytest.approx(0.0, abs=5e-4)


def test_without_noise_orthogonal_laws_keep_the_length_of_every_state():
    states = Dynamics(noise=0.0, length=63).sample(5, Seed(1)).states
    assert_close(states.norm(dim=-1), states[:, :1].norm(dim=-1).expand(5, 64), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (Dynamics(), 1.675),
        (Dynamics(start_law="normal"), 5.0),
        (Dynamics.partial(), 3.10),
        (Dynamics.nonlinear_world(), 0.50),
        (Dynamics.fixed_teacher(), 1.675),
    ],
    ids=["linear", "normal start", "partial", "nonlinear", "fixed"],
)
def test_predicting_zero_loses_what_is_published(task, expected):
    assert float(loss_of_zero(task.sample(1500, Seed(3))).mean()) == pytest.approx(expected, rel=0.03)


def test_targets_are_the_following_observations():
    for task in (Dynamics(), Dynamics.partial(), Dynamics.contracting()):
        batch = task.sample(3, Seed(0))
        assert torch.equal(batch.targets, batch.observations[:, 1:])
        assert batch.observations.shape == (3, task.length + 1, task.outputs)
        assert batch.inputs.shape == (3, task.longest, task.inputs)


def test_constructed_tokens_hold_the_present_and_the_previous_observation():
    raw, four, three = (
        Dynamics(hidden=3, length=5, tokens=tokens).sample(2, Seed(4)).inputs
        for tokens in ("raw", "constructed", "constructed_three")
    )
    empty, second, present, previous = four.split(3, -1)
    assert torch.equal(present, raw)
    assert torch.equal(second, raw)
    assert torch.equal(previous[:, 1:], raw[:, :-1])
    assert not empty.any()
    assert not previous[:, 0].any()
    assert torch.equal(three[..., 6:], four[..., 6:])
    assert not three[..., :6].any()


def test_stacked_observations_go_back_in_time_and_end_in_zeros():
    rows = torch.arange(1.0, 5.0)[None, :, None]
    assert stacked(rows, 3)[0].tolist() == [[1, 0, 0], [2, 1, 0], [3, 2, 1], [4, 3, 2]]
    assert stacked(rows, 6).shape == (1, 4, 6)


def test_equal_seeds_give_equal_worlds_and_other_seeds_others():
    one, again, other = (Dynamics.partial().sample(4, Seed(s)) for s in (1, 1, 2))
    assert torch.equal(one.observations, again.observations)
    assert not torch.equal(one.observations, other.observations)


def test_sequences_of_a_batch_have_laws_of_their_own_unless_one_is_fixed():
    own, fixed = Dynamics().sample(2, Seed(0)).law, Dynamics.fixed_teacher().sample(2, Seed(0)).law
    assert not torch.allclose(own[0], own[1], atol=0.1)
    assert torch.equal(fixed[0], fixed[1])
    assert torch.equal(fixed, Dynamics.fixed_teacher().sample(2, Seed(9)).law)
    other = Dynamics.fixed_teacher(teacher_seed=1).sample(2, Seed(0)).law
    assert not torch.allclose(fixed, other, atol=0.1)


def test_contracting_laws_have_the_stated_eigenvalues():
    found = torch.linalg.eigvals(Dynamics.contracting().sample(200, Seed(0)).law.double())
    # Nearly parallel eigenvectors leave float32 laws with eigenvalues that move: the middle of the batch is looked at.
    values = found.real.sort(-1).values
    assert float(values[:, -1].median()) == pytest.approx(0.9, abs=1e-4)
    assert float(values[:, 0].quantile(0.05)) > 0.29


def test_states_are_cut_at_the_limit():
    assert float(Dynamics.contracting().sample(200, Seed(0)).states.abs().max()) == 2.0
    assert float(Dynamics(limit=0.5).sample(8, Seed(0)).states[:, 1:].abs().max()) == 0.5


def test_the_nonlinear_law_maps_features_of_length_one():
    task = Dynamics.nonlinear_world(noise=0.0)
    batch = task.sample(9, Seed(0))
    features = task.features(batch.observations)
    assert_close(features.norm(dim=-1), torch.ones(9, 51))
    assert_close((batch.law @ features[:, :-1].mT).mT, batch.targets, atol=1e-5, rtol=1e-4)
    plain = task.features(batch.observations, unit=False)
    assert_close(plain / plain.norm(dim=-1, keepdim=True), features)
    assert float(batch.states[:, 0].abs().max()) <= 0.25


def test_the_partial_world_shows_noisy_mixtures_of_the_state():
    batch = Dynamics.partial(observation_noise=0.05).sample(400, Seed(2))
    assert batch.emission is not None
    rest = batch.observations - (batch.emission @ batch.states.mT).mT
    assert float(rest.std()) == pytest.approx(0.05, rel=0.02)
    assert float(batch.emission.std()) == pytest.approx(0.5, rel=0.02)


def test_the_floor_of_a_fixed_law_is_noise_alone():
    task = Dynamics.fixed_teacher()
    floor = task.ideal(task.sample(400, Seed(0)))
    assert float(floor.mean()) == pytest.approx(0.5 * 10 * 0.01**2, rel=0.05)


@pytest.mark.parametrize("task", [Dynamics(), Dynamics.nonlinear_world(), Dynamics.partial(), Dynamics.contracting()])
def test_the_floor_ends_far_below_predicting_zero(task):
    batch = task.sample(200, Seed(5))
    assert float(task.ideal(batch)[:, -1].mean()) < 0.1 * float(loss_of_zero(batch)[:, -1].mean())


@pytest.mark.parametrize("task", [Dynamics(hidden=1, length=1), Dynamics.of_dimension(60), Dynamics(length=224)])
def test_the_smallest_and_the_largest_worlds_are_finite(task):
    batch = task.sample(2, Seed(0))
    assert bool(batch.observations.isfinite().all())
    assert bool(task.ideal(batch).isfinite().all())


def test_batches_can_serve_training_even_of_one_sequence():
    weight = torch.ones(10, requires_grad=True)
    batch = Dynamics().sample(1, Seed(0))
    ((batch.inputs * weight).square().sum() + (batch.law @ weight).sum()).backward()
    assert weight.grad is not None
    assert not batch.states.is_inference()


def test_what_a_world_keeps_serves_gradients_after_sampling():
    world, fixed = Dynamics.nonlinear_world(), Dynamics.fixed_teacher()
    batch = world.sample(2, Seed(0))
    fixed.sample(2, Seed(0))
    states = batch.observations.clone().requires_grad_()
    world.features(states).sum().backward()
    assert states.grad is not None
    assert fixed.teacher is not None
    assert not fixed.teacher.is_inference()
    weight = torch.ones(10, dtype=torch.float64, requires_grad=True)
    (fixed.teacher @ weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize(
    "fields",
    [{"hidden": 0}, {"length": 0}, {"observed": 0}, {"noise": -0.1}, {"limit": 0.0}, {"start": 0.0}, {"law": "free"}],
)
def test_impossible_sizes_are_refused(fields):
    with pytest.raises(InvalidSpec, match=next(iter(fields))):
        Dynamics(**fields)


def test_a_nonlinear_world_cannot_be_observed_in_part():
    with pytest.raises(InvalidSpec, match="observed whole"):
        Dynamics(nonlinear=True, observed=5)


def test_every_published_world_survives_json():
    worlds = [
        Dynamics.partial(),
        Dynamics.nonlinear_world(),
        Dynamics.contracting(),
        Dynamics.fixed_teacher(),
        Dynamics.of_dimension(4, tokens="constructed"),
    ]
    assert [TASKS.parse(world.to_json()) for world in worlds] == worlds
    assert len({world.digest() for world in worlds}) == len(worlds)
