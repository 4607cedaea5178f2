"""What the report of the mesa study says in words and tables: summary, one section for each study, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence, Outcome, Verdict, judge
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.mesa.claims import CLAIMS
from glassworks.experiments.mesa.names import called
from glassworks.experiments.telling import summary_of, told
from glassworks.figures import Figure
from glassworks.report.page import Section, SummaryLine, Table

if TYPE_CHECKING:
    from glassworks.experiments.mesa.spec import MesaOptimization


@dataclass(frozen=True)
class Part:
    """A section of the report: its words, the claims judged there, its figures and the losses it tabulates."""

    key: str
    title: Text
    paragraphs: tuple[Text, ...]
    claims: tuple[str, ...]
    figures: tuple[str, ...]
    losses: str = ""


PARTS: tuple[Part, ...] = (
    Part(
        "one-layer-study",
        say("One layer, one step"),
        (
            say(
                "Every sequence has a law of its own: the next state is a rotation of the present one, plus a little noise. "
                "Nobody can predict it without having learned that rotation from the states seen so far. A network whose "
                "weights are fixed can do so only by running a learning algorithm inside its forward pass."
            ),
            say(
                "A single linear attention layer, trained on tokens that hold the present and the previous state, learns one step of "
                "gradient descent on the squared error of all pairs so far. The mesa layer solves that regression at once."
            ),
        ),
        ("one-step", "coefficients", "compress-one", "by-hand", "mesa-is-ridge", "interpolation"),
        ("one-layer-training", "one-layer-loss", "coefficients", "blocks", "one-layer-interpolation"),
        "one_layer_loss",
    ),
    Part(
        "deep-study",
        say("Many layers prepare the input, then take one step"),
        (
            say(
                "Stacked gradient steps would mix predictions made at different times. Theory proposes instead that the first "
                "layers multiply the present state by the inverse of the covariance of past states, step by step, and that the "
                "last one takes a single gradient step, which then is the least-squares solution."
            ),
            say(
                "The published solvers that networks are compared with use each pair one position later than the networks do. "
                "Both forms are shown; the one with all pairs is the fair one."
            ),
        ),
        (
            "mesa-beats",
            "compress-deep",
            "steps-as-layers",
            "steps-all-pairs",
            "target-probe",
            "precondition-probe",
            "inverse-probe",
        ),
        ("deep-loss", "against-solvers", "deep-interpolation", "deep-probes", "deep-probe-next"),
        "deep_loss",
    ),
    Part(
        "softmax-study",
        say("Softmax layers on raw tokens"),
        (
            say(
                "Here a token is one state; the network has to bring neighbours together itself before it can learn from pairs."
            ),
        ),
        ("hybrid",),
        ("softmax-loss", "softmax-probes", "softmax-probe-next"),
        "softmax_loss",
    ),
    Part(
        "binding-study",
        say("The first layer binds neighbours"),
        (
            say(
                "What the first layer has copied into each position, where it looks, and when in training this appears."
            ),
        ),
        ("binding", "binding-attention", "binding-partial", "sensitivity"),
        ("binding-decode", "binding-maps", "binding-sensitivity"),
    ),
    Part(
        "linearise-study",
        say("Softmax layers that act as linear ones"),
        (say("One layer at a time is replaced by a linear attention layer fitted to its inputs and outputs."),),
        ("linearise", "dimension"),
        ("linearise", "kernels"),
    ),
    Part(
        "partial-study",
        say("Worlds seen in part, and nonlinear worlds"),
        (
            say(
                "Where only five mixtures of fifteen numbers are seen, the last three or more observations together determine the "
                "next. Where the law is nonlinear, regression has to act on features that the network must find first."
            ),
        ),
        (),
        ("partial-loss", "nonlinear-loss"),
        "partial_loss",
    ),
    Part(
        "few-shot-study",
        say("Few-shot prompts"),
        (
            say(
                "The same models are shown pairs of inputs and labels of an unknown map. To them the step from a label to the "
                "next input is a transition like any other, and it misleads them: with few pairs the loss rises."
            ),
        ),
        ("few-shot", "early-ascent", "separator-zero", "two-tasks", "not-regression"),
        ("few-shot", "two-tasks"),
    ),
    Part(
        "control-study",
        say("Two controls"),
        (
            say(
                "In a contracting world states die away and there is less to learn from. Under a fixed teacher every sequence "
                "has the same law, which the weights can hold: then no learning algorithm should appear."
            ),
        ),
        ("contracting", "fixed-teacher"),
        ("contracting-loss", "fixed-teacher-loss", "fixed-teacher-probe"),
        "fixed_teacher_loss",
    ),
    Part(
        "language-study",
        say("Text"),
        (
            say(
                "Two-layer decoders of bytes that differ in their second layer alone. Nothing here says how the mixers compare in "
                "large models; the published runs are a thousand times longer and exist as curves only."
            ),
        ),
        ("language-order", "language-context", "language-softmax", "copy-heads"),
        ("language-loss", "language-position", "copy-heads"),
    ),
)
# The section that shows what a claim is about.
ANCHORS = {f"mesa.{claim}": part.key for part in PARTS for claim in part.claims}
# What a reader should know first.
HEADLINES = tuple(
    f"mesa.{key}"
    for key in (
        "one-step",
        "coefficients",
        "mesa-beats",
        "steps-as-layers",
        "target-probe",
        "binding",
        "early-ascent",
        "language-order",
    )
)


def summary(evidence: Evidence) -> list[SummaryLine]:
    """How many claims hold, the headlines, and every claim that fails."""
    return summary_of(CLAIMS, evidence, HEADLINES, ANCHORS)


def sections(evidence: Evidence, figures: Mapping[str, Figure]) -> list[Section]:
    """One section a study, as far as it was run: what it is about, its verdicts, figures and losses."""
    verdicts = {verdict.claim: verdict for verdict in judge(CLAIMS, evidence)}
    return [section for part in PARTS if (section := _section(part, evidence, figures, verdicts)) is not None]


def _section(
    part: Part, evidence: Evidence, figures: Mapping[str, Figure], verdicts: Mapping[str, Verdict]
) -> Section | None:
    shown = tuple(figures[name] for name in part.figures if name in figures)
    if not shown:
        return None
    found = [verdicts[f"mesa.{claim}"] for claim in part.claims]
    paragraphs = (
        *part.paragraphs,
        *(told(verdict) for verdict in found if verdict.outcome is not Outcome.UNDECIDED),
    )
    tables = (_losses(evidence[part.losses]),) if part.losses in evidence else ()
    return Section(part.key, part.title, paragraphs, shown, tables)


def _losses(losses: Measurement) -> Table:
    """Mean loss of every model and solver, and its loss at the last position."""
    last = losses.coords["position"][-1]
    means = Measurement(
        losses.name, losses.says, losses.values.mean(axis=2), ("model", "seed"),
        {dim: losses.coords[dim] for dim in ("model", "seed")}, losses.unit,
    )  # fmt: skip
    rows = tuple(
        (called(model), str(means.interval(model=model)), str(losses.interval(model=model, position=last)))
        for model in losses.coords["model"]
    )
    columns = (say("model or solver"), say("mean loss"), say("at t = {last}", last=str(last)))
    caption = say("Half squared error on held-out sequences, with 95 % intervals over training seeds.")
    return Table(f"{losses.name}-table", say("Losses in numbers"), columns, rows, caption)


def limits(study: MesaOptimization) -> list[Text]:
    """What this report does not show."""
    return [
        say(
            "Batches of {batch} sequences and at most {steps} steps, where the published runs have 256 and up to 40,000: networks "
            "stop short of their best loss, and comparisons with solvers that are already there are unkind to them.",
            batch=study.batch,
            steps=max(study.deep_steps, study.raw_steps, study.hybrid_steps),
        ),
        say(
            "Intervals are over {count} training seeds and wide; a difference within them is no difference.",
            count=len(study.seeds),
        ),
        say("A probe says what can be read from a layer, not what the network makes of it."),
        say(
            "The networks of the linear worlds have no feed-forward and no norm, as in the released runs; they are no language models."
        ),
        say(
            "The published text and the released runs differ in many settings; the released runs are followed, and the page of this "
            "study in the documentation lists the differences."
        ),
    ]
