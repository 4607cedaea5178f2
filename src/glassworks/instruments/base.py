"""Instrument: a look into a model and its picture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from glassworks.anatomy.capture import Activations, capture
from glassworks.anatomy.kept import KeptActivations
from glassworks.anatomy.places import Anatomy, LayerPlaces
from glassworks.anatomy.sites import Site
from glassworks.anatomy.subject import Prompt, Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.spec import Spec
from glassworks.core.text import say
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import Interval, interval_over_seeds
from glassworks.figures.figure import Figure, Heading
from glassworks.figures.palette import Theme

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Reading:
    """What an instrument saw: the numbers and their picture; shows itself in a notebook."""

    measurement: Measurement
    figure: Figure

    @property
    def data(self) -> NDArray[np.float64]:
        """The bare array of the measurement."""
        return self.measurement.values

    def to_pandas(self) -> "pd.DataFrame":
        """The tidy table of the measurement."""
        return self.measurement.to_pandas()

    def plot(self) -> Figure:
        """The figure."""
        return self.figure

    def save(self, path: str | Path, theme: Theme = "light") -> Path:
        """Writes the figure (.svg, .png, .pdf, .html) or the table (.csv, .parquet), by the path's ending."""
        path = Path(path)
        if path.suffix.lower() in (".csv", ".parquet"):
            return self.measurement.save(path)
        return self.figure.save(path, theme)

    def _repr_html_(self) -> str:
        return self.figure._repr_html_()  # pyright: ignore[reportPrivateUsage] - the notebook protocol

    def __repr__(self) -> str:
        return f"Reading({self.measurement!r})"


@runtime_checkable
class Gatherer(Protocol):
    """What is gathered over many documents, piece by piece, so that memory stays bounded."""

    def add(self, batch: TokenBatch, seen: Activations) -> None:
        """Takes in one piece: some sequences and the tensors at the instrument's sites."""
        ...


@runtime_checkable
class Fold(Gatherer, Protocol):
    """A gathering of which an instrument makes its numbers."""

    def measurement(self) -> Measurement:
        """The numbers of all pieces together."""
        ...


class Instrument(Spec):
    """One look: which sites it needs, the numbers it reads from them, the figure it draws of the numbers.

    It defines `read`, or `fold` where it gathers over any number of documents.
    """

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """The sites to capture, so that several instruments can share one pass."""
        raise NotImplementedError

    def fold(self, subject: Subject) -> Fold | None:
        """An empty gathering; None where the instrument reads one batch as a whole."""
        return None

    def read(self, subject: Subject, batch: TokenBatch, activations: Activations | None = None) -> Measurement:
        """The numbers; without `activations` it runs the model over the batch once itself."""
        fold = self.fold(subject)
        assert fold is not None, f"{type(self).__name__} defines neither read nor fold"
        gather(fold, self.sites(subject.anatomy), subject, batch, activations)
        return fold.measurement()

    def read_kept(self, subject: Subject, kept: KeptActivations) -> Measurement:
        """The numbers from activations on the disk, some documents at a time; the model does not run.

        Raises InvalidInput for an instrument that reads one batch as a whole, and for a site that was not kept.
        """
        fold = self.fold(subject)
        if fold is None:
            raise InvalidInput(
                say("{instrument} reads one batch as a whole, not activations of many documents", instrument=self.kind),
                right=say("an instrument that gathers, such as linear_probe, similarity or tuned_lens"),
            )
        for seen in kept.pieces(subject, PIECE_TOKENS, tuple(site.name for site in self.sites(subject.anatomy))):
            fold.add(seen.batch, seen)
        return fold.measurement()

    def draw(self, measurement: Measurement) -> Figure:
        """The picture of a measurement that `read` made, also of a stored one; needs no model."""
        raise NotImplementedError

    def look(self, subject: Subject, prompt: Prompt) -> Reading:
        """Reads and draws in one go."""
        measurement = self.read(subject, subject.batch(prompt))
        return Reading(measurement, self.draw(measurement))

    def _captured(self, subject: Subject, batch: TokenBatch, activations: Activations | None) -> Activations:
        return capture(subject, batch, self.sites(subject.anatomy)) if activations is None else activations


