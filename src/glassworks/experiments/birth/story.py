"""What the report of Birth says in words: summary, one section per study, limits."""

from __future__ import annotations

from collections.abc import Mapping

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence
from glassworks.experiments.birth.claims import CLAIMS
from glassworks.experiments.telling import summary_of
from glassworks.figures import Figure
from glassworks.report.page import Section, SummaryLine, Table

# The figure or section that shows what a claim is about.
ANCHORS = {
    "birth.two-layers": "depth",
    "birth.memories-form": "formation",
    "birth.attention-as-predicted": "attention-layer-1",
    "birth.beyond-counting": "against-counting",
    "birth.top-down": "formation",
    "birth.output-first": "freezing",
    "birth.catch-up": "freezing",
    "birth.global-first": "global-first",
    "birth.data-decides": "data-accuracy",
    "birth.diverse-outputs": "shift",
    "birth.width": "construction",
    "birth.early-positions": "position-recall",
    "birth.three-steps": "three-steps-restricted",
    "birth.order-is-forced": "three-steps-restricted",
    "birth.gradients-are-memories": "theory",
    "birth.noise-is-filtered": "theory",
    "birth.early-by-theory": "position-profile",
}
# The five that a reader should know first, in the order of the paper.
HEADLINES = (
    "birth.memories-form",
    "birth.top-down",
    "birth.output-first",
    "birth.two-layers",
    "birth.width",
    "birth.three-steps",
)


def summary(evidence: Evidence) -> list[SummaryLine]:
    """How many claims hold, the headlines, and every claim that fails."""
    return summary_of(CLAIMS, evidence, HEADLINES, ANCHORS)


# Key, title, paragraphs and figure names of each section.
PLANS: tuple[tuple[str, Text, tuple[Text, ...], tuple[str, ...]], ...] = (
    (
        "formation-study",
        say("How the induction head forms"),
        (
            say(
                "Characters follow the statistics of tiny Shakespeare, except that after each of five trigger characters, "
                "drawn anew for every sequence, the same output character follows every time. Predicting that output at the "
                "trigger's second occurrence takes a look back: layer 1 attends to the previous token and writes its trace, "
                "layer 2 matches the present token with that trace and copies what follows."
            ),
            say(
                "Three matrices do this, each a sum of outer products of embeddings, an associative memory. Recall is the share "
                "of its associations that a matrix answers correctly."
            ),
        ),
        (
            "formation", "attention-layer-1", "attention-layer-2", "against-counting", "position-recall",
            "memory-output", "memory-match", "memory-position",
        ),
    ),
    (
        "freezing-study",
        say("Which memory must come first"),
        (say("The same training with some memories held at their random start until the release."),),
        ("freezing",),
    ),
    (
        "data-study",
        say("What the data decides"),
        (
            say(
                "All tokens are learned now, and a linear feed-forward W_F can store the global bigrams. One trigger, and rare "
                "triggers, are largely solved by counting: read their accuracy beside the counting rules."
            ),
        ),
        ("global-first", "feedforward-memory", "data-accuracy", "data-recalls", "shift"),
    ),
    (
        "depth-study",
        say("One layer and two"),
        (say("The full transformer of the paper, with feed-forward, layer norm, four heads and learned positions."),),
        ("depth",),
    ),
    (
        "width-study",
        say("The head built by hand"),
        (say("No training at all: the three sums of outer products are written into the weights."),),
        ("construction",),
    ),
    (
        "theory",
        say("The theory, run"),
        (
            say(
                "Gradients of a memory are themselves sums of outer products, so single steps can be followed exactly. Step sizes "
                "are normalised; the step on W_K¹ is taken in the linear range of layer 2."
            ),
        ),
        ("three-steps-restricted", "three-steps-unrestricted", "position-profile"),
    ),
)  # fmt: skip


def sections(evidence: Evidence, figures: Mapping[str, Figure]) -> list[Section]:
    """One section per study that was run; figures in the order of their arguments."""
    found: list[Section] = []
    for key, title, paragraphs, names in PLANS:
        shown = tuple(figures[name] for name in names if name in figures)
        tables = _tables(key, evidence)
        if shown or tables:
            found.append(Section(key, title, paragraphs, shown, tables))
    return found


def _tables(section: str, evidence: Evidence) -> tuple[Table, ...]:
    match section:
        case "formation-study" if "attention_probes" in evidence:
            probes = evidence["attention_probes"]
            rows = tuple((str(probe), str(probes.interval(probe=probe))) for probe in probes.coords["probe"])
            columns = (say("probe"), say("share, with 95 % interval"))
            caption = say(
                "The first row counts every position after a trigger, also late ones, for which W_K¹ is hardly formed; the "
                "second counts the positions that layer 2 really looks at, which are the ones that decide the prediction."
            )
            return (Table("attention-probes", say("Where the trained model looks"), columns, rows, caption),)
        case "theory" if "lemmas" in evidence:
            lemmas = evidence["lemmas"]
            rows = tuple((str(q), str(lemmas.interval(quantity=q))) for q in lemmas.coords["quantity"])
            return (Table("lemmas", say("The lemmas in numbers"), (say("quantity"), say("value")), rows),)
        case _:
            return ()


def limits() -> list[Text]:
    """What this report does not show."""
    return [
        say(
            "Batches of 64 sequences where the paper takes 512, unless the scale is paper: curves are noisier and steps count for less."
        ),
        say("Three seeds at laptop scale: intervals are wide, and a difference within them is no difference."),
        say(
            "The paper's appendix could not be read: hyper-parameters per figure are the official code's defaults or stated choices."
        ),
        say("A quarter of in-context tokens repeat their trigger; accuracy without them is reported beside."),
        say("Attention maps show where a head looks, which does not by itself explain what the model computes."),
        say("One world with 65 characters: nothing here speaks about natural text or large models."),
    ]
