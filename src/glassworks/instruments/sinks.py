"""Attention sinks in the residual stream: which tokens are far longer than the others, which layers make them so.

A token stands out where the length of its residual state is at least 5 times the median length of the other
tokens' ("massive activations", Sun et al. 2024, arXiv 2402.17762); heads park their attention on such tokens (Xiao
et al. 2023). A layer writes a sink where that ratio rises at least 1.5-fold in it and the token stands out
after it; it erases one where the ratio falls as much and the token stood out before. A layer counts when it does so in at
least half of the sequences. Layers that write or erase decide what a cut through the layers breaks.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from pydantic import Field

from glassworks.anatomy.capture import Activations
from glassworks.anatomy.places import Anatomy
from glassworks.anatomy.sites import Site
from glassworks.anatomy.subject import Prompt, Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.text import say
from glassworks.evidence.measurements import Measurement
from glassworks.figures import Axes, Figure, Heading, Reference, Series, curves
from glassworks.instruments.base import (
    Instrument,
    Stack,
    gather,
    stacked_heading,
    stacked_name,
    stream_sites,
    text_of,
)

STANDS_OUT = 5.0
STEP = 1.5
# A layer counts where it acts in this share of the texts.
MOST = 0.5
SINK_TOKENS = "sink tokens"
SHOWN = 5
QUANTITIES = ("sink norm", "median norm of the others", "ratio", "share written", "share erased")

Norms = Float[np.ndarray, "state position"]
# One of several arrays whose numbers of positions differ.
Lengths = NDArray[np.float64]


@dataclass(frozen=True)
class Sinks:
    """Which positions of each sequence are sinks, and which layers write and erase them; all count from 0.

    `ratios` is the ratio of the strongest position of each sequence to the others' median, by sequence and
    state (the first is before layer 0), NaN for a sequence of one token.
    """

    writers: tuple[int, ...]
    erasers: tuple[int, ...]
    positions: tuple[tuple[int, ...], ...]
    ratios: Float[np.ndarray, "sequence state"]

    @property
    def protected(self) -> tuple[int, ...]:
        """The layers that a cut should keep: writers and erasers, in order."""
        return tuple(sorted({*self.writers, *self.erasers}))


def find_sinks(
    subject: Subject, prompt: Prompt, *, stack: Stack = "", stands_out: float = STANDS_OUT, step: float = STEP
) -> Sinks:
    """The sinks on a prompt; better on several texts, since one may have a sink that is its own."""
    rule = SinkNorms(stack=stack, stands_out=stands_out, step=step)
    lengths = rule.fold(subject)
    gather(lengths, rule.sites(subject.anatomy), subject, subject.batch(prompt))
    return lengths.sinks()


class SinkNorms(Instrument):
    """Length of the longest token's state beside the others', layer by layer; who writes and who erases it."""

    kind: Literal["sinks"] = "sinks"
    stack: Stack = ""
    """Which stack of an encoder-decoder: its decoder's, or "encoder"."""
    stands_out: float = Field(default=STANDS_OUT, gt=1)
    """A token stands out from this many times the others' median length."""
    step: float = Field(default=STEP, gt=1)
    """A layer writes or erases where the ratio changes by this factor."""

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """The stream before layer 0 and after each layer."""
        return stream_sites(anatomy, self.stack)

    def fold(self, subject: Subject) -> "_Lengths":
        """An empty gathering of lengths."""
        return _Lengths(self, subject)

    def draw(self, measurement: Measurement) -> Figure:
        """Both lengths over the layers, on a logarithmic axis; writers and erasers marked."""
        layers = measurement.along("state")
        heading = Heading(
            "sinks",
            say("Tokens far longer than the others, and the layers that make them so"),
            say(
                "Length of the state of each text's most prominent token beside the median of its other tokens: medians over the texts. Marked: the layers that lengthen or shorten it. {rule}",
                rule=measurement.says,
            ),
        )
        series = [
            Series(say("most prominent token"), layers, measurement.at(quantity="sink norm").values),
            Series(say("the other tokens"), layers, measurement.at(quantity="median norm of the others").values),
        ]
        marks = tuple(Reference(name, layer, "vertical") for layer, name in _marks(*acting_layers(measurement)))
        axes = Axes(say("after layer (−1: the embedding)"), say("length of the state"), y_scale="log", references=marks)
        return curves(stacked_heading(heading, self.stack), series, axes)


