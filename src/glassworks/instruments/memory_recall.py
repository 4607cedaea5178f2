"""Memory recall: how much of an induction head's memories the weights of a two-layer model hold.

Bietti et al. 2023 (birth.md 4). For a target memory the recall is the share of stored pairs whose right
answer has the highest score. Here no weight is named: the layers' own attention modules are asked about
single vectors (`anatomy.replay`), so the probes work on any two-layer attention model; several heads are
summed, as if concatenated.

    W_O^2  items k: all tokens       candidates j: all tokens      w_U(j)^T W_O^2 W_V^2 w_E(k)   right: j = k
    W_K^1  items t: positions 2..T   candidates s: 1..T-1          p_t^T W_K^1 p_s               right: s =
    t-1 W_K^2  items k: triggers or all  candidates j: the same set    w_E(k)^T W_K^2 w_1(j)         right: j
    = k W_F    all tokens but the fixed triggers: mean KL( pi_b(.|k) || softmax(W_U W_F w_E(k)) ) in nats

with w_1(k) = W_O^1 W_V^1 w_E(k). The code that the paper's authors published takes the candidates of W_K^1
from all positions, also later ones; `w_k1_causal` takes those that attention can see (s <= t).
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from glassworks.anatomy.capture import Activations
from glassworks.anatomy.places import Anatomy, layer_count
from glassworks.anatomy.replay import (
    feedforward_output,
    position_vectors,
    probe_mixer,
    token_vectors,
    unembedding_vectors,
)
from glassworks.anatomy.sites import Site
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import Interval
from glassworks.figures import Axes, ColourScale, Dot, Figure, Heading, Matrix, dots, heatmap
from glassworks.instruments.base import Instrument
from glassworks.tasks.bigram import Bigram

FIRST = 64  # positions of the published short probe
MEMORIES = (
    "w_o2",
    "w_k1",
    "w_k1_causal",
    "w_k1_first_64",
    "w_k1_first_64_causal",
    "w_k2",
    "w_k2_weighted",
    "w_f_kl",
)


@dataclass(frozen=True, eq=False)
class BigramWorld:
    """The laws that the memories are compared with.

    `triggers` are the fixed ones, None where each sequence draws its own.
    """

    unigram: Float[Tensor, " vocabulary"]
    bigram: Float[Tensor, "vocabulary vocabulary"]
    triggers: tuple[int, ...] | None = None

    @classmethod
    def of(cls, subject: Subject) -> "BigramWorld":
        """The world that the subject was trained on; raises InvalidInput where it is not a bigram world."""
        task = subject.world
        if not isinstance(task, Bigram):
            raise InvalidInput(
                say("memory recall needs the bigram world that the model was trained on"),
                given="-" if task is None else task.kind,
                right=say("a model trained by the birth experiment, or recall(subject, world)"),
            )
        return cls.from_task(task)

    @classmethod
    def from_task(cls, task: Bigram) -> "BigramWorld":
        """The laws of a task."""
        laws = task.counts
        return cls(torch.as_tensor(laws.unigram_law), torch.as_tensor(laws.bigram_law), task.fixed_triggers)


@dataclass(frozen=True, eq=False)
class Memories:
    """The score matrices behind the recalls, rows ask and columns answer.

    None where the model has no such memory.
    """

    output: Float[Tensor, "token token"]
    previous: Float[Tensor, "position position"] | None
    matching: Float[Tensor, "token token"]
    bigram_logits: Float[Tensor, "token token"] | None


def memories(subject: Subject, positions: int | None = None, *, through_norm: bool = False) -> Memories:
    """The score matrices of a model with two attention layers.

    `positions` (T) defaults to the model's context.
    """
    if subject.anatomy.depth != 2 or any(layer.mixer is None for layer in subject.anatomy.layers):
        raise InvalidInput(
            say("memory recall is defined for two attention layers"),
            given=layer_count(subject.anatomy.depth),
        )
    tokens = token_vectors(subject)
    vocabulary = len(tokens)
    places = _places_or_none(subject, positions)
    asked = tokens if places is None else torch.cat([tokens, places])
    first = probe_mixer(subject, 0, asked, through_norm=through_norm)
    written = first.output[:vocabulary]
    second = probe_mixer(subject, 1, torch.cat([tokens, written]), through_norm=through_norm)
    here = slice(vocabulary, None)
    unembedding = unembedding_vectors(subject)
    return Memories(
        output=second.output[:vocabulary] @ unembedding.t(),
        previous=None if places is None else first.scores(here, here).sum(0),
        matching=second.scores(slice(0, vocabulary), here).sum(0),
        bigram_logits=_bigram_logits(subject, tokens, unembedding, through_norm),
    )


def recall(
    subject: Subject, world: BigramWorld, positions: int | None = None, *, through_norm: bool = False
) -> dict[str, float]:
    """Every probe of the sheet by name (`MEMORIES`), NaN where the model has no such memory.

    A few milliseconds.
    """
    return recall_of(memories(subject, positions, through_norm=through_norm), world)


def recall_of(found: Memories, world: BigramWorld) -> dict[str, float]:
    """The probes from score matrices: shares between 0 and 1, `w_f_kl` in nats."""
    if len(world.unigram) != len(found.output):
        raise InvalidInput(
            say("the world and the model differ in their vocabulary"),
            given=say("{world} characters, {model} tokens", world=len(world.unigram), model=len(found.output)),
        )
    asked = list(range(len(found.output))) if world.triggers is None else list(world.triggers)
    matched = _hits(found.matching[asked][:, asked], torch.arange(len(asked)))
    weights = world.unigram.to(matched)[asked]
    values = {
        "w_o2": float(_hits(found.output, torch.arange(len(found.output))).mean()),
        "w_k2": float(matched.mean()),
        "w_k2_weighted": float((matched * weights).sum() / weights.sum()),
        "w_f_kl": math.nan if found.bigram_logits is None else _divergence(found.bigram_logits, world),
    }
    for name, count in (("w_k1", None), ("w_k1_first_64", FIRST)):
        for suffix, causal in (("", False), ("_causal", True)):
            values[name + suffix] = (
                math.nan if found.previous is None else _previous_recall(found.previous, count, causal)
            )
    return {name: values[name] for name in MEMORIES}


def chance_of(world: BigramWorld, vocabulary: int, positions: int) -> dict[str, float]:
    """What each probe gives for scores without information.

    For `w_f_kl` the divergence from the uniform law.
    """
    asked = vocabulary if world.triggers is None else len(world.triggers)
    levels = {"w_o2": 1 / vocabulary, "w_k2": 1 / asked, "w_k2_weighted": 1 / asked}
    levels["w_f_kl"] = _divergence(torch.zeros(vocabulary, vocabulary), world)
    for name, count in (("w_k1", positions), ("w_k1_first_64", min(FIRST, positions))):
        levels[name] = 1 / (count - 1)
        # Item t (from 2) may answer 1..t, but the last position is no candidate.
        levels[f"{name}_causal"] = sum(1 / min(t, count - 1) for t in range(2, count + 1)) / (count - 1)
    return {name: levels[name] for name in MEMORIES}


class MemoryRecall(Instrument):
    """How much of each memory of an induction head the weights hold, beside what chance would give."""

    kind: Literal["memory_recall"] = "memory_recall"
    positions: int | None = Field(default=None, ge=3)
    """Positions that W_K^1 is asked about (T); the model's context when empty."""
    through_norm: bool = False
    """Whether vectors pass the layer's norm first; the published probes leave it out."""

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """None: the weights are asked, not a text."""
        return ()

    def read(self, subject: Subject, batch: TokenBatch, activations: Activations | None = None) -> Measurement:
        """Recall and chance of each memory; needs a subject whose `world` is the bigram world."""
        return self.of(subject, BigramWorld.of(subject))

    def of(self, subject: Subject, world: BigramWorld) -> Measurement:
        """The same for a world given by hand."""
        found = memories(subject, self.positions, through_norm=self.through_norm)
        count = subject.anatomy.context or FIRST if found.previous is None else len(found.previous)
        values = recall_of(found, world)
        level = chance_of(world, len(found.output), count)
        return Measurement(
            name="memory_recall",
            says=say("share of the pairs of a memory whose right answer scores highest"),
            values=np.asarray([[values[name], level[name]] for name in MEMORIES]),
            dims=("memory", "quantity"),
            coords={"memory": MEMORIES, "quantity": ("value", "chance")},
            unit="share; w_f_kl in nats",
            caveats=_caveats(subject, self.through_norm),
            columns={
                "memory": "weight matrix; see the glossary of memories",
                "quantity": "the recall, and that of scores without information",
            },
        )

    def draw(self, measurement: Measurement) -> Figure:
        """Recall beside chance; the divergence of W_F stands in the table only."""
        rows: list[Dot] = []
        for name, (value, chance) in zip(measurement.coords["memory"], measurement.values, strict=True):
            if name == "w_f_kl" or np.isnan(value):
                continue
            label = say("{memory}, chance {chance}", memory=memory_name(str(name)), chance=f"{chance:.3f}")
            rows.append(Dot(label, Interval(float(value), math.nan, math.nan, 0)))
        heading = Heading(
            "memory-recall",
            say("What the weights remember"),
            say("For each memory of an induction head: the share of pairs whose right answer scores highest."),
        )
        return dots(heading, rows, Axes(say("recall"), "", x_range=(0.0, 1.02)))


