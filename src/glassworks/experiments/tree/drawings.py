"""The figures of the tree study: what blocks lose, how they bear haste, how far they reach, what they cost; what branches can do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import interval_over_seeds
from glassworks.experiments.tree.losses import READS, lead, training_length
from glassworks.experiments.tree.names import block_name, branch_name, task_name
from glassworks.figures import (
    Axes,
    BarSeries,
    Dot,
    Figure,
    Heading,
    Panel,
    Reference,
    Series,
    bars,
    curves,
    dots,
    panels,
    series_of,
)

BITS_PER_BYTE = say("bits per byte")
STEP = say("training step")
LLAMA = "llama"
# Blocks that are drawn together: one question each; a block keeps its colour and line.
NORMS = (LLAMA, "layer norm", "layer norm after", "rms after")
FEEDFORWARDS = (LLAMA, "gelu", "relu")
POSITIONS = (LLAMA, "alibi", "none", "learned", "sinusoidal")
WHOLE = (LLAMA, "gpt-2", "2017")
STYLES = {
    LLAMA: 0, "layer norm": 1, "layer norm after": 2, "rms after": 3, "gelu": 4, "relu": 5, "learned": 1, "sinusoidal": 2,
    "alibi": 3, "none": 4, "gpt-2": 5, "2017": 6,
}  # fmt: skip
BRANCH_STYLES = {"encoder": 0, "decoder": 1, "prefix decoder": 2, "encoder-decoder": 3}


def finite(series: Series) -> Series:
    """A curve without the points that were not measured, or that no axis could show."""
    known = np.isfinite(np.asarray(series.mean, dtype=np.float64))
    low, high = (None if band is None else band[known] for band in (series.low, series.high))
    return replace(series, x=series.x[known], mean=series.mean[known], low=low, high=high)


def _curves_of(found: Measurement, blocks: Sequence[str], dim: str, factor: float = 1.0) -> tuple[Series, ...]:
    known = [block for block in blocks if block in found.coords["block"]]
    parts = [found.at(block=block) for block in known]
    scaled = [replace(part, values=part.values * factor) for part in parts]
    drawn = [
        finite(series_of(part, block_name(block), dim, STYLES[block]))
        for part, block in zip(scaled, known, strict=True)
    ]
    return tuple(series for series in drawn if len(series.x))


def _late(drawn: Sequence[Panel]) -> tuple[float, float] | None:
    """The range of curves after the first steep fall, which would flatten all that comes behind it; None without a curve."""
    tails = [series.mean[len(series.mean) // 8 :] for panel in drawn for series in panel.series]
    if not tails:
        return None
    low, high = min(float(np.min(tail)) for tail in tails), max(float(np.max(tail)) for tail in tails)
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _questions(found: Measurement, dim: str, factor: float = 1.0) -> list[Panel]:
    """One small picture for each choice, LLaMA's block in all of them."""
    titles = (
        (say("norms"), NORMS), (say("feed-forwards"), FEEDFORWARDS), (say("positions"), POSITIONS),
        (say("whole blocks"), WHOLE),
    )  # fmt: skip
    found_panels = [Panel(title, _curves_of(found, blocks, dim, factor)) for title, blocks in titles]
    return [panel for panel in found_panels if panel.series]


def _training(evidence: Evidence) -> list[Figure]:
    found = evidence["blocks_training"].at(metric="loss")
    heading = Heading(
        "blocks-training",
        say("One choice at a time, while the models learn"),
        say(
            "Loss of each fresh batch after the first fall, the same bytes in the same order; LLaMA's block stands in every picture."
        ),
    )
    drawn = _questions(found, "step", 1 / math.log(2))
    return [panels(heading, drawn, Axes(STEP, BITS_PER_BYTE, y_range=_late(drawn)), columns=2)] if drawn else []


def _leads(evidence: Evidence) -> list[Figure]:
    losses = evidence["blocks_by_position"]
    others = [str(label) for label in losses.coords["block"] if label != LLAMA]
    rows = [
        Dot(block_name(other), interval_over_seeds(found))
        for other in others
        for found in [lead(evidence, LLAMA, other)]
        if np.isfinite(found).any()
    ]
    heading = Heading(
        "blocks-leads",
        say("What each block needs more than LLaMA's"),
        say(
            "Held-out bits per byte within the training length, less those of LLaMA's block, seed by seed: right of 0 it is better."
        ),
    )
    axes = Axes(say("bits per byte more than LLaMA's block"), say("block"), references=(Reference(say("equal"), 0.0),))
    return [dots(heading, rows, axes)] if rows else []


def _hasty(evidence: Evidence) -> list[Figure]:
    found = evidence["blocks_hasty"]
    rows = [
        Dot(block_name(block), interval_over_seeds(found.at(block=block).values)) for block in found.coords["block"]
    ]
    heading = Heading(
        "blocks-hasty",
        say("Ten times the rate, without warm-up: who still learns"),
        say(
            "Bits per byte at the end of a hasty training. The frequencies of letters alone cost a little more than 4; knowing nothing costs 8."
        ),
    )
    marks = (Reference(say("letters alone"), READS),)
    return [dots(heading, rows, Axes(BITS_PER_BYTE, say("block"), references=marks))]


