"""How early the answer is there: the ranks of the model's own and of the true token by depth, from the logit lens."""

from typing import Literal

import numpy as np
from pydantic import Field

from glassworks.anatomy.capture import Activations
from glassworks.anatomy.places import Anatomy
from glassworks.anatomy.sites import Site
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.text import say
from glassworks.evidence.measurements import Measurement
from glassworks.figures import Axes, Figure, Heading, Series, curves
from glassworks.instruments.base import Instrument
from glassworks.instruments.logit_lens import QUANTITIES, LogitLens

SPREAD = ("median", "first quartile", "third quartile")


class LensDepth(Instrument):
    """Ranks, entropy and divergence of the logit lens after each half layer: medians and quartiles over positions."""

    kind: Literal["lens_depth"] = "lens_depth"
    sequence: int = Field(default=0, ge=0)
    """Which sequence of the batch is read."""

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """Those of the logit lens."""
        return LogitLens().sites(anatomy)

    def read(self, subject: Subject, batch: TokenBatch, activations: Activations | None = None) -> Measurement:
        """Medians and quartiles by stage."""
        return by_depth(LogitLens(sequence=self.sequence, top=1).read(subject, batch, activations))

    def draw(self, measurement: Measurement) -> Figure:
        """Two curves on a logarithmic axis, with quartiles."""
        heading = Heading(
            "lens-depth",
            say("How early the answer is there"),
            say(
                "Rank of the token that the whole model puts first, and of the true one, read after each half layer: medians and quartiles over the positions. A low rank says that the stream already points there, not that later layers are idle."
            ),
        )
        depth = np.array([_depth(str(stage)) for stage in measurement.coords["stage"]])
        names = (("rank of final", say("the model's own token")), ("rank of true", say("the true token")))
        series: list[Series] = []
        for name, words in names:
            median, low, high = (measurement.at(quantity=name, spread=spread).values for spread in SPREAD)
            if not np.isnan(median).all():
                series.append(Series(words, depth, median, low, high))
        axes = Axes(say("after layer (−1: the embedding)"), say("rank (1 is the top)"), y_scale="log")
        return curves(heading, series, axes)


def by_depth(lens: Measurement) -> Measurement:
    """A measurement of the logit lens without its positions."""
    kept = [lens.coords["quantity"].index(name) for name in QUANTITIES]
    numbers = lens.values[:, :, kept]
    # Where the text does not tell the true token of any position, all are NaN, and so are the quartiles.
    is_known = np.logical_not(np.isnan(numbers).all(1))
    known = np.where(is_known[:, None], numbers, 0.0)
    spread = np.where(is_known, np.nanpercentile(known, [50, 25, 75], axis=1), np.nan)
    return Measurement(
        name="lens_depth",
        says=say("how early the stream points to the model's answer, read through final norm and head"),
        values=np.moveaxis(spread, 0, -1),
        dims=("stage", "quantity", "spread"),
        coords={"stage": lens.coords["stage"], "quantity": QUANTITIES, "spread": SPREAD},
        unit=lens.unit,
        caveats=lens.caveats,
        columns={"quantity": "entropy and KL(final || here) in nats; rank 1 is the top", "spread": "over positions"},
    )


def _depth(stage: str) -> float:
    """A stage on an axis of layers: -1 for the embedding, a half before the end of a layer for its attention."""
    if stage == "embed":
        return -1.0
    layer, _, half = stage.removeprefix("L").partition(" ")
    return float(layer) - (0.5 if half else 0.0)
