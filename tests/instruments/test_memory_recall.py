import math

import pytest
import torch

from glassworks.anatomy import Alphabet, Subject, TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.instruments import MemoryMatrix, MemoryRecall
from glassworks.instruments.memory_recall import MEMORIES, BigramWorld, Memories, chance_of, memories, recall, recall_of
from glassworks.tasks.bigram import Bigram
from tests.families import subject as examined
from tests.families import tiny
from tests.planted.models import POSITIONS, VOCABULARY, induction_head, previous_token_head

LAW = torch.rand(VOCABULARY, generator=torch.Generator().manual_seed(0)).softmax(0)
WORLD = BigramWorld(LAW, LAW.expand(VOCABULARY, -1))
BATCH = TokenBatch(torch.tensor([[1, 2, 3]]))


def test_the_planted_induction_head_holds_all_three_memories() -> None:
    found = recall(Subject.of(induction_head()), WORLD)
    assert set(found) == set(MEMORIES)
    for name in ("w_o2", "w_k1", "w_k1_causal", "w_k1_first_64", "w_k1_first_64_causal", "w_k2", "w_k2_weighted"):
        assert found[name] > 0.95, name
    assert math.isnan(found["w_f_kl"])


def test_what_was_not_planted_is_at_chance() -> None:
    found = recall(Subject.of(previous_token_head()), WORLD)
    assert found["w_k1"] > 0.95
    assert found["w_o2"] < 0.2
    assert found["w_k2"] < 0.2


def test_scores_equal_the_formulas_written_with_the_weights() -> None:
    model = induction_head()
    first, second = (block.attention for block in model.blocks)
    tokens, places = model.tokens.weight, model.places.vectors
    with torch.no_grad():
        written = tokens @ (first.output.weight @ first.value.weight).T
        output = tokens @ (model.unembed.weight @ second.output.weight @ second.value.weight).T
        matching = tokens @ second.key.weight @ written.T / 16
        previous = places @ first.key.weight @ places.T / 16
    found = memories(Subject.of(model))
    assert found.previous is not None
    assert torch.allclose(found.output, output, rtol=1e-4, atol=1e-3)
    assert torch.allclose(found.matching, matching, rtol=1e-4, atol=1e-3)
    assert torch.allclose(found.previous, previous, rtol=1e-4, atol=1e-3)


def test_recall_counts_as_the_sheet_says() -> None:
    eye = torch.eye(4)
    # Rows 1..3 of `previous` must point to the column before; row 2 points to 0 instead, row 3 to the future.
    previous = torch.tensor([[0.0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 5]])
    world = BigramWorld(torch.tensor([0.7, 0.1, 0.1, 0.1]), torch.full((4, 4), 0.25))
    matching = eye.clone()
    matching[3] = torch.tensor([9.0, 0, 0, 1])
    found = recall_of(Memories(eye, previous, matching, torch.zeros(4, 4)), world)
    assert found["w_o2"] == 1.0
    assert found["w_k1"] == pytest.approx(2 / 3)  # column 3 is no candidate, as the last position never is
    assert found["w_k2"] == 0.75
    assert found["w_k2_weighted"] == pytest.approx(0.9)
    assert found["w_f_kl"] == pytest.approx(0.0)


def test_later_positions_are_candidates_unless_causal() -> None:
    previous = torch.tensor([[0.0, 0, 9, 0], [1, 0, 9, 0], [0, 1, 9, 0], [0, 0, 1, 0]])
    found = recall_of(
        Memories(torch.eye(4), previous, torch.eye(4), None), BigramWorld(torch.ones(4) / 4, torch.ones(4, 4) / 4)
    )
    assert found["w_k1"] == pytest.approx(1 / 3)
    # Position 2 (from 0) may look at itself, so its wrong answer stays; position 1 may not look at 2.
    assert found["w_k1_causal"] == pytest.approx(2 / 3)


def test_fixed_triggers_narrow_the_candidates_and_leave_the_bigram_law() -> None:
    matching = torch.eye(4)
    matching[1, 0] = 5.0
    wrong = torch.zeros(4, 4)
    wrong[2, 0] = 50.0
    law = torch.full((4, 4), 0.25)
    free = recall_of(Memories(matching, None, matching, wrong), BigramWorld(torch.ones(4) / 4, law))
    fixed = recall_of(Memories(matching, None, matching, wrong), BigramWorld(torch.ones(4) / 4, law, (1, 2)))
    assert free["w_k2"] == 0.75
    assert fixed["w_k2"] == 1.0
    assert free["w_f_kl"] > 1.0
    assert fixed["w_f_kl"] == pytest.approx(0.0)


def test_exact_zeros_of_the_bigram_law_stay_finite() -> None:
    law = torch.eye(VOCABULARY)
    world = BigramWorld(LAW, law)
    assert chance_of(world, VOCABULARY, POSITIONS)["w_f_kl"] == pytest.approx(math.log(VOCABULARY))


def test_chance_levels_are_those_of_random_scores() -> None:
    generator = torch.Generator().manual_seed(0)
    total = dict.fromkeys(("w_o2", "w_k1", "w_k1_causal", "w_k2"), 0.0)
    repeats = 60
    for _ in range(repeats):
        scores = [torch.randn(n, n, generator=generator) for n in (VOCABULARY, POSITIONS, VOCABULARY)]
        found = recall_of(Memories(*scores, None), WORLD)
        total = {name: value + found[name] / repeats for name, value in total.items()}
    for name, value in total.items():
        assert value == pytest.approx(chance_of(WORLD, VOCABULARY, POSITIONS)[name], abs=0.012)


def test_models_of_other_libraries_are_asked_too() -> None:
    found = recall(Subject.of(tiny("gpt2", layers=2)), BigramWorld(torch.ones(61) / 61, torch.ones(61, 61) / 61))
    assert not any(math.isnan(value) for value in found.values())
    rotary = recall(Subject.of(tiny("llama", layers=2)), BigramWorld(torch.ones(61) / 61, torch.ones(61, 61) / 61))
    assert math.isnan(rotary["w_k1"])
    assert 0.0 <= rotary["w_k2"] <= 1.0


def test_three_layers_or_no_world_are_refused_in_words() -> None:
    with pytest.raises(InvalidInput, match="two attention layers"):
        recall(examined("gpt2"), WORLD)
    with pytest.raises(InvalidInput, match="needs the bigram world"):
        MemoryRecall().read(Subject.of(induction_head()), BATCH)


def test_the_instrument_reads_the_subjects_world_and_draws_it() -> None:
    task = Bigram(length=32)
    model = tiny("gpt2", layers=2)
    with pytest.raises(InvalidInput, match="differ in their vocabulary"):
        MemoryRecall().read(Subject.of(model, Alphabet(task.alphabet), world=task), BATCH)
    subject = Subject.of(induction_head())
    found = MemoryRecall().of(subject, WORLD)
    assert found.values.shape == (len(MEMORIES), 2)
    assert found.at(quantity="value").values[0] > 0.95
    assert "W_O, layer 1" in MemoryRecall().draw(found).svg("light", "en")


@pytest.mark.parametrize("memory", ["w_o2", "w_k1", "w_k2"])
def test_the_matrix_of_a_planted_memory_has_its_line(memory: str) -> None:
    found = MemoryMatrix(memory=memory, positions=POSITIONS).read(Subject.of(induction_head()), BATCH).values
    line = found.diagonal(-1 if memory == "w_k1" else 0)
    assert line.mean() > 5 * abs(found.mean())