def _hasty_training(evidence: Evidence) -> list[Figure]:
    found = evidence["blocks_hasty_training"].at(metric="loss")
    heading = Heading(
        "blocks-hasty-training",
        say("Hasty trainings from step to step"),
        say(
            "Loss of each fresh batch at ten times the rate. A curve that stays level has learned letters and no more."
        ),
    )
    drawn = _questions(found, "step", 1 / math.log(2))
    return [panels(heading, drawn, Axes(STEP, BITS_PER_BYTE, y_range=_late(drawn)), columns=2)] if drawn else []


def _reach(evidence: Evidence) -> list[Figure]:
    found = evidence["blocks_by_position"]
    series = _curves_of(found, POSITIONS, "position")
    if not series:
        return []
    heading = Heading(
        "blocks-reach",
        say("Beyond the training length"),
        say(
            "Held-out bits per byte by the place of the byte in the text. The learned table ends where training ended."
        ),
    )
    marks = (Reference(say("training length"), float(training_length(found)), "vertical"),)
    return [curves(heading, list(series), Axes(say("place in the text (bytes)"), BITS_PER_BYTE, references=marks))]


def _speed(evidence: Evidence) -> list[Figure]:
    found = evidence["blocks_speed"]
    base = found.at(block=LLAMA).values
    ratios = {
        block: interval_over_seeds(found.at(block=block).values / base)
        for block in found.coords["block"]
        if block != LLAMA
    }
    # Rounds are no seeds: a count of them would be told as such below the figure.
    rows = [Dot(block_name(block), replace(ratio, count=0)) for block, ratio in ratios.items()]
    heading = Heading(
        "blocks-speed",
        say("A training step against one of LLaMA's block"),
        say(
            "Processor time of a step divided by that of LLaMA's block, with 95 % intervals over rounds: left of 1 it is faster."
        ),
    )
    axes = Axes(say("times the step of LLaMA's block"), say("block"), references=(Reference(say("equal"), 1.0),))
    return [dots(heading, rows, axes)]


def _understanding(evidence: Evidence) -> list[Figure]:
    found = evidence["branches_understanding"]
    groups = [task_name(task) for task in found.coords["task"]]
    series = [
        BarSeries(branch_name(branch), tuple(found.interval(task=task, branch=branch) for task in found.coords["task"]))
        for branch in found.coords["branch"]
    ]
    heading = Heading(
        "branches-understanding",
        say("Understanding: the right label of a sentence"),
        say("Share of held-out sentences, with 95 % intervals over seeds; learned from scratch."),
    )
    return [bars(heading, groups, series, Axes(say("task"), say("share of right labels"), y_range=(0.0, 1.0)))]


def _by_branch(evidence: Evidence, name: str, heading: Heading, label: Text, **at: str) -> list[Figure]:
    found = evidence[name].at(**at)
    rows = [
        Dot(branch_name(branch), interval_over_seeds(found.at(branch=branch).values))
        for branch in found.coords["branch"]
        if np.isfinite(found.at(branch=branch).values).any()
    ]
    return [dots(heading, rows, Axes(label, say("branch")))] if rows else []


def _continuing(evidence: Evidence) -> list[Figure]:
    heading = Heading(
        "branches-continuing",
        say("Going on: the second half of a text, the first half given"),
        say(
            "Held-out bits per byte; less is better. An encoder can go on with nothing: each of its vectors knows what comes."
        ),
    )
    return _by_branch(evidence, "branches_continuing", heading, BITS_PER_BYTE)


def _translating(evidence: Evidence) -> list[Figure]:
    loss = Heading(
        "branches-translating",
        say("Translating: loss on held-out translations"),
        say("Nats per target token, the source given; less is better."),
    )
    bleu = Heading(
        "branches-bleu",
        say("Translating: BLEU of greedy translations"),
        say("Against one reference each; more is better."),
    )
    return [
        *_by_branch(evidence, "branches_translating", loss, say("nats per token"), score="loss"),
        *_by_branch(evidence, "branches_translating", bleu, say("BLEU"), score="bleu"),
    ]


def _branches_training(evidence: Evidence) -> list[Figure]:
    found = evidence["branches_training"].at(metric="loss")
    drawn = [
        Panel(
            task_name(task),
            tuple(
                series
                for branch in found.coords["branch"]
                for series in [finite(series_of(found.at(task=task, branch=branch), branch_name(branch), "step", BRANCH_STYLES[str(branch)]))]
                if len(series.x)
            ),
        )
        for task in found.coords["task"]
    ]  # fmt: skip
    heading = Heading(
        "branches-training",
        say("The branches while they learn"),
        say(
            "Loss of each fresh batch, in nats: per label, per byte to be written (encoder: hidden byte), per target token."
        ),
    )
    known = [panel for panel in drawn if panel.series]
    return [panels(heading, known, Axes(STEP, say("loss in nats")), columns=2)] if known else []


PAINTERS: tuple[tuple[str, Callable[[Evidence], list[Figure]]], ...] = (
    ("blocks_by_position", _leads),
    ("blocks_training", _training),
    ("blocks_hasty", _hasty),
    ("blocks_hasty_training", _hasty_training),
    ("blocks_by_position", _reach),
    ("blocks_speed", _speed),
    ("branches_understanding", _understanding),
    ("branches_continuing", _continuing),
    ("branches_translating", _translating),
    ("branches_training", _branches_training),
)


def draw(evidence: Evidence) -> list[Figure]:
    """Every figure whose measurement is at hand."""
    return [figure for name, paint in PAINTERS if name in evidence for figure in paint(evidence)]
