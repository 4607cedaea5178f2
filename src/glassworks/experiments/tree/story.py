"""What the report of the tree study says in words: summary, one section for each study, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence
from glassworks.experiments.telling import Part, anchors_of, sections_of, summary_of
from glassworks.experiments.tree import tables
from glassworks.experiments.tree.claims import CLAIMS
from glassworks.experiments.tree.losses import three
from glassworks.figures import Figure
from glassworks.report.page import Section, SummaryLine

if TYPE_CHECKING:
    from glassworks.experiments.tree.spec import FamilyTree


def _equal_sizes(evidence: Evidence) -> tuple[Text, ...]:
    """How equal the blocks are, counted."""
    if "blocks_sizes" not in evidence:
        return ()
    found = evidence["blocks_sizes"].at(number="parameters").values
    apart = float(np.max(np.abs(found / found[0] - 1)))
    return (
        say(
            "Equal size: every model has about {count} trained numbers; they differ by at most {apart} per cent, because the "
            "feed-forward's hidden layer is made as wide as that needs.",
            count=f"{found[0]:,.0f}", apart=f"{100 * apart:.2f}",
        ),
    )  # fmt: skip


def _guessed(evidence: Evidence) -> tuple[Text, ...]:
    """What the encoder's own number is, and why it compares with nothing."""
    if "branches_guessing" not in evidence:
        return ()
    found = evidence["branches_guessing"].values
    return (
        say(
            "The encoder guesses a single hidden byte of the second half at {bits} bits, all other bytes shown, those behind it "
            "included. That is no chance of a text: no text can be written so, and the number compares with no other here.",
            bits=three(float(found.mean())),
        ),
    )


PARTS: tuple[Part, ...] = (
    Part(
        "blocks-study",
        say("Which choices of LLaMA matter here"),
        (
            say(
                "LLaMA's block differs from that of 2017 in four choices: the norm (root mean square, before each part), the "
                "feed-forward (SwiGLU), the positions (rotary, in every layer) and no added constants. Each choice is undone alone, "
                "and two whole blocks of earlier years stand beside them. All models have the same size, read the same bytes in the "
                "same order, and are trained with the same recipe."
            ),
            say(
                "A hasty training has ten times the rate from its first step, without warm-up, decline and clipping. It asks how "
                "much carelessness a block bears."
            ),
        ),
        tuple(
            f"tree.{key}"
            for key in (
                "rms-as-good",
                "pre-norm-stable",
                "pre-norm-costs-nothing",
                "swiglu",
                "rotary",
                "alibi-as-good",
                "alibi-reaches",
                "rotary-reaches",
                "tables-stop",
                "rms-faster",
                "beats-gpt2",
                "beats-2017",
                "best-block",
                "hasty-2017",
            )
        ),
        ("blocks-leads", "blocks-training", "blocks-hasty", "blocks-hasty-training", "blocks-reach", "blocks-speed"),
        tables.blocks,
        _equal_sizes,
    ),
    Part(
        "branches-study",
        say("The three branches of the tree"),
        (
            say(
                "The same layers, put together in four ways: an encoder, whose tokens see each other; a decoder, whose tokens see the "
                "past; a prefix decoder, which reads what is given in both directions and writes like a decoder; an encoder-decoder, "
                "which reads with one half of its layers and writes with the other. All learn from scratch, at equal size."
            ),
            say(
                "To understand is to give a sentence its label; to go on is to write the second half of a text; to translate is to "
                "write German for English. The decoder learns to go on from every byte of a text, the others from the second half "
                "alone, since the first half is what they read ahead: that is how these branches are trained."
            ),
        ),
        tuple(
            f"tree.{key}"
            for key in (
                "encoder-understands",
                "prefix-understands",
                "decoder-continues",
                "both-translate",
                "prefix-translates",
                "both-bleu",
            )
        ),
        (
            "branches-understanding",
            "branches-continuing",
            "branches-translating",
            "branches-bleu",
            "branches-training",
        ),
        tables.branches,
        _guessed,
    ),
)
ANCHORS = anchors_of(PARTS)
# What a reader should know first.
HEADLINES = tuple(
    f"tree.{key}"
    for key in (
        "rotary",
        "pre-norm-stable",
        "swiglu",
        "rms-as-good",
        "alibi-reaches",
        "encoder-understands",
        "decoder-continues",
        "both-translate",
    )
)


def summary(evidence: Evidence) -> list[SummaryLine]:
    """What is asked, how many claims hold, the headlines, and every claim that fails."""
    what = say(
        "LLaMA is built of choices that were new one by one: a norm, a feed-forward, positions. The question is which of them "
        "matter in models so small that each can be undone and trained again, and what the branches of the family are good for."
    )
    return [SummaryLine(what, "verdicts"), *summary_of(CLAIMS, evidence, HEADLINES, ANCHORS)]


def sections(evidence: Evidence, figures: Mapping[str, Figure]) -> list[Section]:
    """One section a study, as far as it was run: what it is about, its verdicts, figures and tables."""
    return sections_of(PARTS, CLAIMS, evidence, figures)


def limits(study: FamilyTree) -> list[Text]:
    """What this report does not show."""
    return [
        say(
            "Models of {depth} layers and a width of {width} read {count} bytes of one book. Choices that were made for depth and for "
            "billions of tokens can look useless, or harmful, here.",
            depth=study.depth, width=study.width, count=f"{study.steps * study.batch * study.length:,}",
        ),
        say(
            "One rate for all blocks, and one for all branches, chosen in pilots with LLaMA's block: a block that wants another rate "
            "is wronged. Starting values are PyTorch's for all, where GPT-2 and LLaMA have their own.",
        ),
        say(
            "Sinusoidal positions come with the factor on embeddings that 2017 gave them, so two things change there; learned "
            "positions take part of the feed-forward's width, the table being counted."
        ),
        say("Intervals are over {count} training seeds and wide; a difference within them is no difference.", count=len(study.seeds)),
        say(
            "Speed is processor time on one machine and one core, in float32, at these sizes, where norms weigh more than in large models. "
            "RMSNorm is written in plain operations here while LayerNorm is one kernel of the library: the comparison is of these two, not "
            "of what the two norms could cost."
        ),
        say(
            "Branches learn from scratch, from thousands of sentences and {pairs} pairs. What made encoders and decoders useful, "
            "pretraining on large text, is not tried. BLEU flatters: captions begin alike, and these models write German that seldom "
            "says what the source says.",
            pairs=f"{study.translating_steps * study.translating_batch:,}",
        ),
        say(
            "Pairs and sentences that are too long are left out or cut; translations are greedy, with one reference each. An encoder-"
            "decoder spends part of its size on looking across, and reads and writes with half as many layers each."
        ),
        say(
            "Claims and thresholds were written down before the runs that judge them. Known by then were pilots of single blocks and "
            "branches with one seed, which the page of this study in the documentation lists."
        ),
    ]  # fmt: skip
