"""What each architecture keeps of a text: the paper's table by formula, and our small models counted while they read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from glassworks.core.text import say
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.infini.trainings import LANGUAGE_MODELS, model_of
from glassworks.experiments.infini.workbench import streams_of
from glassworks.models import build_model
from glassworks.models.sizes import (
    PAPER,
    STORED,
    VECTORS,
    auto_compressors,
    compressive,
    full_cache,
    infini,
    measured_values,
    memorizing,
    memory_values,
    recurrent_memory,
    transformer_xl,
    values_of,
)
from glassworks.models.spec import TransformerSpec
from glassworks.tensors.seeds import Seed

if TYPE_CHECKING:
    from glassworks.experiments.infini.spec import InfiniAttention

# Where the paper leaves the sizes of two architectures open: as many compressed places as a segment has tokens, three
# tokens in each; 50 summary vectors of each of the 16 segments of a training sequence.
RATE, SUMMARIES, SEGMENTS = 3, 50, 16
MILLION = 1_000_000
# Training lengths up to which live models are watched, and tokens that they read at a time: a model that keeps all keys
# holds a mask of these against all before.
BEYOND, AT_ONCE = 8, 512


def measure(study: InfiniAttention) -> Sequence[Measurement]:
    """Sizes of the paper's table, formulas against live models, and memory against tokens read."""
    return [memory_sizes(), memory_live(study), memory_growth(study)]


def memory_sizes() -> Measurement:
    """Numbers kept across segments, and of the segment in progress, at the paper's sizes."""
    kept = {
        "Transformer-XL": transformer_xl(PAPER),
        "Compressive Transformer": compressive(PAPER, PAPER.segment, RATE),
        "Memorizing Transformers": memorizing(PAPER, STORED),
        "RMT": recurrent_memory(PAPER, VECTORS),
        "AutoCompressors": auto_compressors(PAPER, SUMMARIES, SEGMENTS - 1),
        "Infini-Transformer": infini(PAPER),
        "full cache, 1M tokens": full_cache(PAPER, MILLION),
    }
    rows = [[size.values, 0 if model.startswith("full") else PAPER.in_progress] for model, size in kept.items()]
    return Measurement(
        "memory_sizes", say("numbers kept by each architecture at the paper's sizes"), np.array(rows, dtype=np.float64),
        ("model", "part"), {"model": tuple(kept), "part": ("kept", "segment in progress")}, "numbers",
        (
            say("{stored} pairs in the searched memory, {vectors} memory vectors of RMT, as printed", stored=f"{STORED:,}", vectors=VECTORS),
            say(
                "sizes that the paper leaves open: {places} compressed places, {summaries} summaries of each of {segments} segments",
                places=f"{PAPER.segment:,}", summaries=SUMMARIES, segments=SEGMENTS,
            ),
        ),
    )  # fmt: skip


def memory_live(study: InfiniAttention) -> Measurement:
    """Formula and count for the models of the book, after four segments and half of the fifth."""
    tokens = 4 * study.segment + study.segment // 2
    rows: list[list[int]] = []
    for spec in _specs(study).values():
        formula = memory_values(spec, tokens)
        measured = measured_values(build_model(spec, Seed(0)).eval(), tokens)
        rows.append([found.kept + found.in_progress for found in (formula, measured)])
    return Measurement(
        "memory_live", say("numbers in the memories of live models, by formula and counted"),
        np.array(rows, dtype=np.float64), ("model", "count"),
        {"model": tuple(_specs(study)), "count": ("formula", "measured")}, "numbers",
        (
            say("after {tokens} tokens: what is kept across segments and the segment in progress", tokens=tokens),
            say("untrained models of the book's sizes; counts of tokens and exponents are left out"),
        ),
    )  # fmt: skip


def memory_growth(study: InfiniAttention) -> Measurement:
    """Numbers in the memories of the same models while they read, at every doubling of the text."""
    counts = [study.segment]
    while counts[-1] < BEYOND * study.text_length:
        counts.append(2 * counts[-1])
    return Measurement(
        "memory_growth", say("numbers in the memories of live models against tokens read"),
        np.array([_growth(study, spec, counts) for spec in _specs(study).values()], dtype=np.float64), ("model", "tokens"),
        {"model": tuple(_specs(study)), "tokens": tuple(counts)}, "numbers",
        (
            say("what is kept across segments and the segment in progress; untrained models of the book's sizes"),
            say("counted half a segment further on, where the segment in progress is seen"),
        ),
    )  # fmt: skip


def _specs(study: InfiniAttention) -> dict[str, TransformerSpec]:
    return {
        label: model_of(study, label, study.segment, study.text_length)
        for label in LANGUAGE_MODELS
        if "longer" not in label
    }


def _growth(study: InfiniAttention, spec: TransformerSpec, counts: Sequence[int]) -> list[int]:
    """What one live model holds half a segment beyond each of these numbers of tokens.

    There the segment in progress is seen, and RMT's vectors stand before it as keys and values in every layer.
    """
    model = build_model(spec, Seed(0)).eval()
    ends = [count + study.segment // 2 for count in counts]
    # Drawn anew: of one token again and again a mesa layer could not tell its weights.
    text = torch.randint(spec.vocabulary, (1, ends[-1]), generator=Seed(0).child("text").generator())
    cache, rows = None, list[int]()
    for before, end in zip((0, *ends), ends, strict=False):
        for _, after in streams_of(model, text[:, before:end].split(AT_ONCE, 1), cache):
            cache = after
        assert cache is not None, "tokens were read"
        held = values_of(cache, spec)
        rows.append(held.kept + held.in_progress)
    return rows