class MemoryMatrix(Instrument):
    """The full score matrix of one memory: a bright diagonal is a memory learned."""

    kind: Literal["memory_matrix"] = "memory_matrix"
    memory: Literal["w_o2", "w_k1", "w_k2"] = "w_k1"
    """Which memory is shown."""
    positions: int | None = Field(default=FIRST, ge=3)
    """Positions that W_K^1 is asked about; the model's context when empty."""
    through_norm: bool = False
    """Whether vectors pass the layer's norm first."""

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """None: the weights are asked, not a text."""
        return ()

    def read(self, subject: Subject, batch: TokenBatch, activations: Activations | None = None) -> Measurement:
        """Scores: rows ask, columns answer."""
        found = memories(subject, self.positions, through_norm=self.through_norm)
        scores = {"w_o2": found.output, "w_k1": found.previous, "w_k2": found.matching}[self.memory]
        if scores is None:
            raise InvalidInput(say("this model adds no position vectors to its tokens"))
        if self.memory == "w_k1":
            names: tuple[int | str, ...] = tuple(range(len(scores)))
        else:
            names = tuple(f"{token} {label}" for token, label in enumerate(subject.labels(range(len(scores)))))
        return Measurement(
            name=f"memory_matrix_{self.memory}",
            says=say("score of every answer (column) to every question (row) of a memory"),
            values=scores.double().cpu().numpy(),
            dims=("asks", "answers"),
            coords={"asks": names, "answers": names},
            unit="score",
            caveats=_caveats(subject, self.through_norm),
        )

    def draw(self, measurement: Measurement) -> Figure:
        """A heat map, centred at zero."""
        labels = measurement.coords["asks"]
        shown = (
            tuple(str(label) for label in labels)
            if self.memory == "w_k1"
            else tuple(str(x).partition(" ")[2] for x in labels)
        )
        asks, answers = _axis_names(self.memory)
        heading = Heading(
            f"memory-{self.memory.replace('_', '-')}",
            say("The memory {memory}", memory=memory_name(self.memory)),
            say("Score of every answer to every question; what is remembered stands out in its row."),
        )
        matrix = Matrix(measurement.values, shown, shown, asks, answers)
        return heatmap(heading, matrix, ColourScale(say("score"), kind="diverging"))


