"""Ablation: what a model loses when one head, attention, feed-forward or layer is taken away.

Its result is replaced, at every place, by zero, by its mean over the batch, or by its value at another place of the
batch drawn at random (resample), which keeps its statistics and takes only its information. Each row of a pass has
one part taken away, so everything before that part is as in the intact model. A layer is taken away by handing on
what it was given, plus the replacement of what it adds.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.anatomy.capture import Activations
from glassworks.anatomy.places import Anatomy
from glassworks.anatomy.sites import Site
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import Interval
from glassworks.figures import Axes, ColourScale, Dot, Figure, Heading, Matrix, Reference, dots, heatmap
from glassworks.instruments.base import Instrument, Stack, interval_over_texts
from glassworks.instruments.replacing import MOST_NUMBERS, Replacement, Row, part_words, replaced_logits, sites_of
from glassworks.instruments.scoring import divergences, log_probabilities, losses
from glassworks.instruments.writers import check_head
from glassworks.tensors.seeds import Seed

What = Literal["heads", "attention", "cross", "feedforward", "layers"]
Method = Literal["zero", "mean", "resample"]
PARTS: dict[What, str] = {
    "heads": "mixer.z", "attention": "mixer.out", "cross": "cross.out", "feedforward": "feedforward.out", "layers": "out"
}  # fmt: skip
QUANTITIES = ("loss increase", "low", "high", "divergence", "divergence low", "divergence high", "count")


class Ablation(Instrument):
    """Takes each part away in turn: increase of the loss (nats per token) and divergence from the intact model."""

    kind: Literal["ablation"] = "ablation"
    what: What = "heads"
    """heads, attention, cross (the attention of a decoder to its source), feedforward or layers."""
    method: Method = "mean"
    """What stands in its place: zero, its mean over the batch, or (resample) its value at another place of it."""
    stack: Stack = ""
    """encoder: the encoder of an encoder-decoder."""
    seed: int = 0
    """Which other places; only resample draws."""

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """The results of the parts, and for whole layers what they are given."""
        results = sites_of(PARTS[self.what], anatomy, self.stack)
        before = sites_of("in", anatomy, self.stack) if self.what == "layers" else []
        return (*before, *results)

    def read(self, subject: Subject, batch: TokenBatch, activations: Activations | None = None) -> Measurement:
        """Increase and divergence by layer (and head), with 95 % intervals over documents, for one over its tokens."""
        check_head(subject)
        read = batch.read_by_encoder if self.stack else batch
        if self.method != "zero" and int(read.real.sum()) < 2:
            raise InvalidInput(
                say("one token has no other place to take a mean or a sample from"), right=say("two or more, or zero")
            )
        found = self._captured(subject, batch, activations)
        assert found.logits is not None, "the pass went to its end"
        is_causal = subject.anatomy.causal
        logs = log_probabilities(found.logits)
        intact = losses(logs, batch, is_causal)
        sites = sites_of(PARTS[self.what], subject.anatomy, self.stack)
        asked: list[tuple[int, int]] = []
        rows: list[Row] = []
        for place, site in enumerate(sites):
            for part, changes in enumerate(self._taken_away(site, found, read)):
                asked += [(place, part)] * len(changes)
                rows += [Row(sequence, (change,)) for sequence, change in enumerate(changes)]
        heads = 1 + max(part for _, part in asked)
        worse = np.full((len(sites), heads, *intact.shape), math.nan)
        apart = np.full_like(worse, math.nan)
        for place, row, logits in zip(asked, rows, replaced_logits(subject, batch, rows), strict=True):
            own = TokenBatch(batch.ids[[row.sequence]], batch.real[[row.sequence]], batch.labels)
            told = log_probabilities(logits[None])
            worse[(*place, row.sequence)] = (losses(told, own, is_causal) - intact[[row.sequence]])[0]
            apart[(*place, row.sequence)] = divergences(logs[[row.sequence]], told, own)[0]
        return self._measured(sites, worse, apart, is_causal)

    def draw(self, measurement: Measurement) -> Figure:
        """Heads as a matrix of layers by heads, anything else as one line a layer, with intervals."""
        heading = Heading(
            "ablation",
            say("What is lost without each part"),
            say("{measured}: increase of the loss in nats per token.", measured=measurement.says),
        )
        label = say("increase of the loss (nats per token)")
        if "head" in measurement.dims:
            layers = measurement.coords["layer"]
            matrix = Matrix(
                measurement.at(quantity="loss increase").values[::-1],
                tuple(f"L{layer}" for layer in layers[::-1]),
                tuple(f"H{head}" for head in measurement.coords["head"]),
                row_title=say("layer"),
                column_title=say("head"),
            )
            return heatmap(
                heading,
                matrix,
                ColourScale(label, "diverging", format="z.2f"),
                numbers=matrix.values.size <= MOST_NUMBERS,
            )
        rows: list[Dot] = []
        for layer in measurement.coords["layer"]:
            mean, low, high = measurement.at(layer=layer).values[:3]
            # Count 0: the spread is over documents or tokens, not over seeds.
            rows.append(Dot(f"L{layer}", Interval(mean, low, high, 0)))
        return dots(
            heading, rows, Axes(label, say("layer"), references=(Reference(say("nothing lost"), 0.0, "vertical"),))
        )

    def _taken_away(self, site: Site, found: Activations, batch: TokenBatch) -> list[list[Replacement]]:
        """For each part at a site what is put into each sequence instead of it."""
        result = found[site.name]
        given = found[replace(site, part="in").name] if self.what == "layers" else torch.zeros_like(result)
        instead = given + self._instead(result - given, batch)
        places: list[tuple[int | slice, ...]] = [()]
        if self.what == "heads":
            places = [(slice(None), head) for head in range(result.shape[2])]
        return [[Replacement(site, place, sequence[place]) for sequence in instead] for place in places]

    def _instead(self, result: Float[Tensor, "batch position *part"], batch: TokenBatch) -> Tensor:
        """What stands in the place of a result; padding plays no part in a mean and is no source of samples."""
        real = batch.real.to(result.device)
        match self.method:
            case "zero":
                return torch.zeros_like(result)
            case "mean":
                return result[real].mean(0).expand_as(result)
            case "resample":
                new = result.clone()
                new[real] = result[real][_shuffled(int(real.sum()), Seed(self.seed)).to(result.device)]
                return new

    def _measured(
        self,
        sites: Sequence[Site],
        worse: Float[np.ndarray, "layer part batch position"],
        apart: Float[np.ndarray, "layer part batch position"],
        is_causal: bool,
    ) -> Measurement:
        heads = range(worse.shape[1])
        values = np.array([[_summed(worse[i, head], apart[i, head]) for head in heads] for i in range(len(sites))])
        by_head = self.what == "heads"
        alone = say("One document: the interval is over its tokens, which are not independent.")
        seen = say("The model sees the token whose loss is measured, for it looks ahead.")
        return Measurement(
            name=self.kind,
            says=say("Taken away: {part}; put in their place: {method}", part=part_words(self.what), method=_method_words(self.method)),
            values=values if by_head else values[:, 0],
            dims=("layer", "head", "quantity") if by_head else ("layer", "quantity"),
            coords={"layer": tuple(site.layer or 0 for site in sites), "head": tuple(heads), "quantity": QUANTITIES},
            unit="nats per token",
            caveats=(
                say("What one part does alone can be taken over by others once it is gone, so losses do not add up."),
                *([alone] if worse.shape[2] == 1 else []),
                *([] if is_causal else [seen]),
            ),
            columns={"quantity": "increase of the loss and divergence from the intact model, each with its 95 % interval; count averaged"},
        )  # fmt: skip


def _summed(worse: Float[np.ndarray, "batch position"], apart: Float[np.ndarray, "batch position"]) -> list[float]:
    """The quantities of one part taken away."""
    loss, divergence = interval_over_texts(list(worse)), interval_over_texts(list(apart))
    return [loss.mean, loss.low, loss.high, divergence.mean, divergence.low, divergence.high, float(loss.count)]


def _shuffled(count: int, seed: Seed) -> Tensor:
    """A random order in which no number keeps its place (one cycle through all of them)."""
    order = torch.randperm(count, generator=seed.child("resample").generator())
    found = torch.empty_like(order)
    found[order] = order.roll(-1)
    return found


def _method_words(method: Method) -> Text:
    match method:
        case "zero":
            return say("zero")
        case "mean":
            return say("their mean over the text")
        case "resample":
            return say("their value at another place of the text")
