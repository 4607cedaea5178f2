import time

import numpy as np
import pytest
import torch

from glassworks.core.errors import InvalidSpec
from glassworks.tasks import Bigram
from glassworks.tasks.bigram import occurrences
from glassworks.tasks.characters import count_characters, shipped_counts
from glassworks.tasks.counting import most_frequent_so_far, most_surprising_so_far
from glassworks.tensors.seeds import Seed
from tests.assets import asset

# birth.md 1.4: share of trigger positions, of in-context positions, of self-copies among trigger positions. One draw of
# 6000 sequences scatters by about 0.005; self-copies come in whole sequences and scatter more.
STATISTICS = [
    ({"trigger_choice": "fixed"}, 0.315, 0.296, 0.214),
    ({}, 0.243, 0.225, 0.225),
    ({"triggers": 2, "trigger_choice": "fixed"}, 0.215, 0.208, 0.156),
    ({"triggers": 10}, 0.385, 0.353, 0.275),
    ({"triggers": 20}, 0.562, 0.510, 0.298),
    ({"trigger_choice": "fixed", "first_trigger_rank": 20}, 0.102, 0.084, 0.472),
    ({"outputs": "bigram"}, 0.342, 0.325, 0.300),
    ({"trigger_choice": "fixed", "outputs": "bigram"}, 0.477, 0.459, 0.179),
]


@pytest.mark.parametrize(("choices", "trigger", "in_context", "copies"), STATISTICS)
@pytest.mark.slow
def test_the_shares_are_those_of_the_published_world(choices, trigger, in_context, copies):
    batch = Bigram(**choices).sample(6000, Seed(0))
    assert float(batch.scored["trigger"].float().mean()) == pytest.approx(trigger, abs=0.015)
    assert float(batch.scored["in_context"].float().mean()) == pytest.approx(in_context, abs=0.015)
    repeated = (batch.inputs == batch.targets) & batch.scored["trigger"]
    assert float(repeated.sum() / batch.scored["trigger"].sum()) == pytest.approx(copies, abs=0.08)


def test_after_a_trigger_always_comes_its_output():
    batch = Bigram(triggers=7).sample(63, Seed(1))
    for k in range(7):
        at = batch.inputs == batch.triggers[:, k : k + 1]
        expected = batch.outputs[:, k : k + 1].expand_as(batch.targets)
        assert torch.equal(batch.targets[at], expected[at])


def test_all_other_tokens_follow_the_bigram_law():
    task = Bigram(triggers=0)
    batch = task.sample(2000, Seed(2))
    seen = np.zeros((task.vocabulary, task.vocabulary))
    np.add.at(seen, (batch.inputs.flatten().numpy(), batch.targets.flatten().numpy()), 1)
    law = task.counts.bigram_law
    assert not seen[law == 0].any()
    for token in task.counts.by_frequency()[:10]:
        expected = law[token] * seen[token].sum()
        error = np.abs(seen[token] - expected)
        # Four standard deviations of a binomial count.
        assert (error <= 4 * np.sqrt(expected + 1)).all()


def test_random_triggers_are_drawn_without_replacement_by_frequency():
    task = Bigram()
    triggers = task.sample(4000, Seed(3)).triggers
    assert all(len(set(row)) == 5 for row in triggers.tolist())
    rng = np.random.default_rng(0)
    drawn = [rng.choice(task.vocabulary, 5, replace=False, p=task.counts.unigram_law) for _ in range(4000)]
    expected = np.bincount(np.concatenate(drawn), minlength=task.vocabulary) / 4000
    found = np.bincount(triggers.flatten().numpy(), minlength=task.vocabulary) / 4000
    assert np.abs(found - expected).max() < 0.05


def test_fixed_triggers_are_the_most_frequent_or_the_rank_asked_for():
    assert [Bigram().alphabet[t] for t in Bigram(trigger_choice="fixed").fixed_triggers or ()] == list(" etoa")
    rare = Bigram(trigger_choice="fixed", first_trigger_rank=20).fixed_triggers or ()
    assert [Bigram().alphabet[t] for t in rare] == list("gIbp:")


def test_equal_arguments_give_equal_batches_and_other_seeds_others():
    one, again, other = (Bigram(length=31).sample(7, Seed(s)) for s in (5, 5, 6))
    assert torch.equal(one.inputs, again.inputs)
    assert torch.equal(one.occurrence, again.occurrence)
    assert not torch.equal(one.inputs, other.inputs)