def memory_name(memory: str) -> Text:
    """The name of a memory for people."""
    match memory:
        case "w_o2":
            return say("W_O, layer 1: copy")
        case "w_k1":
            return say("W_K, layer 0: previous position")
        case "w_k1_causal":
            return say("W_K, layer 0: previous, visible only")
        case "w_k1_first_64":
            return say("W_K, layer 0: previous, first 64")
        case "w_k1_first_64_causal":
            return say("W_K, layer 0: previous, visible, first 64")
        case "w_k2":
            return say("W_K, layer 1: match the token before")
        case "w_k2_weighted":
            return say("W_K, layer 1: match, by frequency")
        case _:
            return say("W_F: bigram law (nats)")


def _axis_names(memory: str) -> tuple[Text, Text]:
    match memory:
        case "w_k1":
            return say("position that asks"), say("position that answers")
        case "w_k2":
            return say("token that asks"), say("token before the key")
        case _:
            return say("token attended to"), say("token said")


def _places_or_none(subject: Subject, positions: int | None) -> Tensor | None:
    count = positions or subject.anatomy.context
    if count is None:
        return None
    try:
        return position_vectors(subject, count)
    except InvalidInput:
        if positions is not None and subject.anatomy.context is not None and positions > subject.anatomy.context:
            raise
        return None


def _bigram_logits(subject: Subject, tokens: Tensor, unembedding: Tensor, through_norm: bool) -> Tensor | None:
    if len(subject.anatomy.layers[-1].feedforward) != 1:
        return None
    last = subject.anatomy.depth - 1
    return feedforward_output(subject, last, tokens, through_norm=through_norm) @ unembedding.t()


def _hits(scores: Float[Tensor, "asks answers"], right: Tensor) -> Float[Tensor, " asks"]:
    return (scores.argmax(1) == right.to(scores.device)).double()


def _previous_recall(scores: Float[Tensor, "position position"], count: int | None, causal: bool) -> float:
    count = len(scores) if count is None else min(count, len(scores))
    # Rows t = 2..T (from 1), columns s = 1..T-1; the right answer to row t is s = t-1.
    part = scores[1:count, : count - 1]
    if causal:
        part = part.masked_fill(torch.ones_like(part, dtype=torch.bool).triu(2), -math.inf)
    return float(_hits(part, torch.arange(count - 1)).mean())


def _divergence(logits: Float[Tensor, "token token"], world: BigramWorld) -> float:
    """Mean over tokens (fixed triggers left out) of KL(pi_b || softmax), the finite direction."""
    # The law has exact zeros, so the divergence the other way round would be infinite.
    law = world.bigram.to(logits.device).double()
    logs = torch.log_softmax(logits.double(), -1)
    terms = torch.where(law > 0, law * (law.clamp_min(1e-300).log() - logs), torch.zeros_like(law)).sum(-1)
    kept = [token for token in range(len(terms)) if token not in (world.triggers or ())]
    return float(terms[kept].mean())


def _caveats(subject: Subject, through_norm: bool) -> tuple[Text, ...]:
    layers = subject.anatomy.layers
    caveats: list[Text] = []
    if any(layer.heads > 1 for layer in layers):
        caveats.append(say("Several heads are summed as if they were one: a rough hint only."))
    if not through_norm and any(layer.mixer_norm for layer in layers):
        caveats.append(say("The model has norms that these probes leave out: a rough hint only."))
    return tuple(caveats)