def acting_layers(measurement: Measurement) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The writers and the erasers in a measurement of `SinkNorms`."""
    found = [
        tuple(int(layer) for layer, share in zip(measurement.coords["state"], shares, strict=True) if share >= MOST)
        for shares in (measurement.at(quantity=name).values for name in ("share written", "share erased"))
    ]
    return found[0], found[1]


class _Lengths:
    """The lengths of all states of all sequences, and what they tell."""

    def __init__(self, rule: SinkNorms, subject: Subject) -> None:
        self._rule, self._subject = rule, subject
        self._norms: list[Lengths] = []
        self._ids: list[list[int]] = []

    def add(self, batch: TokenBatch, seen: Activations) -> None:
        """Takes in the length of every real token's state."""
        sites = self._rule.sites(self._subject.anatomy)
        lengths = torch.stack([seen[site.name].float().norm(dim=-1).cpu() for site in sites]).double().numpy()
        batch = text_of(batch, self._rule.stack)
        for row, real in enumerate(batch.real.cpu()):
            self._norms.append(lengths[:, row, real.numpy()])
            self._ids.append(batch.ids[row].cpu()[real].tolist())

    def sinks(self) -> Sinks:
        """What stands out, and who makes it so."""
        ratios = [ratios_to_others(norms) for norms in self._norms]
        written, erased = self._shares(ratios)
        return Sinks(
            writers=tuple(np.flatnonzero(written >= MOST).tolist()),
            erasers=tuple(np.flatnonzero(erased >= MOST).tolist()),
            positions=tuple(tuple(np.flatnonzero(self._stands_out(one).any(0)).tolist()) for one in ratios),
            ratios=np.stack([one[:, _strongest(one)] for one in ratios]),
        )

    def measurement(self) -> Measurement:
        """The lengths by state, the layer -1 standing for the embedding."""
        ratios = [ratios_to_others(norms) for norms in self._norms]
        places = [_strongest(one) for one in ratios]
        others = [
            np.median(np.delete(norms, place, 1), axis=1) if norms.shape[1] > 1 else np.full(len(norms), np.nan)
            for norms, place in zip(self._norms, places, strict=True)
        ]
        longest = [norms[:, place] for norms, place in zip(self._norms, places, strict=True)]
        # Before layer 0 no layer has acted.
        shares = [np.concatenate([[0.0], share]) for share in self._shares(ratios)]
        rows = [
            np.median(longest, 0),
            np.median(others, 0),
            np.median([a / b for a, b in zip(longest, others, strict=True)], 0),
        ]
        return Measurement(
            name=stacked_name("sinks", self._rule.stack),
            says=say(
                "A token stands out from {times} times the others' median on; a layer writes or erases it where that ratio changes by {step} times or more, in at least half of the texts (here {count}).",
                times=self._rule.stands_out, step=self._rule.step, count=len(ratios),
            ),
            values=np.stack([*rows, *shares]),
            dims=("quantity", "state"),
            coords={"quantity": QUANTITIES, "state": tuple(range(-1, len(rows[0]) - 1))},
            unit="length, ratio, share of texts",
            caveats=(say("A long state is where sinks show; whether heads attend to it, the first-token scores tell."),),
            columns={
                "state": "after this layer; -1 is the embedding",
                "quantity": "medians over the texts of their most prominent token; share of the texts in which the layer writes or erases a sink",
                SINK_TOKENS: self._tokens(ratios),
            },
        )  # fmt: skip

    def _tokens(self, ratios: Sequence[Lengths]) -> str:
        """The commonest sinks: position, share of the texts, and the token where there is one text only."""
        found = Counter(
            int(place) for one in ratios for place in np.flatnonzero(self._stands_out(one).any(0))
        ).most_common(SHOWN)
        if len(ratios) > 1:
            return ", ".join(f"{place} ({count}/{len(ratios)})" for place, count in found)
        return ", ".join(f"{place} {self._subject.labels([self._ids[0][place]])[0]}" for place, _ in found)

    def _stands_out(self, ratios: Norms) -> Bool[np.ndarray, "state position"]:
        return ratios >= self._rule.stands_out

    def _shares(self, ratios: Sequence[Lengths]) -> tuple[Float[np.ndarray, " layer"], Float[np.ndarray, " layer"]]:
        """The share of the sequences in which each layer writes, and in which it erases."""
        step = self._rule.step
        written = [((one[1:] >= step * one[:-1]) & self._stands_out(one[1:])).any(1) for one in ratios]
        erased = [((one[:-1] >= step * one[1:]) & self._stands_out(one[:-1])).any(1) for one in ratios]
        return np.mean(written, 0), np.mean(erased, 0)


def _strongest(ratios: Norms) -> int:
    """The position with the largest ratio at any state; the first where there is one position only."""
    return 0 if np.isnan(ratios).all() else int(np.nanmax(ratios, 0).argmax())


def ratios_to_others(norms: Norms) -> Norms:
    """Each position's length over the median of the other positions'; NaN where there is no other.

    A state is at the token of a sequence after a layer.
    """
    count = norms.shape[1]
    if count < 2:
        return np.full_like(norms, np.nan)
    order = np.sort(norms, 1)
    rank = norms.argsort(1).argsort(1)

    def other(place: int) -> Norms:
        # The place counts among the others: from a position's own rank on, they lie one further up.
        return np.take_along_axis(order, np.where(place < rank, place, place + 1), 1)

    median = (other((count - 2) // 2) + other((count - 1) // 2)) / 2
    return norms / np.maximum(median, np.finfo(np.float64).tiny)


def _marks(writers: Sequence[int], erasers: Sequence[int]) -> list[tuple[int, str]]:
    """Layers to be marked, with names; the first of a run of neighbours names them all, or names would overlap."""
    acting = sorted({*writers, *erasers})
    runs: list[list[int]] = []
    for layer in acting:
        if runs and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    names = {run[0]: f"L{run[0]}" if len(run) == 1 else f"L{run[0]}–{run[-1]}" for run in runs}
    return [(layer, names.get(layer, "")) for layer in acting]