def test_forbidding_repeats_leaves_no_output_equal_to_its_trigger():
    for outputs in ("uniform", "bigram"):
        batch = Bigram(repeat_allowed=False, outputs=outputs).sample(500, Seed(0))
        assert not (batch.triggers == batch.outputs).any()


def test_the_two_halves_of_outputs_do_not_meet():
    train, test = (Bigram(output_half=half).sample(300, Seed(0)).outputs for half in ("train", "test"))
    assert int(train.max()) < 48 <= int(test.min())


def test_shown_triggers_precede_the_sequence_and_are_not_scored():
    task = Bigram(show_triggers=True, length=20)
    batch = task.sample(9, Seed(0))
    assert batch.inputs.shape == (9, 25) == (9, task.longest)
    assert torch.equal(batch.inputs[:, :5], batch.triggers)
    assert not any(mask[:, :5].any() for mask in batch.scored.values())


def test_occurrences_count_each_trigger_by_itself():
    tokens = torch.tensor([[3, 1, 3, 2, 1, 3]])
    assert occurrences(tokens, torch.tensor([[3, 1]])).tolist() == [[1, 1, 2, 0, 2, 3]]


def test_the_oracle_loses_nothing_on_in_context_tokens_and_the_entropy_elsewhere():
    task = Bigram()
    batch = task.sample(500, Seed(0))
    floor = task.ideal(batch)
    assert float(floor[batch.scored["in_context"]].max()) == 0.0
    assert float(floor[batch.occurrence == 1].mean()) == pytest.approx(np.log(65))
    assert float(floor[batch.scored["global"]].mean()) == pytest.approx(2.266, abs=0.03)


@pytest.mark.slow
def test_counting_reaches_what_the_fact_sheet_says():
    task = Bigram()
    batch = task.sample(1500, Seed(4))
    mask = batch.scored["in_context"]
    frequent = most_frequent_so_far(batch.inputs, task.vocabulary) == batch.targets
    surprising = most_surprising_so_far(batch.inputs, torch.tensor(task.counts.unigram_law)) == batch.targets
    assert float(frequent[mask].float().mean()) == pytest.approx(0.375, abs=0.05)
    assert float(surprising[mask].float().mean()) == pytest.approx(0.609, abs=0.05)


def test_the_shipped_counts_have_the_published_entropies():
    counts = shipped_counts("tiny_shakespeare")
    unigram, bigram = counts.unigram_law, counts.bigram_law
    positive = np.where(bigram > 0, bigram, 1.0)
    rows = -(bigram * np.log(positive)).sum(1)
    assert len(counts.characters) == 65
    assert int((counts.bigrams > 0).sum()) == 1403
    assert -(unigram * np.log(unigram)).sum() == pytest.approx(3.3128, abs=1e-4)
    assert (unigram * rows).sum() == pytest.approx(2.4526, abs=1e-4)
    assert rows.mean() == pytest.approx(1.9089, abs=1e-4)
    assert (unigram * bigram.max(1)).sum() == pytest.approx(0.2713, abs=1e-4)


def test_the_shipped_counts_are_those_of_the_text_itself():
    text = asset("text/tinyshakespeare.txt").read_text(encoding="utf-8")
    counted, shipped = count_characters(text, ""), shipped_counts("tiny_shakespeare")
    assert counted.characters == shipped.characters
    assert np.array_equal(counted.bigrams, shipped.bigrams)
    assert np.array_equal(counted.unigrams, shipped.unigrams)


@pytest.mark.parametrize("fields", [{"triggers": 66}, {"triggers": -1}, {"length": 1}, {"first_trigger_rank": 63}])
def test_impossible_worlds_are_refused(fields):
    with pytest.raises(InvalidSpec):
        Bigram(**fields)


def test_a_misspelt_field_gets_the_nearest_name():
    with pytest.raises(InvalidSpec, match="unknown field triger") as found:
        Bigram(triger=3)
    assert "triggers" in str(found.value)


def test_a_large_batch_takes_no_loop_over_sequences():
    task = Bigram(length=64)
    task.sample(8, Seed(0))
    started = time.perf_counter()
    task.sample(8, Seed(1))
    few = time.perf_counter() - started
    started = time.perf_counter()
    task.sample(512, Seed(1))
    # 64 times the sequences in far less than 64 times the time; a loop over sequences would fail this at any speed.
    assert time.perf_counter() - started < 32 * max(few, 1e-3)
