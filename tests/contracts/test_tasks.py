"""What every task on the shelf keeps."""

import pytest
import torch

from glassworks.tasks import (
    TASKS,
    Batch,
    Continuations,
    MaskedText,
    Pairs,
    Sentences,
    Task,
    TextWindows,
    TokenTask,
    VectorBatch,
    VectorTask,
)
from glassworks.tensors.seeds import Seed


@pytest.fixture
def make(tmp_path):
    """Builds a variant with its defaults; one that reads a file gets one."""

    def build(variant: type[Task]) -> Task:
        if variant not in (TextWindows, MaskedText, Continuations, Pairs, Sentences):
            return variant()
        file = tmp_path / "text"
        if variant in (Pairs, Sentences):
            file.write_text("".join(f"{n % 2} line {n} of a text\n" for n in range(40)))
            return Pairs.of((file,) * 4, pieces=300) if variant is Pairs else Sentences.of(file, file, pieces=300)
        file.write_bytes(bytes(range(256)) * 20)
        text = TextWindows.of(file)
        return text if variant is TextWindows else variant(text=text)

    return build


@pytest.mark.parametrize("variant", list(TASKS), ids=lambda v: v.__name__)
class TestTask:
    def test_equal_arguments_give_equal_batches(self, variant, make):
        first, second = (make(variant).sample(3, Seed(7)) for _ in range(2))
        assert torch.equal(first.inputs, second.inputs)
        assert torch.equal(first.targets, second.targets)

    def test_other_seeds_give_other_batches(self, variant, make):
        first, second = (make(variant).sample(3, Seed(seed)) for seed in (7, 8))
        assert not torch.equal(first.inputs, second.inputs)

    def test_masks_have_one_entry_per_position(self, variant, make):
        task = make(variant)
        batch = task.sample(3, Seed(0))
        assert bool(batch.scored["all"].any())
        assert batch.inputs.shape[:2] == (3, task.longest)
        assert all(m.shape == batch.inputs.shape[:2] and m.dtype == torch.bool for m in batch.scored.values())

    def test_it_reads_what_it_says(self, variant, make):
        task = make(variant)
        batch = task.sample(3, Seed(0))
        if task.reads == "tokens":
            assert isinstance(task, TokenTask)
            assert isinstance(batch, Batch)
            assert 0 <= int(batch.inputs.min()) <= int(batch.inputs.max()) < task.vocabulary == len(task.alphabet)
        else:
            assert isinstance(task, VectorTask)
            assert isinstance(batch, VectorBatch)
            assert batch.inputs.shape[2] == task.inputs
            assert batch.targets.shape == (*batch.inputs.shape[:2], task.outputs)
            assert torch.equal(batch.targets, batch.observations[:, 1:])
            assert {part.dtype for part in (batch.inputs, batch.targets, batch.observations)} == {torch.float32}

    def test_batches_can_serve_training_even_of_one_sequence(self, variant, make):
        batch = make(variant).sample(1, Seed(0))
        assert not batch.inputs.is_inference()
        assert not batch.targets.is_inference()

    def test_the_ideal_loss_is_finite_and_not_negative(self, variant, make):
        task = make(variant)
        batch = task.sample(3, Seed(0))
        floor = task.ideal(batch)
        assert floor is None or floor.shape == batch.inputs.shape[:2]
        assert floor is None or bool((torch.isfinite(floor) & (floor >= 0)).all())

    def test_global_chance_is_left_untouched(self, variant, make):
        torch.manual_seed(0)
        before = torch.get_rng_state()
        make(variant).sample(2, Seed(1))
        assert torch.equal(before, torch.get_rng_state())

    def test_the_spec_survives_json(self, variant, make):
        task = make(variant)
        assert TASKS.parse(task.to_json()) == task


@pytest.mark.parametrize("variant", [v for v in TASKS if issubclass(v, VectorTask)], ids=lambda v: v.__name__)
def test_in_the_end_the_ideal_loss_is_far_below_that_of_predicting_zero(variant):
    task = variant()
    batch = task.sample(64, Seed(1))
    late = torch.zeros_like(batch.scored["all"])
    late[:, -task.longest // 4 :] = True
    asked = late & batch.scored.get("labels", batch.scored["all"])
    floor = task.ideal(batch)
    assert floor is not None
    assert float(floor[asked].mean()) < 0.1 * float(0.5 * batch.targets.square().sum(-1)[asked].mean())