# Tokens that are looked at together: every state of a 135M model for them takes 80 MB.
PIECE_TOKENS = 1024


def pieces(batch: TokenBatch, tokens: int) -> Iterator[TokenBatch]:
    """The sequences of a batch, some at a time, without the padding that none of them needs."""
    together = max(1, tokens // max(batch.ids.shape[1], batch.read_by_encoder.ids.shape[1]))
    count = len(batch.ids)
    if count <= together:
        yield batch
        return
    for first in range(0, count, together):
        yield _rows(batch, slice(first, first + together))


def _rows(batch: TokenBatch, part: slice) -> TokenBatch:
    """Some sequences with what the encoder reads of them, the columns left out that hold padding only."""
    real = batch.real[part].any(0).nonzero()[:, 0]
    kept = slice(int(real[0]), int(real[-1]) + 1)
    mask = batch.real[part, kept]
    labels = batch.labels[kept] if part.start == 0 else ()
    source = None if batch.source is None else _rows(batch.source, part)
    return TokenBatch(batch.ids[part, kept], None if mask.all() else mask, labels, source)


def gather(
    gatherer: Gatherer,
    sites: Sequence[Site],
    subject: Subject,
    batch: TokenBatch,
    activations: Activations | None = None,
) -> None:
    """Fills a gatherer from activations that are there, or from passes over the batch, piece by piece."""
    if activations is not None:
        gatherer.add(batch, activations)
        return
    for piece in pieces(batch, PIECE_TOKENS):
        gatherer.add(piece, capture(subject, piece, sites))


# The stack of layers that is looked at: the only one (or the decoder's), or the encoder's of an encoder-decoder.
Stack = Literal["", "encoder"]


def layers_of(anatomy: Anatomy, stack: Stack) -> tuple[LayerPlaces, ...]:
    """The layers of a stack; raises InvalidInput where the model has no encoder beside its decoder."""
    if not stack:
        return anatomy.layers
    if anatomy.encoder is None:
        raise InvalidInput(say("the model has one stack of layers, no encoder beside it"))
    return anatomy.encoder.layers


def text_of(batch: TokenBatch, stack: Stack) -> TokenBatch:
    """What the layers of a stack read."""
    return batch.read_by_encoder if stack else batch


def stacked_name(name: str, stack: str) -> str:
    """The name of a measurement of a stack, e.g. `encoder_sinks`."""
    return f"{stack}_{name}" if stack else name


def stacked_heading(heading: Heading, stack: str) -> Heading:
    """The words of a figure of a stack: an encoder's are told from its decoder's."""
    if not stack:
        return heading
    title = say("{title}, encoder", title=heading.title)
    return Heading(f"{stack}-{heading.name}", title, heading.caption)


def stream_sites(anatomy: Anatomy, stack: Stack = "") -> tuple[Site, ...]:
    """The residual stream at depth + 1 places: before layer 0, and after each layer."""
    depth = len(layers_of(anatomy, stack))
    return (Site("in", 0, stack=stack), *(Site("out", layer, stack=stack) for layer in range(depth)))


def interval_over_texts(texts: Sequence[NDArray[np.float64]]) -> Interval:
    """Mean and 95 % interval over the means of the texts; over the values of the only one. NaN is left out."""
    if len(texts) == 1:
        return interval_over_seeds(texts[0])
    means = [values[~np.isnan(values)].mean() for values in texts if not np.isnan(values).all()]
    return interval_over_seeds(np.asarray(means, dtype=np.float64))


def numbered(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Token labels made unique by their position: `3 the`."""
    return tuple(f"{position} {label}" for position, label in enumerate(labels))


def unnumbered(labels: tuple[object, ...]) -> tuple[str, ...]:
    """The token labels without their position."""
    return tuple(str(label).partition(" ")[2] for label in labels)
