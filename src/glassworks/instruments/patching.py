"""Activation patching, or causal tracing: which single activation brings a clean answer back into a corrupted run.

Meng et al. 2022 (noise on the embeddings, ROME), Wang et al. 2022 (two prompts), Zhang and Nanda 2024 (how to
choose). The corrupted run is repeated once for each place with the activation of the clean run put there. Recovery
is 0 where the answer stays as in the corrupted run and 1 where it is that of the clean one; beyond both is possible.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from glassworks.anatomy.capture import Activations
from glassworks.anatomy.places import Anatomy
from glassworks.anatomy.replay import token_vectors
from glassworks.anatomy.sites import Site
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch, token_count
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import interval_over_seeds
from glassworks.figures import ColourScale, Figure, Heading, Matrix, heatmap
from glassworks.instruments.base import Instrument, Stack, numbered, unnumbered
from glassworks.instruments.replacing import (
    MOST_NUMBERS,
    Replacement,
    Row,
    part_words,
    replaced_logits,
    sequences_of,
    sites_of,
)
from glassworks.instruments.writers import check_head, column_of, token_id
from glassworks.tensors.seeds import Seed

Where = Literal["stream", "attention", "cross", "feedforward", "heads"]
Metric = Literal["logit_difference", "probability", "kl"]
PARTS: dict[Where, str] = {
    "stream": "out", "attention": "mixer.out", "cross": "cross.out", "feedforward": "feedforward.out", "heads": "mixer.z"
}  # fmt: skip
QUANTITIES = ("recovery", "low", "high", "metric", "count")
# A corruption that moves the metric by less than this changes nothing that could be recovered.
SMALLEST = 1e-6
EMBEDDED = "embed"


class Patching(Instrument):
    """Puts clean activations into a corrupted run, one at a time, and reads how much of the answer comes back.

    The clean prompts are the sequences of the batch. Corrupted are, in this order of preference: `corrupted`;
    the second half of a batch of two or more; the first prompt with noise on its token embeddings.
    """

    kind: Literal["patching"] = "patching"
    where: Where = "stream"
    """stream, attention, cross (to the source), feedforward: layer by position; heads: layer by head, everywhere."""
    stack: Stack = ""
    """encoder: patches the encoder of an encoder-decoder, whose positions are those of the source."""
    corrupted: str | tuple[int, ...] | None = None
    """The corrupted prompt (or source), of as many tokens as the clean one."""
    noise: tuple[int, ...] | None = None
    """Positions whose embedding gets noise (in the source, where there is one); all but the first when empty."""
    sigma: float = Field(default=3.0, gt=0)
    """Size of the noise in standard deviations of all token embeddings."""
    samples: int = Field(default=3, ge=1)
    """How many draws of noise; the interval is over them."""
    metric: Metric = "logit_difference"
    """logit_difference (answer minus against), probability (of the answer), or kl (clean to patched)."""
    answer: int | str | None = None
    """The clean answer, by id or text; what the model puts first in the clean run when empty."""
    against: int | str | None = None
    """The other answer; what it puts first in the corrupted run when empty (with noise, second in the clean one)."""
    position: int = -1
    """Where the answer is read."""
    seed: int = 0
    """Which noise."""

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """What is patched, in every layer that has it, and the embedding, which noise is added to."""
        early = (Site("in", 0, stack=self.stack),) if self.where == "stream" else ()
        return (_embedding(anatomy), *early, *sites_of(PARTS[self.where], anatomy, self.stack))

    def read(self, subject: Subject, batch: TokenBatch, activations: Activations | None = None) -> Measurement:
        """Recovery with its interval over noise draws or pairs, and the metric, by layer and position or head."""
        check_head(subject)
        found = self._captured(subject, batch, activations)
        sites = self.sites(subject.anatomy)[1:]
        cases = [_Case.of(subject, self, found, corruption) for corruption in self._corruptions(subject, batch, found)]
        return self._measured(cases, sites, np.stack([case.patched(sites) for case in cases]))

    def draw(self, measurement: Measurement) -> Figure:
        """Layers down, positions or heads across; 0 is the corrupted run, 1 the clean one."""
        layers, across = measurement.coords["layer"], measurement.coords[measurement.dims[1]]
        by_head = measurement.dims[1] == "head"
        names = tuple(f"H{head}" for head in across) if by_head else unnumbered(across)
        matrix = Matrix(
            measurement.at(quantity="recovery").values[::-1],
            tuple(say("embedding") if layer == EMBEDDED else f"L{layer}" for layer in layers[::-1]),
            names,
            row_title=say("layer"),
            column_title=say("head") if by_head else say("position"),
        )
        heading = Heading(
            "patching",
            say("What brings the answer back"),
            say(
                "{measured}. Recovery: 0 as corrupted, 1 as clean. Layer 0 is at the bottom.", measured=measurement.says
            ),
        )
        scale = ColourScale(say("recovery"), "diverging", format="z.2f")
        return heatmap(heading, matrix, scale, numbers=matrix.values.size <= MOST_NUMBERS)

    def _corruptions(self, subject: Subject, batch: TokenBatch, found: Activations) -> list["_Corruption"]:
        """For each clean sequence a prompt of the same length, or several draws of noise for the first."""
        count = batch.ids.shape[0]
        if self.corrupted is not None:
            given = subject.batch(self.corrupted if isinstance(self.corrupted, str) else list(self.corrupted))
            # What the decoder of an encoder-decoder reads stays.
            whole = given if batch.source is None else replace(sequences_of(batch, [0]), source=given.source)
            return [_Corruption(0, _matching(batch, 0, whole))]
        if self.noise is None and count > 1:
            if count % 2:
                raise InvalidInput(
                    say("pairs of prompts need an even number of them"),
                    given=count,
                    right=say("first all clean prompts, then the corrupted one of each"),
                )
            half = count // 2
            return [_Corruption(i, _matching(batch, i, sequences_of(batch, [half + i]))) for i in range(half)]
        read, site = batch.read_by_encoder, _embedding(subject.anatomy)
        real: list[int] = read.real[0].nonzero()[:, 0].tolist()
        noisy = real[1:] or real if self.noise is None else [column_of(read, 0, position) for position in self.noise]
        size = self.sigma * float(token_vectors(subject).float().std())
        embedded, clean = found[site.name][0], sequences_of(batch, [0])
        draws = (Seed(self.seed).child("noise", draw).generator() for draw in range(self.samples))
        return [_Corruption(0, clean, (Replacement(site, (), _noisy(embedded, noisy, size, draw)),)) for draw in draws]

    def _measured(self, cases: Sequence["_Case"], sites: Sequence[Site], metrics: np.ndarray) -> Measurement:
        """The table: recovery of each case, averaged with its interval."""
        ends = np.array([(case.clean_metric, case.corrupted_metric) for case in cases])
        clean, corrupted = (ends[:, column, None, None] for column in (0, 1))
        if float(np.abs(clean - corrupted).min()) < SMALLEST:
            raise InvalidInput(
                say("the corruption does not change the metric, so there is nothing to recover"),
                given=say(
                    "{clean} clean, {corrupted} corrupted", clean=f"{ends[0, 0]:.4g}", corrupted=f"{ends[0, 1]:.4g}"
                ),
                right=say("another corrupted prompt, more noise, or other answers"),
            )
        recovery = (metrics - corrupted) / (clean - corrupted)
        values = np.full((*metrics.shape[1:], len(QUANTITIES)), math.nan)
        for place in np.ndindex(metrics.shape[1:]):
            interval = interval_over_seeds(recovery[(slice(None), *place)])
            mean = float(metrics[(slice(None), *place)].mean())
            values[place] = (interval.mean, interval.low, interval.high, mean, interval.count)
        across = "head" if self.where == "heads" else "position"
        alone = say("One pair of prompts or one draw of noise, so no interval is known.")
        return Measurement(
            name=self.kind,
            says=self._says(cases[0].words, ends),
            values=values,
            dims=("layer", across, "quantity"),
            coords={
                "layer": tuple(EMBEDDED if site.part == "in" else site.layer or 0 for site in sites),
                across: tuple(range(metrics.shape[2])) if across == "head" else cases[0].names,
                "quantity": QUANTITIES,
            },
            unit="share recovered",
            caveats=(
                say("Patching shows what is enough to bring the answer back here, not what is needed."),
                *([alone] if len(cases) == 1 else []),
            ),
            columns={"quantity": "recovery with its 95 % interval over noise draws or pairs, the metric, their count"},
        )  # fmt: skip

    def _says(self, words: tuple[str, str], ends: np.ndarray) -> Text:
        """What was patched and what was read, with the metric of the clean and of the corrupted run."""
        facts = {
            "part": part_words(self.where), "clean": f"{ends[:, 0].mean():.3g}", "corrupted": f"{ends[:, 1].mean():.3g}"
        }  # fmt: skip
        match self.metric:
            case "logit_difference":
                return say(
                    "Patched: {part}. Logit of “{answer}” minus logit of “{against}”: {clean} clean, {corrupted} corrupted",
                    answer=words[0], against=words[1], **facts,
                )  # fmt: skip
            case "probability":
                return say(
                    "Patched: {part}. Probability of “{answer}”: {clean} clean, {corrupted} corrupted",
                    answer=words[0],
                    **facts,
                )
            case "kl":
                return say(
                    "Patched: {part}. Divergence from the clean prediction in nats: {clean} clean, {corrupted} corrupted",
                    **facts,
                )


@dataclass(frozen=True, eq=False)
class _Corruption:
    """What is made of one clean sequence: other tokens, or the same with something replaced."""

    sequence: int
    tokens: TokenBatch
    changes: tuple[Replacement, ...] = ()


@dataclass(frozen=True, eq=False)
class _Case:
    """One clean run and its corruption, with the answers and the metric of both ends."""

    subject: Subject
    look: Patching
    found: Activations
    corruption: _Corruption
    column: int
    answers: tuple[int, int]
    clean_metric: float
    corrupted_metric: float

    @classmethod
    def of(cls, subject: Subject, look: Patching, found: Activations, corruption: _Corruption) -> "_Case":
        """Chooses the answers where they were not named, and measures both ends."""
        column = column_of(found.batch, corruption.sequence, look.position)
        clean = _clean_logits(found, corruption.sequence, column)
        row = Row(0, corruption.changes)
        broken = next(replaced_logits(subject, corruption.tokens, [row]))[column].double().cpu()
        answer = int(clean.argmax()) if look.answer is None else token_id(subject, look.answer)
        # Noise has no answer of its own, and each draw would give another.
        likely = [*([] if corruption.changes else [int(broken.argmax())]), *clean.topk(2).indices.tolist()]
        other = next(token for token in likely if token != answer)
        answers = (answer, other if look.against is None else token_id(subject, look.against))
        ends = [metric_of(look.metric, logits, clean, answers) for logits in (clean, broken)]
        return cls(subject, look, found, corruption, column, answers, *ends)

    @property
    def words(self) -> tuple[str, str]:
        """The two answers as text."""
        first, second = (self.subject.labels([answer])[0] for answer in self.answers)
        return first, second

    @property
    def names(self) -> tuple[str, ...]:
        """The clean tokens with their positions."""
        batch = self.found.batch.read_by_encoder if self.look.stack else self.found.batch
        ids = batch.ids[self.corruption.sequence].tolist()
        return numbered(batch.labels if self.corruption.sequence == 0 else self.subject.labels(ids))

    def patched(self, sites: Sequence[Site]) -> Float[np.ndarray, "layer place"]:
        """The metric with each single activation put back; NaN where a layer has fewer heads than another."""
        asked: list[tuple[int, int]] = []
        rows: list[Row] = []
        for layer, site in enumerate(sites):
            tensor = self.found[site.name][self.corruption.sequence]
            for place in range(tensor.shape[1 if self.look.where == "heads" else 0]):
                index = (slice(None), place) if self.look.where == "heads" else (place,)
                asked.append((layer, place))
                rows.append(Row(0, (*self.corruption.changes, Replacement(site, index, tensor[index]))))
        values = np.full((len(sites), 1 + max(place for _, place in asked)), math.nan)
        clean = _clean_logits(self.found, self.corruption.sequence, self.column)
        for place, logits in zip(asked, replaced_logits(self.subject, self.corruption.tokens, rows), strict=True):
            values[place] = metric_of(self.look.metric, logits[self.column].double().cpu(), clean, self.answers)
        return values


def _clean_logits(found: Activations, sequence: int, column: int) -> Float[Tensor, " vocabulary"]:
    assert found.logits is not None, "the pass went to its end"
    return found.logits[sequence, column].double().cpu()


def metric_of(
    metric: Metric, logits: Float[Tensor, " vocabulary"], clean: Float[Tensor, " vocabulary"], answers: tuple[int, int]
) -> float:
    """The metric at one place; `kl` is the divergence of these logits' prediction from the clean one, in nats."""
    match metric:
        case "logit_difference":
            return float(logits[answers[0]] - logits[answers[1]])
        case "probability":
            return float(logits.softmax(-1)[answers[0]])
        case "kl":
            logs = clean.log_softmax(-1)
            return float((logs.exp() * (logs - logits.log_softmax(-1))).sum())


