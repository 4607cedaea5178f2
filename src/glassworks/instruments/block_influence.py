"""Block influence: how far each layer turns the stream, 1 - mean cosine of a token's state before and after it.

Men et al. 2024 (ShortGPT, arXiv 2403.03853, eq. 1): layers with little influence are cut first. The 95 % interval is a
t-interval over the texts' means; for a single text over its tokens, which are not independent (a caveat says so).
"""

from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cosine_similarity

from glassworks.anatomy.capture import Activations
from glassworks.anatomy.places import Anatomy
from glassworks.anatomy.sites import Site
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.text import say
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import Interval
from glassworks.figures import Axes, BarSeries, Figure, Heading, bars
from glassworks.instruments.base import (
    Instrument,
    Stack,
    interval_over_texts,
    stacked_heading,
    stacked_name,
    stream_sites,
    text_of,
)

QUANTITIES = ("value", "low", "high")


class BlockInfluence(Instrument):
    """One minus the mean cosine between a token's state before and after each layer."""

    kind: Literal["block_influence"] = "block_influence"
    stack: Stack = ""
    """Which stack of an encoder-decoder: its decoder's, or "encoder"."""

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """The stream before layer 0 and after each layer."""
        return stream_sites(anatomy, self.stack)

    def fold(self, subject: Subject) -> "_Turns":
        """An empty gathering of turns."""
        return _Turns(self.sites(subject.anatomy), self.stack)

    def draw(self, measurement: Measurement) -> Figure:
        """A bar for each layer, with its interval."""
        heading = Heading(
            "block-influence",
            say("How far each layer turns the stream"),
            say(
                "One minus the mean cosine of a token's state before and after the layer (ShortGPT); 0 leaves its direction. A small turn can still be needed: only a cut tells."
            ),
        )
        # Count 0: the spread is over texts or tokens, not over seeds.
        turns = tuple(Interval(float(mean), float(low), float(high), 0) for mean, low, high in measurement.values)
        names = [str(layer) for layer in measurement.coords["layer"]]
        return bars(
            stacked_heading(heading, self.stack),
            names,
            [BarSeries("", turns)],
            Axes(say("layer"), say("block influence")),
        )


class _Turns:
    """1 - cosine of every token and layer, text by text."""

    def __init__(self, sites: tuple[Site, ...], stack: Stack) -> None:
        self._sites = sites
        self._stack: Stack = stack
        self._turns: list[NDArray[np.float64]] = []

    def add(self, batch: TokenBatch, seen: Activations) -> None:
        """Takes in every real token of a piece."""
        states = [seen[site.name].double() for site in self._sites]
        turns = (
            torch.stack([1 - cosine_similarity(before, after, dim=-1) for before, after in pairwise(states)])
            .cpu()
            .numpy()
        )
        self._turns += [turns[:, row, real.numpy()] for row, real in enumerate(text_of(batch, self._stack).real.cpu())]

    def measurement(self) -> Measurement:
        """Mean and interval of every layer."""
        found = [interval_over_texts([text[layer] for text in self._turns]) for layer in range(len(self._sites) - 1)]
        alone = (say("One text: the interval is over its tokens, which are not independent."),)
        return Measurement(
            name=stacked_name("block_influence", self._stack),
            says=say("one minus the cosine between a token's state before and after each layer"),
            values=np.array([[one.mean, one.low, one.high] for one in found]),
            dims=("layer", "quantity"),
            coords={"layer": tuple(range(len(found))), "quantity": QUANTITIES},
            unit="1 - cosine",
            caveats=alone if len(self._turns) == 1 else (),
            columns={"quantity": "value and its 95 % interval over texts (over tokens where there is one text)"},
        )
