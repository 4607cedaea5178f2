"""Instrument: a look into a model and its picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glassworks.anatomy.capture import Activations, capture
from glassworks.anatomy.places import Anatomy
from glassworks.anatomy.sites import Site
from glassworks.anatomy.subject import Prompt, Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.spec import Spec
from glassworks.evidence.measurements import Measurement
from glassworks.figures.figure import Figure
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


class Instrument(Spec):
    """One look: which sites it needs, the numbers it reads from them, the figure it draws of the numbers."""

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """The sites to capture, so that several instruments can share one pass."""
        raise NotImplementedError

    def read(self, subject: Subject, batch: TokenBatch, activations: Activations | None = None) -> Measurement:
        """The numbers; without `activations` it runs the model once itself."""
        raise NotImplementedError

    def draw(self, measurement: Measurement) -> Figure:
        """The picture of a measurement that `read` made, also of a stored one; needs no model."""
        raise NotImplementedError

    def look(self, subject: Subject, prompt: Prompt) -> Reading:
        """Reads and draws in one go."""
        measurement = self.read(subject, subject.batch(prompt))
        return Reading(measurement, self.draw(measurement))

    def _captured(self, subject: Subject, batch: TokenBatch, activations: Activations | None) -> Activations:
        return capture(subject, batch, self.sites(subject.anatomy)) if activations is None else activations


def numbered(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Token labels made unique by their position: `3 the`."""
    return tuple(f"{position} {label}" for position, label in enumerate(labels))


def unnumbered(labels: tuple[object, ...]) -> tuple[str, ...]:
    """The token labels without their position."""
    return tuple(str(label).partition(" ")[2] for label in labels)