def _embedding(anatomy: Anatomy) -> Site:
    """Where noise is added: to what the encoder reads, where there is one."""
    return Site(EMBEDDED, stack="encoder" if anatomy.encoder is not None else "")


def _noisy(embedded: Tensor, columns: list[int], size: float, generator: torch.Generator) -> Tensor:
    """The embeddings with normal noise at some positions, drawn on the CPU so that every device has the same."""
    drawn = torch.randn(len(columns), embedded.shape[-1], generator=generator) * size
    shaken = embedded.clone()
    shaken[columns] += drawn.to(shaken)
    return shaken


def _matching(batch: TokenBatch, sequence: int, corrupted: TokenBatch) -> TokenBatch:
    """The corrupted prompt, if its tokens stand where those of the clean one do; InvalidInput otherwise."""
    real, other = batch.read_by_encoder.real[sequence], corrupted.read_by_encoder.real[0]
    if len(corrupted.ids) == 1 and real.shape == other.shape and torch.equal(real, other):
        return corrupted
    raise InvalidInput(
        say("clean and corrupted prompt need equally many tokens"),
        given=say("{clean} and {corrupted}", clean=token_count(int(real.sum())), corrupted=token_count(int(other.sum()))),
        right=say("prompts that differ word for word, or noise: leave out the corrupted prompt"),
    )  # fmt: skip
