"""What models keep: the integers of the paper's table, and formulas against live models, number for number."""

from typing import Any

import pytest
import torch
from transformers import DynamicCache

from glassworks.mixers import Infini, Linear, Local, Memorizing, Mesa, SlidingWindow, Softmax, TransformerXL
from glassworks.models import RecurrentMemorySpec, TransformerSpec, build_model
from glassworks.models.sizes import (
    PAPER,
    Footprint,
    StackSizes,
    auto_compressors,
    compressive,
    full_cache,
    infini,
    measured_values,
    memory_values,
    paper_table,
    values_of,
)
from glassworks.tensors.seeds import Seed

SIZES: dict[str, Any] = {"vocabulary": 5, "width": 12, "heads": 3, "positions": "rotary", "context": 64}


def test_the_papers_table_comes_out_to_the_last_number():
    table = paper_table()
    assert {name: kept.values for name, kept in table.items()} == {
        "Transformer-XL": 50_331_648,
        "Memorizing Transformers": 133_120_000 + 50_331_648,
        "RMT": 2_457_600,
        "Infini-Transformer": 1_585_152,
    }
    assert table["Memorizing Transformers"].values == 183_451_648
    assert table["Transformer-XL"].reach == 2048 * 12


def test_the_printed_ratios_are_those_of_rounded_numbers():
    table = paper_table()
    searched, small = table["Memorizing Transformers"], table["Infini-Transformer"]
    millions = {name: kept.values / 1e6 for name, kept in table.items()}
    rounded = {name: round(m) if m > 10 else round(m, 1) for name, m in millions.items()}
    assert list(rounded.values()) == [50, 183, 2.5, 1.6]
    assert round(183 / 1.6, 1) == 114.4
    assert round(small.times_less_than(searched), 1) == 115.7
    assert round(183 / 2.5, 1) == 73.2
    assert round(183 / 50, 2) == 3.66


def test_with_the_segment_in_progress_the_saving_is_smaller():
    table = paper_table()
    with_segment = Footprint(table["Infini-Transformer"].values + PAPER.in_progress, None)
    assert PAPER.in_progress == 50_331_648
    assert round(with_segment.times_less_than(table["Memorizing Transformers"]), 1) == 3.5
    cache = full_cache(PAPER, 1_000_000)
    assert cache.values == 24_576_000_000
    assert round(table["Infini-Transformer"].times_less_than(cache)) == 15_504
    assert round(with_segment.times_less_than(cache)) == 473


def test_the_other_rows_of_the_table_follow_their_formulas():
    small = StackSizes(layers=2, heads=3, key_width=4, value_width=5, segment=7, width=12)
    assert infini(small).values == 4 * 6 * 3 * 2
    assert compressive(small, compressed=10, rate=3) == Footprint(12 * 17 * 2, (30 + 7) * 2)
    assert auto_compressors(small, vectors=6, steps=4).values == 12 * 6 * 5 * 2


@pytest.mark.parametrize("tokens", [1, 4, 7, 8, 23])
@pytest.mark.parametrize(
    "mixers",
    [
        (Infini(segment=4),),
        (Infini(segment=4, write="delta"), Softmax()),
        (Local(segment=4),),
        (TransformerXL(segment=4, segments=2),),
        (TransformerXL(segment=4), Memorizing(segment=4, capacity=10)),
        (SlidingWindow(window=5, sinks=2),),
        (Linear(keep=True), Mesa()),
    ],
    ids=lambda mixers: "-".join(mixer.kind for mixer in mixers),
)
def test_a_live_model_keeps_what_the_formula_says(mixers, tokens):
    spec = TransformerSpec(depth=2, kv_heads=1, mixers=mixers, **SIZES)
    found, counted = measured_values(build_model(spec, Seed(0)), tokens), memory_values(spec, tokens)
    assert (found.kept, found.in_progress) == (counted.kept, counted.in_progress)
    assert found.kept + found.in_progress > 0 or tokens % 4 == 0


@pytest.mark.parametrize("tokens", [3, 4, 9])
def test_a_recurrent_memory_is_counted_as_the_table_counts_it(tokens):
    spec = RecurrentMemorySpec(depth=2, segment=4, memory_tokens=3, **SIZES)
    found = measured_values(build_model(spec, Seed(0)), tokens)
    is_open = tokens % 4 > 0
    assert found.kept == memory_values(spec, tokens).kept == 12 * 3 * 2 * 2 * is_open
    assert found.in_progress == memory_values(spec, tokens).in_progress == tokens % 4 * 12 * 2 * 2
    # The vectors themselves, without which no next segment could begin.
    assert found.beside == 12 * 3


def test_each_sequence_of_a_batch_counts_alone():
    spec = TransformerSpec(depth=1, mixers=(Infini(segment=4),), **SIZES)
    model = build_model(spec, Seed(0))
    cache = DynamicCache(config=model.config)
    model(torch.zeros(3, 6, dtype=torch.long), past_key_values=cache, use_cache=True)
    assert values_of(cache, spec) == measured_values(model, 6)
