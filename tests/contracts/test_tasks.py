"""What every task on the shelf keeps."""

import pytest
import torch

from glassworks.tasks import TASKS
from glassworks.tensors.seeds import Seed


@pytest.mark.parametrize("variant", list(TASKS), ids=lambda v: v.__name__)
class TestTask:
    def test_equal_arguments_give_equal_batches(self, variant):
        first, second = (variant().sample(3, Seed(7)) for _ in range(2))
        assert torch.equal(first.inputs, second.inputs)
        assert torch.equal(first.targets, second.targets)

    def test_masks_have_the_shape_of_the_inputs(self, variant):
        batch = variant().sample(3, Seed(0))
        assert "all" in batch.scored
        assert all(mask.shape == batch.inputs.shape and mask.dtype == torch.bool for mask in batch.scored.values())

    def test_the_ideal_loss_is_finite_and_not_negative(self, variant):
        task = variant()
        floor = task.ideal(task.sample(3, Seed(0)))
        assert floor is None or bool((torch.isfinite(floor) & (floor >= 0)).all())

    def test_global_chance_is_left_untouched(self, variant):
        torch.manual_seed(0)
        before = torch.get_rng_state()
        variant().sample(2, Seed(1))
        assert torch.equal(before, torch.get_rng_state())

    def test_the_spec_survives_json(self, variant):
        task = variant()
        assert TASKS.parse(task.to_json()) == task
