"""What the report of the scaling study says in words: summary, one section for each study, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence
from glassworks.experiments.scaling import tables
from glassworks.experiments.scaling.claims import CLAIMS
from glassworks.experiments.scaling.laws import BESIROGLU, CHINCHILLA, GOPHER, HOFFMANN
from glassworks.experiments.telling import Part, anchors_of, sections_of, summary_of
from glassworks.figures import Figure
from glassworks.report.page import Section, SummaryLine

if TYPE_CHECKING:
    from glassworks.experiments.scaling.spec import Scaling


def _equal_compute(evidence: Evidence) -> tuple[Text, ...]:
    """The two splits in numbers, from the laws."""
    if "published_models" not in evidence:
        return ()
    return (
        say(
            "Gopher spent its compute on 280 billion parameters and 300 billion tokens, Chinchilla on 70 and 1,400: 6 N D is "
            "{gopher} and {chinchilla}. The first law foretells {a} and {b} nats per token, the second {c} and {d}.",
            gopher=f"{GOPHER.flop:.3g}", chinchilla=f"{CHINCHILLA.flop:.3g}",
            a=f"{HOFFMANN.loss(GOPHER.parameters, GOPHER.tokens):.3f}",
            b=f"{HOFFMANN.loss(CHINCHILLA.parameters, CHINCHILLA.tokens):.3f}",
            c=f"{BESIROGLU.loss(GOPHER.parameters, GOPHER.tokens):.3f}",
            d=f"{BESIROGLU.loss(CHINCHILLA.parameters, CHINCHILLA.tokens):.3f}",
        ),
    )  # fmt: skip


PARTS: tuple[Part, ...] = (
    Part(
        "families-study",
        say("One budget, many sizes"),
        (
            say(
                "Training costs about six operations for each parameter and each byte read. A budget can buy a large model that reads "
                "little, or a small one that reads much. Models of eight sizes were trained with several budgets, each with a cosine that ends "
                "when its bytes do, and all are asked about the same held-out text."
            ),
            say(
                "Budgets grow by three and sizes by its root, so that some models of different budgets read equally many bytes: along "
                "them size alone changes."
            ),
        ),
        ("scaling.size-helps", "scaling.interior-optimum", "scaling.data-matters", "scaling.exponents", "scaling.foretells"),
        ("isoflop", "best-split", "exponents", "loss-by-size", "loss-by-data"),
        lambda evidence: [*tables.laws(evidence), *tables.grid(evidence)],
    ),
    Part(
        "published-study",
        say("Gopher and Chinchilla"),
        (
            say(
                "Two published fits of the same trainings: the first one, and one made again from the points of its figure, which found "
                "that the first had stopped too early. Both say that size and data should grow about alike. For this compute the first law's "
                "constants ask for some ninety tokens for each parameter, the second's for about twenty, which Chinchilla was given."
            ),
        ),
        ("scaling.gopher-chinchilla", "scaling.recovery"),
        ("gopher-chinchilla",),
        tables.published,
        _equal_compute,
    ),
    Part(
        "compression-study",
        say("A language model as a compressor"),
        (
            say(
                "A model that foretells the next byte well can write a text in few bits: arithmetic coding spends as many bits on a byte as "
                "the model is surprised by it. A decoder with the same model asks the same questions and gets the text back. So bits per "
                "byte of a loss and of a compressor are one and the same unit."
            ),
            say(
                "A compressor that reads the held-out text alone starts from nothing, while the model has read nine times as much of "
                "its kind. So the compressors are also asked how much the held-out text adds behind the text of training."
            ),
        ),
        ("scaling.below-compressors", "scaling.below-primed", "scaling.coding"),
        ("compressors",),
        tables.compression,
    ),
)  # fmt: skip
# The section that shows what a claim is about.
ANCHORS = anchors_of(PARTS)
# What a reader should know first.
HEADLINES = tuple(
    f"scaling.{key}"
    for key in ("interior-optimum", "exponents", "data-matters", "gopher-chinchilla", "below-compressors", "coding")
)


def summary(evidence: Evidence) -> list[SummaryLine]:
    """What is asked, how many claims hold, the headlines, and every claim that fails."""
    what = say(
        "How should a budget of compute be split between the size of a model and the text that it reads? Small decoders of bytes, "
        "trained over sizes and budgets, answer as the large ones of 2022 did, or do not."
    )
    return [SummaryLine(what, "verdicts"), *summary_of(CLAIMS, evidence, HEADLINES, ANCHORS)]


def sections(evidence: Evidence, figures: Mapping[str, Figure]) -> list[Section]:
    """One section a study, as far as it was run: what it is about, its verdicts, figures and tables."""
    return sections_of(PARTS, CLAIMS, evidence, figures)


def limits(study: Scaling) -> list[Text]:
    """What this report does not show."""
    return [
        say(
            "Models of ten thousand to half a million parameters read a few megabytes of simple stories; the laws are about models a "
            "hundred thousand times as large. Powers found here are powers of this text, this range and these settings."
        ),
        say(
            "Operations are counted as 6 N D, with N all parameters but the table of embeddings. In models this small the unembedding is "
            "a large part of N, and attention costs up to two fifths as much again, which is not counted; the table of models says how much. What is left out weighs "
            "most in the smallest models, and may tilt the power of the best size upwards."
        ),
        say(
            "The rate was fixed by the width alone after a few pilots, and the batch is the same for all. Models that read little make few "
            "steps, so that what counts as little data here is in part little optimisation."
        ),
        say(
            "The text is read up to three times by the smallest models of the largest budget; each step draws its windows anew."
        ),
        say(
            "Budgets are repeated {repeats} times, from the smallest; the last one decides nothing by itself. Draws of the parabolas know the "
            "noise of seeds, and not whether a parabola is the right curve.",
            repeats=", ".join(map(str, study.repeats)),
        ),
        say(
            "The first of the published ways, the envelope of training curves, is not taken: a curve whose rate has not come down yet lies "
            "above what its bytes can give."
        ),
        say(
            "The compressors are general ones. Compressors that learn as they go, and mix many models, come nearer to a language model; and "
            "the weights of the model, which a decoder needs as well, are many times the coded text."
        ),
        say(
            "Coded text decodes on the machine that coded it. Other hardware, versions or numbers of threads may round otherwise, which the "
            "checksum tells."
        ),
        say(
            "Claims and thresholds were written down before the runs that judge them. Known by then were the published laws, what the "
            "compressors make of the text, and pilots that looked for rates and sizes."
        ),
    ]
